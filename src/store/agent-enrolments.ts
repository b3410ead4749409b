import { ServiceError } from "../core/error.ts";
import { raiseIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";

/** The right to enrol one agent in a network. */
export interface AgentEnrolment {
  readonly id: string;
  readonly network: string;
  readonly createdBy: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly usedAt: number | undefined;
}

const maxOpen = 1_000;
const columns = `id, network, created_by as "createdBy", created_at as "createdAt", expires_at as "expiresAt", used_at as "usedAt"`;

/** With its token, under the enrolment's id. @throws ServiceError LimitExceededException */
export async function insertEnrolment(
  tx: Sql,
  {
    id,
    network,
    createdBy,
    createdAt,
    expiresAt,
    arn,
    tokenHash,
  }: Omit<AgentEnrolment, "usedAt"> & { arn: string; tokenHash: string },
): Promise<void> {
  await raiseIdentityVersion(tx); // lets such transactions pass one at a time
  const beyond = await tx.query("select id from agent_enrolments where expires_at > $1 order by expires_at limit 1 offset $2", [
    createdAt,
    maxOpen,
  ]);
  if (beyond.length > 0)
    throw new ServiceError("LimitExceededException", `At most ${maxOpen} enrolments can be open; wait until some have expired.`);
  await tx.query("insert into agent_enrolments (id, network, created_by, created_at, expires_at) values ($1, $2, $3, $4, $5)", [
    id,
    network,
    createdBy,
    createdAt,
    expiresAt,
  ]);
  await tx.query(
    `insert into tokens (hash, id, principal_arn, kind, name, state, created_at, expires_at)
     values ($1, $2, $3, 'agent_enrolment', $4, 'Active', $5, $6)`,
    [tokenHash, id, arn, network, createdAt, expiresAt],
  );
}

export async function findEnrolment(sql: Sql, id: string): Promise<AgentEnrolment | undefined> {
  const [row] = await sql.query<Omit<AgentEnrolment, "usedAt"> & { usedAt: number | null }>(
    `select ${columns} from agent_enrolments where id = $1`,
    [id],
  );
  return row && { ...row, usedAt: row.usedAt ?? undefined };
}

/** Uses it. False when it was used before. */
export async function useEnrolment(tx: Sql, id: string, nowMs: number): Promise<boolean> {
  const rows = await tx.query("update agent_enrolments set used_at = $2 where id = $1 and used_at is null returning id", [
    id,
    nowMs,
  ]);
  return rows.length > 0;
}

/** Nobody is enrolled by these any more. */
export async function deleteEnrolmentsOf(tx: Sql, network: string): Promise<void> {
  const gone = await tx.query<{ id: string }>("delete from agent_enrolments where network = $1 returning id", [network]);
  if (gone.length === 0) return;
  await raiseIdentityVersion(tx);
  for (const { id } of gone) await tx.query("delete from tokens where id = $1 and kind = 'agent_enrolment'", [id]);
}

/** Removes those that expired by then, with their tokens, at most `limit`. How many. */
export async function purgeEnrolments(sql: Sql, beforeMs: number, limit: number): Promise<number> {
  const text = "select id from agent_enrolments where expires_at <= $1 order by expires_at limit $2";
  const old = await sql.query<{ id: string }>(text, [beforeMs, limit]);
  if (old.length === 0) return 0;
  await sql.transaction(async (tx) => {
    for (const { id } of old) {
      await tx.query("delete from tokens where id = $1 and kind = 'agent_enrolment'", [id]);
      await tx.query("delete from agent_enrolments where id = $1", [id]);
    }
  });
  return old.length;
}
