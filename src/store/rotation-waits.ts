import type { Sql } from "./sql.ts";

const wokenAtOnce = 200;
const betweenMs = 1_000;

/** Has rotations that wait for a target tried again, so many a second. How many there were. */
export async function wakeWaiting(sql: Sql, target: string, nowMs: number): Promise<number> {
  let count = 0;
  let last = "";
  for (let runAt = nowMs; ; runAt += betweenMs) {
    const rows = await sql.query<{ id: string }>(
      `update rotations set run_at = $3, waits_for = null where id in (
         select id from rotations where waits_for = $1 and state = 'running' and id > $2 and claim_until is null
         order by id limit $4) returning id`,
      [target, last, runAt, wokenAtOnce],
    );
    count += rows.length;
    if (rows.length < wokenAtOnce) return count;
    last =
      rows
        .map(({ id }) => id)
        .sort()
        .at(-1) ?? last;
  }
}

/** Targets that rotations wait for. */
export async function countSilentTargets(sql: Sql): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    "select count(distinct waits_for) as count from rotations where state = 'running' and waits_for is not null",
  );
  return row?.count ?? 0;
}
