// The real program as a process that dies at a point that is chosen while it runs.
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import type { PointsEnvironment } from "../../support/points-preload.ts";

export const network = "plant";

/** Of a process: SIGKILL, or SIGSTOP, which it comes back from. */
export interface PlannedDeath {
  /** Resolves with the place when it is dead, and not before. */
  readonly dead: Promise<string>;
  /** Kills it now, if it lives. */
  now(): Promise<string>;
}

interface Living {
  readonly pid: number;
  log(): string;
}

export interface Points {
  /** For its start. */
  readonly env: PointsEnvironment & NodeJS.ProcessEnv;
  /** At a point of its work from now on, or at a moment. `gone`: sees to its end and gives the place; `stops`: it is stopped. */
  plan(process: Living, random: () => number, how: { gone(): Promise<string>; readonly stops?: boolean }): PlannedDeath;
  /** Lets one that was stopped go on, and not stop again. */
  resume(process: Living): Promise<void>;
  /** Where it died. */
  placeIn(log: string): string;
  /** Where it was stopped the last time. */
  stopIn(log: string): string;
}

/** As far as the work of one round goes, about; each round shows how far. */
const firstGuess = 80;
const mostMomentMs = 1_500;

export function pointsOf(root: string, folder: string): Points {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = `${folder}.points`;
  const preload = pathToFileURL(join(root, "test/support/points-preload.ts")).href;
  return {
    env: {
      NODE_COMPILE_CACHE: join(tmpdir(), "rekey-compiled"),
      NODE_OPTIONS: `--disable-warning=ExperimentalWarning --import=${preload}`,
      POINTS_FILE: file,
    },
    plan({ pid, log }, random, { gone, stops = false }) {
      const passed = [...log().matchAll(/^points (\d+)$/gm)].map(([, count]) => Number(count));
      const longest = Math.max(20, ...(passed.length > 1 ? passed.slice(-3) : [firstGuess]));
      const atMoment = random() < 0.3;
      const momentMs = mostMomentMs * random();
      const point = atMoment ? 0 : 1 + Math.floor(random() * Math.min(longest, 400) * 1.1);
      writeFileSync(file, stops ? `${point} stop` : String(point));
      const before = stopsIn(log()).length;
      process.kill(pid, "SIGUSR2");
      let died: Promise<string> | undefined;
      const now = () => (died ??= gone());
      const watch = async (): Promise<string> => {
        if (atMoment) await sleep(momentMs);
        else while (isAlive(pid) && stopsIn(log()).length === before) await sleep(5);
        return now();
      };
      return { dead: watch(), now };
    },
    async resume({ pid, log }) {
      writeFileSync(file, "0");
      const heard = () => [...log().matchAll(/^points \d+$/gm)].length;
      const before = heard();
      tell(pid, "SIGUSR2");
      // It may come by the point that was planned before it hears of that.
      while (isAlive(pid) && heard() === before) {
        tell(pid, "SIGCONT");
        await sleep(20);
      }
    },
    placeIn: (log) => /^killed (.*)$/m.exec(log)?.[1] ?? atMoment,
    stopIn: (log) => stopsIn(log).at(-1) ?? atMoment,
  };
}

const atMoment = "at a moment";
const stopsIn = (log: string): string[] => [...log.matchAll(/^stopped (.*)$/gm)].map(([, place]) => place ?? "");

function tell(pid: number, signal: NodeJS.Signals): void {
  if (isAlive(pid)) process.kill(pid, signal);
}

/** A process that died and that nobody has waited for yet is none. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
