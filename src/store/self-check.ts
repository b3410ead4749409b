import type { Sql } from "./sql.ts";

/** What is wrong with the database's own structures, in its words; undefined when nothing is. Reads the whole embedded store. */
export async function findDamage(sql: Sql): Promise<string | undefined> {
  if (sql.dialect === "postgres") return undefined; // its own affair, and not to be asked for by its users
  const [row] = await sql.query<{ integrity_check: string }>("pragma integrity_check(1)");
  return row?.integrity_check === "ok" ? undefined : (row?.integrity_check ?? "no answer");
}

/** The time, in epoch ms, that cannot be later than now: PostgreSQL's clock, or when the embedded store last changed. */
export async function storeTime(sql: Sql): Promise<number> {
  const texts = {
    postgres: "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as at",
    sqlite: "select max(at) as at from (select max(at) as at from events union all select max(at) from audit_anchors)",
  };
  const [row] = await sql.query<{ at: number | null }>(texts[sql.dialect]);
  return row?.at ?? 0;
}

/** AWSCURRENT of a secret that is rotated. */
export interface RotatedValue {
  readonly name: string;
  readonly arn: string;
  readonly versionId: string;
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
}

/** Sealed current values of secrets whose rotation is on, after `afterId`, a page at a time. */
export async function* rotatedValues(sql: Sql): AsyncGenerator<RotatedValue, void, undefined> {
  for (let afterId = ""; ; ) {
    const rows = await sql.query<RotatedValue & { id: string }>(
      `select s.id, s.name, s.arn, v.version_id as "versionId", v.sealed, v.wrapped_data_key as "wrappedDataKey"
         from secrets s join labels l on l.secret_id = s.id and l.label = 'AWSCURRENT'
         join versions v on v.secret_id = s.id and v.version_id = l.version_id
         where s.rotation_enabled = 1 and s.deleted_at is null and v.sealed is not null and s.id > $1 order by s.id limit 200`,
      [afterId],
    );
    yield* rows;
    const last = rows.at(-1);
    if (!last) return;
    afterId = last.id;
  }
}
