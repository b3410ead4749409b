import { ServiceError } from "../core/error.ts";
import type { Sql } from "./sql.ts";

/** A command line that wants to act for somebody, until somebody says yes and it has fetched its token. */
export interface CliLogin {
  /** Shown on both screens for people to compare; no secret. */
  readonly code: string;
  readonly state: "pending" | "approved" | "denied";
  /** Network that it came from. */
  readonly address: string;
  /** What it said of itself; not to be believed. */
  readonly about: { readonly hostname?: string; readonly os?: string; readonly arch?: string; readonly version?: string };
  /** Whoever said yes. */
  readonly principalArn: string | undefined;
  readonly createdAt: number;
  readonly expiresAt: number;
}

type LoginRow = Omit<CliLogin, "about" | "principalArn"> & { about: string; principalArn: string | null };

const maxOpen = 10_000;
const maxOpenPerAddress = 20;
/** Old ones are removed by the next ones, so many at once. */
const removedAtOnce = 100;
const columns = `code, state, address, about, principal_arn as "principalArn", created_at as "createdAt", expires_at as "expiresAt"`;
const toLogin = (row: LoginRow): CliLogin => ({
  ...row,
  about: JSON.parse(row.about) as CliLogin["about"],
  principalArn: row.principalArn ?? undefined,
});

/** @throws ServiceError ThrottlingException when too many are open, of the address or of all. */
export async function insertLogin(
  tx: Sql,
  login: Omit<CliLogin, "state" | "principalArn"> & { readonly pollingHash: string },
): Promise<void> {
  const { code, pollingHash, address, about, createdAt, expiresAt } = login;
  await tx.query(
    "delete from cli_logins where code in (select code from cli_logins where expires_at <= $1 order by expires_at limit $2)",
    [createdAt, removedAtOnce],
  );
  await tx.query(
    `insert into cli_logins (code, polling_hash, address, about, state, created_at, expires_at)
       values ($1, $2, $3, $4, 'pending', $5, $6)`,
    [code, pollingHash, address, JSON.stringify(about), createdAt, expiresAt],
  );
  const [row] = await tx.query<{ count: number }>("select count(*) as count from cli_logins where address = $1", [address]);
  const beyond = await tx.query("select code from cli_logins order by expires_at limit 1 offset $1", [maxOpen]);
  if (Number(row?.count) > maxOpenPerAddress || beyond.length > 0)
    throw new ServiceError("ThrottlingException", "Too many logins are waiting; try again in some minutes.");
}

/** Undefined when there is none, or its time is over. */
export async function findLogin(sql: Sql, code: string, nowMs: number): Promise<CliLogin | undefined> {
  const [row] = await sql.query<LoginRow>(`select ${columns} from cli_logins where code = $1 and expires_at > $2`, [code, nowMs]);
  return row && toLogin(row);
}

export async function findPolledLogin(sql: Sql, pollingHash: string, nowMs: number): Promise<CliLogin | undefined> {
  const [row] = await sql.query<LoginRow>(`select ${columns} from cli_logins where polling_hash = $1 and expires_at > $2`, [
    pollingHash,
    nowMs,
  ]);
  return row && toLogin(row);
}

/** Says yes or no, once. False when that was said already, or it is over. */
export async function decideLogin(
  tx: Sql,
  code: string,
  { state, principalArn, nowMs }: { state: "approved" | "denied"; principalArn: string; nowMs: number },
): Promise<boolean> {
  const rows = await tx.query(
    `update cli_logins set state = $2, principal_arn = $3 where code = $1 and state = 'pending' and expires_at > $4 returning code`,
    [code, state, principalArn, nowMs],
  );
  return rows.length > 0;
}

/** Takes a decided one away: its token is handed out once. Undefined when somebody else took it. */
export async function takeLogin(tx: Sql, pollingHash: string): Promise<CliLogin | undefined> {
  const [row] = await tx.query<LoginRow>(
    `delete from cli_logins where polling_hash = $1 and state <> 'pending' returning ${columns}`,
    [pollingHash],
  );
  return row && toLogin(row);
}
