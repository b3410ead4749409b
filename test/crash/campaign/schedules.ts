// Kills the real program while short windows come and go: each of them has one rotation, or one record that it was missed.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { listRotations } from "../../../src/store/rotations.ts";
import type { Sql } from "../../../src/store/sql.ts";
import { openSqlite } from "../../../src/store/sqlite.ts";
import { nativeOk } from "../../support/aws.ts";
import { account, findByName, region } from "../../support/engine-world.ts";
import { seeded } from "../../support/random.ts";
import { type RekeyServer, startRekey } from "../../support/rekey-server.ts";
import { freePort } from "../../support/server-process.ts";
import type { CampaignOptions, Report } from "./campaign.ts";

export const schedulesName = "program, schedules";

/** Windows that follow one another at once; both divide a day. */
const intervalsMs = [2_000, 5_000];
/** A secret keeps at most 100 versions of one day. */
const killsOfSecret = 30;
const dayMs = 86_400_000;

export async function runSchedules(options: CampaignOptions): Promise<Report> {
  const { kills, seed, say } = options;
  const folder = mkdtempSync(join(tmpdir(), "rekey-schedules-"));
  const violations: string[] = [];
  let rotations = 0;
  try {
    for (let done = 0; done < kills; done += killsOfSecret) {
      const part = await runPart(folder, { ...options, kills: Math.min(killsOfSecret, kills - done), seed: seed + done });
      violations.push(...part.violations);
      rotations += part.rotations;
      say?.(`${schedulesName}: ${Math.min(done + killsOfSecret, kills)} of ${kills} kills`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
  return {
    scenario: schedulesName,
    kills,
    points: 0,
    moments: kills,
    whileHealing: 0,
    rotations,
    slowestHealMs: 0,
    violations,
  };
}

async function runPart(
  folder: string,
  { kills, seed, root }: CampaignOptions,
): Promise<{ rotations: number; violations: string[] }> {
  const random = seeded(`${seed} ${schedulesName}`);
  const place = ["--listen", `127.0.0.1:${await freePort()}`, "--account", account, "--region", region];
  const start = (): Promise<RekeyServer> =>
    startRekey({ dataFolder: folder, program: join(root, "src/cli.ts"), flags: [...place, "--extended-schedules"] });
  let server = await start();
  const names = await Promise.all(intervalsMs.map((everyMs) => newSecret(server, everyMs, seed)));
  for (let done = 0; done < kills; done += 1) {
    await sleep(4_000 * random());
    await server.stop("SIGKILL");
    await sleep(6_000 * random() ** 3);
    server = await start();
  }
  // One more window of each, so that the last ones that were missed are told of.
  await sleep(2 * Math.max(...intervalsMs));
  await server.stop();
  const sql = openSqlite(join(folder, "rekey.db"));
  try {
    const found = [];
    for (const [index, name] of names.entries()) found.push(await examine(sql, name, intervalsMs[index] ?? 0));
    return {
      rotations: found.reduce((sum, one) => sum + one.rotations, 0),
      violations: found.flatMap((one) => one.violations),
    };
  } finally {
    await sql.close();
  }
}

async function newSecret(server: RekeyServer, everyMs: number, seed: number): Promise<string> {
  const name = `every-${everyMs}-${seed}`;
  await nativeOk(server, "secrets/create", {
    name,
    clientRequestToken: crypto.randomUUID(),
    secretString: JSON.stringify({ type: "random", charset: "hex", value: "first" }),
  });
  await nativeOk(server, "secrets/rotate", {
    secretId: name,
    clientRequestToken: crypto.randomUUID(),
    rotationLambdaArn: `arn:aws:lambda:${region}:${account}:function:RekeyRandomRotation`,
    rotationRules: { scheduleExpression: `rate(${everyMs / 1_000} seconds)` },
  });
  return name;
}

/** I17: what became of each window between the first and the last that anything is known of. */
async function examine(sql: Sql, name: string, everyMs: number): Promise<{ rotations: number; violations: string[] }> {
  const secret = await findByName(sql, name);
  if (!secret) throw new Error(`no secret ${name}`);
  const windowOf = (at: number): number => Math.floor((at % dayMs) / everyMs);
  const rotations = await listRotations(sql, { secretArn: secret.arn, limit: 1_000 });
  const events = await sql.query<{ detail: string }>(
    "select detail from events where resource = $1 and type = 'rotation.missed' order by id",
    [secret.arn],
  );
  const seen = new Map<number, string[]>();
  const note = (window: number, what: string) => seen.set(window, [...(seen.get(window) ?? []), what]);
  for (const { origin, startedAt } of rotations) if (origin !== "request") note(windowOf(startedAt), "rotated");
  for (const { detail } of events) {
    const { windowEndsAt, windows } = JSON.parse(detail) as { windowEndsAt: number; windows: number };
    for (let index = 0; index < windows; index += 1) note(windowOf(windowEndsAt - 1) + index, "missed");
  }
  // A rotation that took longer than its window is not followed by another one in the window that it ended in.
  const late = new Set(rotations.map(({ endedAt }) => windowOf(endedAt ?? 0)));
  return { rotations: rotations.length, violations: judge(seen, late).map((what) => `I17: ${name}: ${what}`) };
}

/** Once each, from the first window that anything is known of to the last one. */
function judge(seen: ReadonlyMap<number, readonly string[]>, late: ReadonlySet<number>): string[] {
  const all = [...seen.keys()].sort((a, b) => a - b);
  const wrong: string[] = [];
  for (let window = all[0] ?? 0; window < (all.at(-1) ?? 0); window += 1) {
    const found = seen.get(window) ?? [];
    if (found.length > 1) wrong.push(`window ${window}: ${found.join(", ")}`);
    if (found.length === 0 && !late.has(window)) wrong.push(`window ${window}: neither rotated nor missed`);
  }
  return all.length < 3 ? [...wrong, `only ${all.length} windows were met`] : wrong;
}
