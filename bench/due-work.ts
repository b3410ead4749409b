import type { Rotation } from "../src/core/rotation.ts";
import { nextDueAt, secretsDueForRotation } from "../src/store/due.ts";
import { claimLease, dueLeasesOf, dueTargets, firstLeaseDueAt, recordEnded, wantedLeases } from "../src/store/lease-claims.ts";
import { claimDue, recordRotation } from "../src/store/rotation-claims.ts";
import type { Sql } from "../src/store/sql.ts";
import { Void } from "./load.ts";

/** Work of one kind that is found when it is due. */
export interface DueWork {
  /** In the plural: `rotations`. */
  readonly name: string;
  readonly batch: number;
  /** Rows `from` to `to`, due at `runAt` and a millisecond later each. */
  insert(sql: Sql, rows: Rows): Promise<void>;
  /** Claims and ends a batch; how many there were. */
  claimBatch(sql: Sql): Promise<number>;
  readonly looks: readonly Look[];
}

/** Looking for what is due. */
interface Look {
  /** `looking when the next one is due` */
  readonly what: string;
  look(sql: Sql): Promise<unknown>;
}

interface Rows {
  readonly prefix: string;
  readonly from: number;
  readonly to: number;
  readonly runAt: number;
}

/** Far behind every moment that is asked for. */
export const notDueAt = 4_000_000_000_000;
/** The numbers from `$2` on, below `$3`. */
const numbers = "with recursive n (i) as (select cast($2 as bigint) union all select i + 1 from n where i + 1 < $3)";

const batch = 50;
const claimMs = 20_000;
const rowId = "cast($1 as text) || '-' || cast(i as text)";

/** Secrets with a schedule that is not due, each with one running rotation. */
export const rotations: DueWork = {
  name: "rotations",
  batch,
  looks: [
    { what: "looking when the next one is due", look: nextDueAt },
    { what: "looking for secrets whose schedule is due", look: (sql) => secretsDueForRotation(sql, Date.now(), 100) },
  ],
  async insert(sql, { prefix, from, to, runAt }) {
    await sql.transaction(async (tx) => {
      await tx.query(
        `insert into secrets (id, region, name, arn, created_at, last_changed_at, generation, row_version, rotation_due_at)
         ${numbers} select ${rowId}, 'eu-central-1', ${rowId}, ${rowId}, 1, 1, 1, 1, ${notDueAt} + i from n`,
        [prefix, from, to],
      );
      await tx.query(
        `insert into rotations (id, secret_id, version_id, generation, origin, test_only, function_arn, principal, step, state,
           attempt, step_attempt, run_at, window_ends_at, fence, started_at)
         ${numbers} select ${rowId}, ${rowId}, ${rowId}, 1, 'schedule', 0, '', '', 'createSecret', 'running', 0, 0, $4 + i, ${notDueAt}, 0, 1
         from n`,
        [prefix, from, to, runAt],
      );
    });
  },
  /** As the engine does: one durable transaction claims, another one records what became of each. */
  async claimBatch(sql) {
    const nowMs = Date.now();
    const claims = await sql.transaction((tx) => claimDue(tx, { node: "bench", nowMs, untilMs: nowMs + claimMs, limit: batch }));
    if (claims.length === 0) return 0;
    await sql.transaction(async (tx) => {
      for (const { rotation, fence } of claims) {
        const ended: Rotation = { ...rotation, step: "finishSecret", state: "succeeded", outcome: "ok", endedAt: nowMs };
        if (!(await recordRotation(tx, ended, fence))) throw new Void("a claim was lost");
      }
    });
    return claims.length;
  },
};

const targets = 20;

/** Live leases, all handed out, at a few targets. */
export const leases: DueWork = {
  name: "leases",
  batch,
  looks: [
    { what: "looking when the first one is due", look: firstLeaseDueAt },
    { what: "looking for those that somebody waits for", look: (sql) => wantedLeases(sql, Date.now(), 200) },
    { what: `looking when the first one at each of ${targets} targets is due`, look: dueTargets },
  ],
  async insert(sql, { prefix, from, to, runAt }) {
    await sql.query(
      `insert into leases (id, dynamic_secret_id, dynamic_secret, project, config, type, integration_id, integration_version, settings,
         name, target, principal, state, created_at, answered_at, expires_at, max_expires_at, shares, due_at, fence, attempt)
       ${numbers} select ${rowId}, 'd' || (i % 100), 'DB', 'shop', 'prd', 'postgres', 'i', 'i/1', '{"roles":["readers"]}',
         ${rowId}, 'postgres://database-' || (i % ${targets}) || '.example:5432', 'principal-' || (i % 1000), 'active', i, i,
         $4 + i, $4 + i, 1, $4 + i, 1, 0 from n`,
      [prefix, from, to, runAt],
    );
  },
  /** As the engine does: a durable transaction claims each, and another one records its end. */
  async claimBatch(sql) {
    const nowMs = Date.now();
    const look = { nowMs, limit: batch, begunOnly: false };
    const due: Awaited<ReturnType<typeof dueLeasesOf>> = [];
    for (const { target, dueAt } of await dueTargets(sql))
      if (dueAt <= nowMs && due.length < batch) due.push(...(await dueLeasesOf(sql, target, look)));
    await Promise.all(due.slice(0, batch).map((one) => endLease(sql, one.id, nowMs)));
    return Math.min(due.length, batch);
  },
};

async function endLease(sql: Sql, id: string, nowMs: number): Promise<void> {
  const claim = await sql.transaction((tx) => claimLease(tx, { id, node: "bench", nowMs, untilMs: nowMs + claimMs }));
  if (claim === undefined || claim === "full") throw new Void("a lease could not be claimed");
  if (!(await sql.transaction((tx) => recordEnded(tx, claim, { reason: "expired", nowMs })))) throw new Void("a claim was lost");
}
