// Preloaded into the real program: at SIGUSR2 it reads from the file POINTS_FILE at how many points from then on it sends itself
// SIGKILL (0: never), or with `stop` behind the number SIGSTOP, having said on stderr how many it came by since the last time.
// POINTS_KILL_AT: from its start on.
import { readFileSync, writeSync } from "node:fs";
import { type KillPoints, killAtDatabase, killAtSockets, killPoints } from "./kill-points.ts";

/** What it reads of its environment. */
export interface PointsEnvironment {
  readonly POINTS_FILE: string;
  /** Default 0. */
  readonly POINTS_KILL_AT?: string;
}

let points: KillPoints = killPoints(Number(process.env.POINTS_KILL_AT ?? 0), undefined, 2);
const current = { point: (what: string) => points.point(what) };
killAtSockets(current);
killAtDatabase(current);
process.on("SIGUSR2", () => {
  writeSync(2, `points ${points.passed}\n`);
  const [at, how] = readFileSync(process.env.POINTS_FILE ?? "", "utf8").split(" ");
  points = killPoints(Number(at), undefined, 2, how === "stop" ? "SIGSTOP" : "SIGKILL");
});
