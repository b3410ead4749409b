import type {
  KeyAliasRow,
  NewRingKey,
  RingKeyChange,
  RingKeyRow,
  RingKeySnapshot,
  RingKeyVersionRow,
  RootReplacement,
} from "../core/ring-key.ts";
import type { Row, Sql, SqlValue } from "./sql.ts";

const pageRows = 500;
const rootSecretKey = "root_secret";
const revisionKey = "key_revision";

/** Enough of a database: a whole one, or reads beside the transaction of a running call. */
type KeySql = Pick<Sql, "query" | "transaction">;

interface KeyColumns {
  id: string;
  region: string;
  description: string;
  state: RingKeyRow["state"];
  is_default: number;
  current_version: number;
  policy: string | null;
  created_at: number;
}

interface VersionColumns {
  key_id: string;
  version: number;
  wrapped: Uint8Array;
  created_at: number;
}

interface AliasColumns {
  region: string;
  alias: string;
  key_id: string;
}

/** Ring keys, their versions, aliases and the root secret in a database. Changes queue behind the revision's row. */
export function ringKeyStore(sql: KeySql) {
  const changing = <T>(work: (tx: Sql) => Promise<T>): Promise<T> =>
    sql.transaction(async (tx) => {
      await raiseRevision(tx);
      return work(tx);
    });
  return {
    load: () => loadKeys(sql),
    loadRevision: () => loadRevision(sql),
    keepRootSecret: (wrapped: Uint8Array) =>
      changing(async (tx) => {
        await tx.query("insert into meta (key, value) values ($1, $2) on conflict (key) do nothing", [
          rootSecretKey,
          toText(wrapped),
        ]);
      }),
    insertKey: (added: NewRingKey) => changing((tx) => insertKey(tx, added)),
    insertVersion: (version: RingKeyVersionRow, rootSecret: Uint8Array) => changing((tx) => addVersion(tx, version, rootSecret)),
    changeKey: (keyId: string, change: RingKeyChange) => changing((tx) => changeKey(tx, keyId, change)),
    insertAlias: (alias: KeyAliasRow) => changing((tx) => insertAlias(tx, alias)),
    replaceRoot: (replacement: RootReplacement) => changing((tx) => replaceRoot(tx, replacement)),
  };
}

/** The revision is read first and keys before versions, so that changes in between only lead to another load. */
async function loadKeys(sql: KeySql): Promise<RingKeySnapshot> {
  const revision = await loadRevision(sql);
  const rootSecret = await loadRootSecret(sql);
  const keys = await pages<KeyColumns>((last) =>
    sql.query("select * from ring_keys where (created_at, id) > ($1, $2) order by created_at, id limit $3", [
      last?.created_at ?? -1,
      last?.id ?? "",
      pageRows,
    ]),
  );
  const versions = await pages<VersionColumns>((last) =>
    sql.query("select * from ring_key_versions where (key_id, version) > ($1, $2) order by key_id, version limit $3", [
      last?.key_id ?? "",
      last?.version ?? -1,
      pageRows,
    ]),
  );
  const aliases = await pages<AliasColumns>((last) =>
    sql.query("select * from key_aliases where (region, alias) > ($1, $2) order by region, alias limit $3", [
      last?.region ?? "",
      last?.alias ?? "",
      pageRows,
    ]),
  );
  return {
    revision,
    rootSecret: rootSecret === undefined ? undefined : Buffer.from(rootSecret, "base64"),
    keys: keys.map(toKey),
    versions: versions.map((row) => ({
      keyId: row.key_id,
      version: row.version,
      wrapped: row.wrapped,
      createdAt: row.created_at,
    })),
    aliases: aliases.map((row) => ({ region: row.region, alias: row.alias, keyId: row.key_id })),
  };
}

async function loadRevision(sql: KeySql): Promise<number> {
  const [row] = await sql.query<{ value: string }>("select value from meta where key = $1", [revisionKey]);
  return row ? Number(row.value) : 0;
}

async function loadRootSecret(sql: Pick<Sql, "query">): Promise<string | undefined> {
  const [row] = await sql.query<{ value: string }>("select value from meta where key = $1", [rootSecretKey]);
  return row?.value;
}

/** Locks the row until the transaction ends: changes to keys run one after another on both databases. */
async function raiseRevision(tx: Sql): Promise<void> {
  await tx.query(
    `insert into meta (key, value) values ($1, '1')
     on conflict (key) do update set value = cast(cast(meta.value as bigint) + 1 as text)`,
    [revisionKey],
  );
}

async function insertKey(
  tx: Sql,
  {
    key,
    version,
    alias,
    rootSecret,
  }: { key: RingKeyRow; version: RingKeyVersionRow; alias?: string | undefined; rootSecret: Uint8Array },
): Promise<"done" | "alias-taken" | "root-changed"> {
  if ((await loadRootSecret(tx)) !== toText(rootSecret)) return "root-changed";
  if (alias !== undefined && (await aliasExists(tx, key.region, alias))) return "alias-taken";
  await tx.query(
    `insert into ring_keys (id, region, description, state, is_default, current_version, policy, created_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      key.id,
      key.region,
      key.description,
      key.state,
      key.isDefault ? 1 : 0,
      key.currentVersion,
      key.policy ?? null,
      key.createdAt,
    ],
  );
  await insertVersion(tx, version);
  if (alias !== undefined) await insertAlias(tx, { region: key.region, alias, keyId: key.id });
  return "done";
}

async function insertVersion(tx: Sql, { keyId, version, wrapped, createdAt }: RingKeyVersionRow): Promise<void> {
  await tx.query("insert into ring_key_versions (key_id, version, wrapped, created_at) values ($1, $2, $3, $4)", [
    keyId,
    version,
    wrapped,
    createdAt,
  ]);
}

async function addVersion(
  tx: Sql,
  version: RingKeyVersionRow,
  rootSecret: Uint8Array,
): Promise<"done" | "root-changed" | "version-taken"> {
  if ((await loadRootSecret(tx)) !== toText(rootSecret)) return "root-changed";
  const moved = await tx.query("update ring_keys set current_version = $2 where id = $1 and current_version = $3 returning id", [
    version.keyId,
    version.version,
    version.version - 1,
  ]);
  if (moved.length === 0) return "version-taken";
  await insertVersion(tx, version);
  return "done";
}

async function changeKey(tx: Sql, keyId: string, { state, description, policy }: RingKeyChange): Promise<void> {
  const changes: [string, SqlValue][] = [];
  if (state !== undefined) changes.push(["state", state]);
  if (description !== undefined) changes.push(["description", description]);
  if (policy !== undefined) changes.push(["policy", policy === "" ? null : policy]);
  for (const [column, value] of changes) await tx.query(`update ring_keys set ${column} = $2 where id = $1`, [keyId, value]);
}

async function insertAlias(tx: Sql, { region, alias, keyId }: KeyAliasRow): Promise<"done" | "alias-taken"> {
  if (await aliasExists(tx, region, alias)) return "alias-taken";
  await tx.query("insert into key_aliases (region, alias, key_id) values ($1, $2, $3)", [region, alias, keyId]);
  return "done";
}

async function aliasExists(tx: Sql, region: string, alias: string): Promise<boolean> {
  const rows = await tx.query("select key_id from key_aliases where region = $1 and alias = $2", [region, alias]);
  return rows.length > 0;
}

async function replaceRoot(tx: Sql, { expected, rootSecret, versions }: RootReplacement): Promise<boolean> {
  if ((await loadRootSecret(tx)) !== toText(expected)) return false;
  const [stored] = await tx.query<{ count: number }>("select count(*) as count from ring_key_versions");
  if (Number(stored?.count) !== versions.length) return false;
  for (const { keyId, version, wrapped } of versions)
    await tx.query("update ring_key_versions set wrapped = $3 where key_id = $1 and version = $2", [keyId, version, wrapped]);
  await tx.query("update meta set value = $2 where key = $1", [rootSecretKey, toText(rootSecret)]);
  return true;
}

async function pages<R extends object = Row>(page: (last: R | undefined) => Promise<R[]>): Promise<R[]> {
  const all: R[] = [];
  for (;;) {
    const rows = await page(all.at(-1));
    all.push(...rows);
    if (rows.length < pageRows) return all;
  }
}

function toKey(row: KeyColumns): RingKeyRow {
  return {
    id: row.id,
    region: row.region,
    description: row.description,
    state: row.state,
    isDefault: row.is_default === 1,
    currentVersion: row.current_version,
    policy: row.policy ?? undefined,
    createdAt: row.created_at,
  };
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}
