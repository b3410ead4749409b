import type { Sql } from "./sql.ts";

/** What people call this deployment. */
export interface Workplace {
  /** Never changes: the account. */
  readonly id: string;
  readonly name: string;
  readonly billingEmail: string;
}

const keys = { name: "workplace_name", billingEmail: "workplace_billing_email" } as const;

/** With a name of its own until somebody gives another. */
export async function readWorkplace(sql: Sql): Promise<Workplace> {
  const rows = await sql.query<{ key: string; value: string }>("select key, value from meta where key in ('account', $1, $2)", [
    keys.name,
    keys.billingEmail,
  ]);
  const stored = (key: string) => rows.find((row) => row.key === key)?.value;
  return { id: stored("account") ?? "", name: stored(keys.name) ?? "Rekey", billingEmail: stored(keys.billingEmail) ?? "" };
}

/** Members that are absent stay. */
export async function writeWorkplace(
  tx: Sql,
  changes: { readonly name?: string | undefined; readonly billingEmail?: string | undefined },
): Promise<Workplace> {
  for (const member of ["name", "billingEmail"] as const) {
    const value = changes[member];
    if (value === undefined) continue;
    await tx.query("insert into meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value", [
      keys[member],
      value,
    ]);
  }
  return readWorkplace(tx);
}
