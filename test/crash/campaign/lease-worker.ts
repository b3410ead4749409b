// A process that issues, renews and revokes leases, and lets some end by their time, without end; it kills itself at the n-th
// call of its ports: store, encryption, target, sockets; n = 0: somebody else kills it. First it heals what it finds, says
// `healed`, and waits for a line. What it says else: `clock MS` (what its clock adds), `issued USER ENDS`, `renewed USER ENDS`,
// `revoking USER`, `revoked USER`, `ended USER MS` (after its time), `most N` (calls at the target at once), `points N`.
// The job comes as JSON in CAMPAIGN_JOB, the root key in ROOT_KEY.
import { once } from "node:events";
import { writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { destination, pino } from "pino";
import { ServiceError } from "../../../src/core/error.ts";
import { openRootKey } from "../../../src/crypto/key-provider.ts";
import type { EngineParts } from "../../../src/engine/parts.ts";
import { openPostgres } from "../../../src/store/postgres.ts";
import { openSqlite } from "../../../src/store/sqlite.ts";
import type { LeaseTarget } from "../../../src/targets/lease-target.ts";
import { killAtSockets, killPoints } from "../../support/kill-points.ts";
import { leaseWorld } from "../../support/lease-world.ts";

/** What a worker is told. */
export interface LeaseJob {
  readonly folder: string;
  /** Of a PostgreSQL that several workers share; else the store is in the folder. */
  readonly databaseUrl?: string;
  readonly settings?: Partial<EngineParts["settings"]>;
  readonly killAt: number;
  /** Points of the healing count too. */
  readonly whileHealing: boolean;
  readonly rounds: number;
  /** What its clock adds to the time. */
  readonly clockMs: number;
}

const job = JSON.parse(process.env.CAMPAIGN_JOB ?? "") as LeaseJob;
let healed = false;
const mostTries = 50;
const say = (text: string) => writeSync(1, `${text}\n`);
const points = killPoints(job.killAt, () => healed || job.whileHealing);
killAtSockets(points);

let inside = 0;
let most = 0;
/** How many work at the target at once. */
function watched(target: LeaseTarget): LeaseTarget {
  const watch =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      inside += 1;
      most = Math.max(most, inside);
      try {
        return await call(...args);
      } finally {
        inside -= 1;
      }
    };
  const { create, renew, revoke } = target;
  const counted = { ...target, create: watch(create), revoke: watch(revoke), ...(renew && { renew: watch(renew) }) };
  return points.counting("target", counted, ["create", "renew", "revoke"]);
}

const rootKey = await openRootKey("env:ROOT_KEY", { env: process.env });
const store = job.databaseUrl === undefined ? openSqlite(join(job.folder, "rekey.db")) : openPostgres(job.databaseUrl);
const sql = points.countingSql(store, (text) => text.includes("leases"));
const world = await leaseWorld(sql, job.folder, { rootKey, wrap: watched, ...(job.settings && { settings: job.settings }) });
const setClock = (ms: number): void => {
  say(`clock ${ms}`);
  world.clock.offsetMs = ms;
};
setClock(job.clockMs);
const engine = world.engine({
  log: pino({ level: "info" }, destination({ fd: 2, sync: true })),
  envelope: points.counting("envelope", world.parts.envelope, ["seal", "open"]),
});

const busy = async (): Promise<boolean> => {
  const rows = await sql.query(
    `select 1 from leases where state in ('creating', 'revoking') or (state = 'active' and (renew_to is not null or expires_at <= $1))`,
    [world.clock.now],
  );
  return rows.length > 0;
};
while (await busy()) await sleep(5);
say("healed");
await once(process.stdin, "data");
healed = true;

for (let round = 0; round < job.rounds; round += 1) {
  const [kept, ended, timed] = await Promise.all([issue(600), issue(600), issue(60)]);
  await Promise.all([renew(kept.Id, 1_200), revoke(ended)]);
  // The third one's time is over.
  setClock(timed.ExpiresAt.getTime() - Date.now());
  engine.wake();
  const startedAt = performance.now();
  while ((await sql.query("select 1 from leases where id = $1 and state <> 'ended'", [timed.Id])).length > 0) await sleep(2);
  say(`ended ${timed.User} ${Math.round(performance.now() - startedAt)}`);
  say(`most ${most}`);
}
healed = false;
await engine.stop();
await world[Symbol.asyncDispose]();
await sql.close();
say(`points ${points.passed}`);
process.exit(0); // stdin stays open

type Lease = Awaited<ReturnType<typeof world.issue>>["Lease"];

/** As callers do: a target may be slower than a call may take. */
async function persistently<T>(call: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof ServiceError) || tries >= mostTries) throw error;
      await sleep(100);
    }
  }
}

async function issue(TtlSeconds: number): Promise<Lease> {
  const { Lease } = await persistently(() => world.issue({ TtlSeconds }));
  say(`issued ${Lease.User} ${Lease.ExpiresAt.getTime()}`);
  return Lease;
}

async function renew(LeaseId: string, TtlSeconds: number): Promise<void> {
  const { Lease } = (await persistently(() => world.call("RenewLease", { LeaseId, TtlSeconds }))) as { Lease: Lease };
  say(`renewed ${Lease.User} ${Lease.ExpiresAt.getTime()}`);
}

async function revoke({ Id, User }: Lease): Promise<void> {
  say(`revoking ${User}`);
  await persistently(() => world.call("RevokeLease", { LeaseId: Id }));
  say(`revoked ${User}`);
}
