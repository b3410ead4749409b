import type { Sql } from "./sql.ts";

/**
 * What is known of the code that a far function at AWS runs. `updating`: newer code is being put in place, and `former` is what
 * goes back when it does not work; `failed`: it did not, and the former code runs; `unreachable`: it could not be looked at.
 */
type CodeState = "unknown" | "current" | "available" | "updating" | "failed" | "unreachable";

export interface FunctionCode {
  readonly functionArn: string;
  readonly state: CodeState;
  /** What AWS calls CodeSha256: base64. */
  readonly runs?: string | undefined;
  readonly wanted?: string | undefined;
  /** For people: why, and what to do. */
  readonly message?: string | undefined;
  /** Epoch ms. */
  readonly lookedAt?: number | undefined;
}

/** One that a process looks at now; what it saves counts as long as nobody else took it up. */
export interface CodeClaim extends FunctionCode {
  /** Epoch ms; until then it is this process's. */
  readonly until: number;
  readonly former?: Uint8Array | undefined;
}

/** As long as a claim lasts that nobody keeps any longer. */
export const codeClaimMs = 30_000;

interface CodeRow {
  function_arn: string;
  state: CodeState;
  runs: string | null;
  wanted: string | null;
  message: string | null;
  looked_at: number | null;
  look_at: number;
  former: Uint8Array | null;
}

const shown = "function_arn, state, runs, wanted, message, looked_at";

/** It is to be looked at now. */
export async function noteFarFunction(tx: Sql, functionArn: string, nowMs: number): Promise<void> {
  await tx.query(
    `insert into function_code (function_arn, state, look_at) values ($1, 'unknown', $2)
     on conflict (function_arn) do update set look_at = case when function_code.state = 'updating' then function_code.look_at else $2 end,
       state = case when function_code.state = 'failed' then 'unknown' else function_code.state end`,
    [functionArn, nowMs],
  );
}

/** It is none any more. */
export async function forgetFarFunction(tx: Sql, functionArn: string): Promise<void> {
  await tx.query("delete from function_code where function_arn = $1", [functionArn]);
}

export async function codeOfFunctions(sql: Sql, functionArns: readonly string[]): Promise<Map<string, FunctionCode>> {
  if (functionArns.length === 0) return new Map();
  const places = functionArns.map((_arn, index) => `$${index + 1}`).join(", ");
  const rows = await sql.query<CodeRow>(`select ${shown} from function_code where function_arn in (${places})`, functionArns);
  return new Map(rows.map((row) => [row.function_arn, toCode(row)]));
}

/** Takes the one that is due longest, until `untilMs`; `undefined`: none is due. */
export async function claimDueCode(tx: Sql, nowMs: number, untilMs: number): Promise<CodeClaim | undefined> {
  const lock = tx.dialect === "postgres" ? "for update skip locked" : "";
  const [row] = await tx.query<CodeRow>(
    `update function_code set look_at = $2 where function_arn = (
       select function_arn from function_code where look_at <= $1 order by look_at limit 1 ${lock})
     returning ${shown}, look_at, former`,
    [nowMs, untilMs],
  );
  return row && { ...toCode(row), until: row.look_at, former: row.former ?? undefined };
}

/** The same claim until `untilMs`, epoch ms; `undefined`: somebody else has taken it up. */
export async function keepCodeClaim(tx: Sql, claim: CodeClaim, untilMs: number): Promise<CodeClaim | undefined> {
  const rows = await tx.query(
    "update function_code set look_at = $3 where function_arn = $1 and look_at = $2 returning function_arn",
    [claim.functionArn, claim.until, untilMs],
  );
  return rows.length > 0 ? { ...claim, until: untilMs } : undefined;
}

/** Claims of a process that is gone end now: for a store that no other one works with. What is due that soon comes a little early. */
export async function releaseCodeClaims(tx: Sql, nowMs: number): Promise<void> {
  await tx.query("update function_code set look_at = $1 where look_at > $1 and look_at <= $2", [nowMs, nowMs + codeClaimMs]);
}

/**
 * What was found or done; false when somebody else has taken it up since. `former` is what goes back if need be; absent: it is
 * forgotten. `againAt`: when it is looked at next, epoch ms; absent: the claim goes on.
 */
export async function saveCode(
  tx: Sql,
  { functionArn, until }: CodeClaim,
  found: Omit<FunctionCode, "functionArn"> & { readonly former?: Uint8Array | undefined },
  againAt?: number,
): Promise<boolean> {
  const rows = await tx.query(
    `update function_code set state = $3, runs = $4, wanted = $5, message = $6, looked_at = $7, former = $8, look_at = $9
     where function_arn = $1 and look_at = $2 returning function_arn`,
    [
      functionArn,
      until,
      found.state,
      found.runs ?? null,
      found.wanted ?? null,
      found.message ?? null,
      found.lookedAt ?? null,
      found.former ?? null,
      againAt ?? until,
    ],
  );
  return rows.length > 0;
}

function toCode(row: CodeRow): FunctionCode {
  return {
    functionArn: row.function_arn,
    state: row.state,
    runs: row.runs ?? undefined,
    wanted: row.wanted ?? undefined,
    message: row.message ?? undefined,
    lookedAt: row.looked_at ?? undefined,
  };
}
