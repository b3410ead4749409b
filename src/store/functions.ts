import { ServiceError } from "../core/error.ts";
import type { FunctionRecord, FunctionSettings } from "../core/function.ts";
import type { Page } from "./identity.ts";
import type { Sql } from "./sql.ts";

const maxFunctions = 1000;
const keptLogs = 50;

/** A function's variables, sealed as one JSON object. */
export interface SealedEnvironment {
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

interface FunctionRow {
  arn: string;
  region: string;
  name: string;
  kind: string;
  settings: string;
  description: string | null;
  role_arn: string | null;
  policy: string | null;
  timeout_seconds: number;
  memory_mib: number;
  concurrency: number;
  environment_names: string;
  created_at: number;
  updated_at: number;
}

const columns = `arn, region, name, kind, settings, description, role_arn, policy, timeout_seconds, memory_mib, concurrency,
  environment_names, created_at, updated_at`;

export async function findFunction(sql: Sql, arn: string): Promise<FunctionRecord | undefined> {
  const [row] = await sql.query<FunctionRow>(`select ${columns} from functions where arn = $1`, [arn]);
  return row && toFunction(row);
}

/** For a transaction that has something call it: it is not deleted meanwhile. `undefined` when there is none. */
export async function holdFunction(tx: Sql, arn: string): Promise<FunctionRecord | undefined> {
  const lock = tx.dialect === "postgres" ? "for share" : "";
  const [row] = await tx.query<FunctionRow>(`select ${columns} from functions where arn = $1 ${lock}`, [arn]);
  return row && toFunction(row);
}

/** Those that call functions of AWS Lambda, by name. */
export async function lambdaFunctions(sql: Sql, region: string): Promise<(FunctionRecord & { readonly kind: "lambda" })[]> {
  const rows = await sql.query<FunctionRow>(
    `select ${columns} from functions where region = $1 and kind = 'lambda' order by name limit ${maxFunctions}`,
    [region],
  );
  return rows.map(toFunction).filter((record) => record.kind === "lambda");
}

/** In the order of names, `after` excluded. */
export async function listFunctions(sql: Sql, region: string, { after, limit }: Page): Promise<FunctionRecord[]> {
  const rows = await sql.query<FunctionRow>(
    `select ${columns} from functions where region = $1 and name > $2 order by name limit $3`,
    [region, after, limit],
  );
  return rows.map(toFunction);
}

/** @throws ServiceError ResourceExistsException, LimitExceededException */
export async function insertFunction(tx: Sql, added: FunctionRecord, environment?: SealedEnvironment): Promise<void> {
  const [row] = await tx.query<{ count: number }>("select count(*) as count from functions");
  if (Number(row?.count) >= maxFunctions)
    throw new ServiceError("LimitExceededException", `There can be at most ${maxFunctions} functions.`);
  const rows = await tx.query(
    `insert into functions (${columns}, sealed, wrapped_data_key, key_id, key_version)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
     on conflict do nothing returning arn`,
    [...valuesOf(added), added.createdAt, added.updatedAt, ...sealedValues(environment)],
  );
  if (rows.length === 0) throw new ServiceError("ResourceExistsException", `Function already exist: ${added.name}`);
}

/** `environment` absent: as it was. False when it is gone, or was changed since it was read: nothing is written then. */
export async function updateFunction(
  tx: Sql,
  changed: FunctionRecord,
  readUpdatedAt: number,
  environment?: SealedEnvironment,
): Promise<boolean> {
  const rows = await tx.query(
    `update functions set settings = $5, description = $6, role_arn = $7, policy = $8, timeout_seconds = $9, memory_mib = $10,
       concurrency = $11, environment_names = $12, updated_at = $13
     where arn = $1 and region = $2 and name = $3 and kind = $4 and updated_at = $14 returning arn`,
    [...valuesOf(changed), changed.updatedAt, readUpdatedAt],
  );
  if (rows.length > 0 && environment)
    await tx.query("update functions set sealed = $2, wrapped_data_key = $3, key_id = $4, key_version = $5 where arn = $1", [
      changed.arn,
      ...sealedValues(environment),
    ]);
  return rows.length > 0;
}

/** False when there was none. */
export async function deleteFunction(tx: Sql, arn: string): Promise<boolean> {
  return (await tx.query("delete from functions where arn = $1 returning arn", [arn])).length > 0;
}

/** `undefined` when it has no variables. */
export async function loadEnvironment(sql: Sql, arn: string): Promise<SealedEnvironment | undefined> {
  const [row] = await sql.query<{
    sealed: Uint8Array | null;
    wrapped_data_key: Uint8Array | null;
    key_id: string | null;
    key_version: number | null;
  }>("select sealed, wrapped_data_key, key_id, key_version from functions where arn = $1", [arn]);
  if (!row?.sealed || !row.wrapped_data_key) return undefined;
  const { sealed, wrapped_data_key: wrappedDataKey, key_id: keyId, key_version: keyVersion } = row;
  return { sealed, wrappedDataKey, keyId: keyId ?? "", keyVersion: keyVersion ?? 0 };
}

/** What a call wrote, with secret values cut out. */
export interface FunctionLog {
  readonly requestId: string;
  readonly at: number;
  readonly failed: boolean;
  readonly output: string;
}

/** Keeps what a call wrote, and of each function that of the last calls only. Nothing is kept of a function that is gone. */
export async function addFunctionLog(
  sql: Sql,
  functionArn: string,
  { requestId, at, failed, output }: FunctionLog,
): Promise<void> {
  await sql.transaction(async (tx) => {
    await tx.query(
      `insert into function_logs (function_arn, request_id, at, failed, output)
       select arn, cast($2 as text), cast($3 as bigint), cast($4 as integer), cast($5 as text) from functions where arn = $1`,
      [functionArn, requestId, at, Number(failed), output],
    );
    await tx.query(
      `delete from function_logs where function_arn = $1 and id <=
         (select id from function_logs where function_arn = $1 order by id desc limit 1 offset $2)`,
      [functionArn, keptLogs],
    );
  });
}

/** Newest first. */
export async function functionLogs(sql: Sql, functionArn: string, limit: number): Promise<FunctionLog[]> {
  const rows = await sql.query<{ request_id: string; at: number; failed: number; output: string }>(
    "select request_id, at, failed, output from function_logs where function_arn = $1 order by id desc limit $2",
    [functionArn, limit],
  );
  return rows.map((row) => ({ requestId: row.request_id, at: row.at, failed: row.failed === 1, output: row.output }));
}

function valuesOf(record: FunctionRecord): (string | number | null)[] {
  return [
    record.arn,
    record.region,
    record.name,
    record.kind,
    JSON.stringify(settingsOf(record)),
    record.description ?? null,
    record.roleArn ?? null,
    record.policy ?? null,
    record.timeoutSeconds,
    record.memoryMiB,
    record.concurrency,
    JSON.stringify(record.environmentNames),
  ];
}

function settingsOf(record: FunctionSettings): unknown {
  if (record.kind === "process") return record.process;
  return record.kind === "lambda" ? record.lambda : record.declaration;
}

function sealedValues(environment: SealedEnvironment | undefined): (Uint8Array | string | number | null)[] {
  if (!environment) return [null, null, null, null];
  return [environment.sealed, environment.wrappedDataKey, environment.keyId, environment.keyVersion];
}

function toFunction(row: FunctionRow): FunctionRecord {
  const settings: unknown = JSON.parse(row.settings);
  return {
    ...(kindSettings(row.kind, settings) as FunctionSettings),
    arn: row.arn,
    region: row.region,
    name: row.name,
    description: row.description ?? undefined,
    roleArn: row.role_arn ?? undefined,
    policy: row.policy ?? undefined,
    timeoutSeconds: row.timeout_seconds,
    memoryMiB: row.memory_mib,
    concurrency: row.concurrency,
    environmentNames: JSON.parse(row.environment_names) as string[],
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

function kindSettings(kind: string, settings: unknown): unknown {
  if (kind === "process") return { kind, process: settings };
  return kind === "lambda" ? { kind, lambda: settings } : { kind, declaration: settings };
}
