import type { Strategy } from "../core/rotation.ts";
import type { SealedValue, ValueKind } from "../core/secret.ts";
import type { Sql } from "./sql.ts";

/** A version that may be in force at the target, as one moment of the store has it. */
export interface CandidateRow {
  readonly versionId: string;
  readonly label: string;
  readonly createdAt: number;
  readonly value: SealedValue;
  /** Deadline of its retirement; absent: none waits or runs. */
  readonly retiresAt?: number | undefined;
  /** Its credential was ended at the target. */
  readonly isRetired: boolean;
}

/** What one statement reads of a secret, so that no rotation comes between two parts of it. */
export interface CandidateRows {
  readonly generation: number;
  readonly switchedTo?: string | undefined;
  /** The version of a running rotation whose setSecret is done. */
  readonly setTo?: string | undefined;
  /** How the last rotation was done; absent: there was none. */
  readonly strategy?: Strategy | undefined;
  readonly rows: readonly CandidateRow[];
}

interface Row {
  generation: number;
  switched_to: string | null;
  set_to: string | null;
  strategy: Strategy | null;
  label: string;
  version_id: string;
  created_at: number;
  kind: ValueKind;
  sealed: Uint8Array;
  wrapped_data_key: Uint8Array;
  key_id: string;
  key_version: number;
  digest: Uint8Array;
  retires_at: number | null;
  retired: number;
}

/** The versions under these labels that have a value; `undefined` when the secret has none of them. */
export async function readCandidates(
  sql: Sql,
  secretId: string,
  labels: readonly [string, string, string],
): Promise<CandidateRows | undefined> {
  const rows = await sql.query<Row>(
    `select s.generation, s.switched_to, l.label, v.version_id, v.created_at, v.kind, v.sealed, v.wrapped_data_key, v.key_id,
       v.key_version, v.digest,
       (select r.version_id from rotations r where r.secret_id = s.id and r.state = 'running' and r.test_only = 0
          and r.step in ('testSecret', 'finishSecret')) as set_to,
       (select r.strategy from rotations r where r.secret_id = s.id and r.state = 'succeeded' and r.test_only = 0
          order by r.started_at desc limit 1) as strategy,
       (select min(t.due_at) from retirements t where t.secret_id = s.id and t.version_id = v.version_id
          and t.what = 'credential' and t.ended_at is null) as retires_at,
       (select count(*) from retirements t where t.secret_id = s.id and t.version_id = v.version_id
          and t.what = 'credential' and t.state = 'done') as retired
     from secrets s join labels l on l.secret_id = s.id
       join versions v on v.secret_id = s.id and v.version_id = l.version_id
     where s.id = $1 and l.label in ($2, $3, $4) and v.kind is not null`,
    [secretId, ...labels],
  );
  const [first] = rows;
  if (!first) return undefined;
  return {
    generation: first.generation,
    switchedTo: first.switched_to ?? undefined,
    setTo: first.set_to ?? undefined,
    strategy: first.strategy ?? undefined,
    rows: rows.map(toCandidate),
  };
}

function toCandidate(row: Row): CandidateRow {
  const { kind, sealed, digest } = row;
  return {
    versionId: row.version_id,
    label: row.label,
    createdAt: row.created_at,
    value: { kind, sealed, digest, wrappedDataKey: row.wrapped_data_key, keyId: row.key_id, keyVersion: row.key_version },
    retiresAt: row.retires_at ?? undefined,
    isRetired: row.retired > 0,
  };
}
