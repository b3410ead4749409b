import type { Sql } from "./sql.ts";

/** What changed, for subscribers. `detail` holds names and ids, never values. */
export interface NewEvent {
  readonly at: number;
  /** `secret.created`, `secret.changed`, `rotation.succeeded`, … */
  readonly type: string;
  /** ARN of what changed. */
  readonly resource: string;
  /** Of a secret: rises with every move of AWSCURRENT. */
  readonly generation?: number;
  readonly detail: Readonly<Record<string, string | number | boolean | null>>;
}

/** Writes an event in the transaction of the change that it tells of. */
export async function addEvent(tx: Sql, { at, type, resource, generation, detail }: NewEvent): Promise<void> {
  await tx.query("insert into events (at, type, resource, generation, detail) values ($1, $2, $3, $4, $5)", [
    at,
    type,
    resource,
    generation ?? null,
    JSON.stringify(detail),
  ]);
}
