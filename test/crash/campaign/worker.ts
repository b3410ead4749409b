// A process that rotates secrets without end, and kills itself at the n-th call of its ports: store, encryption, target,
// sockets; n = 0: somebody else kills it. First it heals what it finds. What it says, a line each: `healed`, `begun`, `ended`.
// The job comes as JSON in CAMPAIGN_JOB, the root key in ROOT_KEY.
import { writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { destination, pino } from "pino";
import { startEngine } from "../../../src/engine/loop.ts";
import type { EngineParts, RotatorFunction } from "../../../src/engine/parts.ts";
import { openPostgres } from "../../../src/store/postgres.ts";
import { openSqlite } from "../../../src/store/sqlite.ts";
import type { AnyCredential } from "../../../src/targets/index.ts";
import type { Issuer, Rotator } from "../../../src/targets/target.ts";
import { findByName, openWorld } from "../../support/engine-world.ts";
import { killAtSockets, killPoints } from "../../support/kill-points.ts";

/** What a worker is told. */
export interface Job {
  /** Of the embedded store; else `databaseUrl`. */
  readonly folder: string;
  /** Of a PostgreSQL that several workers share. */
  readonly databaseUrl?: string;
  readonly settings?: Partial<EngineParts["settings"]>;
  readonly killAt: number;
  /** Points of the healing count too. */
  readonly whileHealing: boolean;
  readonly functionName: string;
  /** Where no built-in one will do: what the function is. */
  readonly declared?: RotatorFunction;
  readonly secrets: readonly string[];
  /** Rotations begun together, one after another of the secrets. */
  readonly atOnce: number;
  /** So often; then it ends by itself and says `points n`. */
  readonly rounds: number;
}

const job = JSON.parse(process.env.CAMPAIGN_JOB ?? "") as Job;
let healed = false;

const rotatorCalls: readonly (keyof Rotator<AnyCredential>)[] = ["create", "set", "test", "probe", "retire"];
const issuerCalls: readonly (keyof Issuer<AnyCredential>)[] = ["list", "issue", "delete"];

const points = killPoints(job.killAt, () => healed || job.whileHealing);
killAtSockets(points);
const sql = job.databaseUrl === undefined ? openSqlite(join(job.folder, "rekey.db")) : openPostgres(job.databaseUrl);
const world = await openWorld(sql, { rootKey: process.env.ROOT_KEY ?? "", ...(job.settings && { settings: job.settings }) });
const parts: EngineParts = {
  ...world.parts,
  sql: points.countingSql(sql),
  log: pino({ level: "info" }, destination({ fd: 2, sync: true })),
  envelope: points.counting("envelope", world.parts.envelope, ["seal", "open"]),
  findFunction: async (arn) => job.declared ?? world.parts.findFunction(arn),
  async findRotator(kind, declaration) {
    const rotator = await world.parts.findRotator(kind, declaration);
    if (!rotator) return undefined;
    const issuer = rotator.issuer && points.counting("issuer", rotator.issuer, issuerCalls);
    return points.counting("rotator", { ...rotator, ...(issuer && { issuer }) }, rotatorCalls);
  },
};
const say = (text: string) => writeSync(1, `${text}\n`);

const busy = async (): Promise<boolean> => {
  const [row] = await sql.query<{ at: number | null }>(
    `select min(at) as at from (select started_at as at from rotations where state = 'running'
       union all select due_at from retirements where state in ('waiting', 'running') and due_at <= $1) as open`,
    [Date.now()],
  );
  return typeof row?.at === "number";
};
const allEnded = async (): Promise<void> => {
  while (await busy()) await sleep(2);
};

const engine = startEngine(parts);
await allEnded();
healed = true;
say("healed");
for (let round = 0, next = 0; round < job.rounds; round += 1) {
  for (let begun = 0; begun < job.atOnce; begun += 1, next += 1) {
    const name = job.secrets[next % job.secrets.length] ?? "";
    const secret = await findByName(sql, name);
    if (!secret) throw new Error(`no secret ${name}`);
    await world.begin(secret, { functionName: job.functionName });
  }
  engine.wake();
  if (round === 0) say("begun");
  await allEnded();
  say("ended");
}
await engine.stop();
await sql.close();
say(`points ${points.passed}`);
