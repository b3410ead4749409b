import type { ConfigPlace } from "../core/config-references.ts";
import { listed } from "./json-list.ts";
import type { Sql } from "./sql.ts";

/** A config's own values at one time, sealed as one document. */
export interface SealedDocument {
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

const keptVersions = 1000;

/** What one version is sealed under. */
export const versionContext = (configId: string, number: number): Record<string, string> => ({
  ConfigVersionId: versionId(configId, number),
});

const versionId = (configId: string, number: number): string => `${configId}/${number}`;

/** `undefined` when there is none of this number, or none any more. */
export async function loadDocument(
  sql: Sql,
  configId: string,
  number: number,
): Promise<Pick<SealedDocument, "sealed" | "wrappedDataKey"> | undefined> {
  const [row] = await sql.query<{ sealed: Uint8Array; wrapped_data_key: Uint8Array }>(
    "select sealed, wrapped_data_key from config_versions where id = $1",
    [versionId(configId, number)],
  );
  return row && { sealed: row.sealed, wrappedDataKey: row.wrapped_data_key };
}

/** Keeps the next version of a config, whose row the transaction has locked, and makes it the newest. Very old ones go. */
export async function addVersion(
  tx: Sql,
  { configId, number, createdAt }: { readonly configId: string; readonly number: number; readonly createdAt: number },
  { sealed, wrappedDataKey, keyId, keyVersion }: SealedDocument,
): Promise<void> {
  await tx.query(
    `insert into config_versions (id, config_id, number, sealed, wrapped_data_key, key_id, key_version, created_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [versionId(configId, number), configId, number, sealed, wrappedDataKey, keyId, keyVersion, createdAt],
  );
  await tx.query("update configs set version = $2 where id = $1", [configId, number]);
  await tx.query("update config_versions set replaced_at = $2 where id = $1", [versionId(configId, number - 1), createdAt]);
  await removeBeyond(tx, configId, number);
}

/** Those beyond a config's newest 1,000: with each version that comes, one goes. */
async function removeBeyond(tx: Sql, configId: string, newest: number): Promise<void> {
  await tx.query(
    `delete from config_versions where id in
       (select id from config_versions where config_id = $1 and number <= $2 order by number limit 100)`,
    [configId, newest - keptVersions],
  );
}

export async function replaceReferences(tx: Sql, configId: string, places: readonly ConfigPlace[]): Promise<void> {
  await tx.query("delete from config_references where config_id = $1", [configId]);
  for (const { project, config } of places)
    await tx.query("insert into config_references (config_id, project, config) values ($1, $2, $3)", [configId, project, config]);
}

/** Ids of the configs that are referred to; those that are not there are left out. */
export async function referredIds(tx: Sql, places: readonly ConfigPlace[]): Promise<string[]> {
  const ids: string[] = [];
  for (const { project, config } of places)
    for (const { id } of await tx.query<{ id: string }>("select id from configs where project_id = $1 and name = $2", [
      project,
      config,
    ]))
      ids.push(id);
  return ids;
}

/** A note on a name of a project's values. */
export async function saveNote(tx: Sql, projectId: string, name: string, note: string): Promise<void> {
  if (note === "") await tx.query("delete from secret_notes where project_id = $1 and name = $2", [projectId, name]);
  else
    await tx.query(
      `insert into secret_notes (project_id, name, note) values ($1, $2, $3)
       on conflict (project_id, name) do update set note = excluded.note`,
      [projectId, name, note],
    );
}

/** Of these names, at most 1,300. */
export async function notesOf(sql: Sql, projectId: string, names: readonly string[]): Promise<Map<string, string>> {
  const rows = await sql.query<{ name: string; note: string }>(
    `select name, note from secret_notes where project_id = $1 and name in ${listed(sql.dialect, 2)}`,
    [projectId, JSON.stringify(names)],
  );
  return new Map(rows.map(({ name, note }) => [name, note]));
}
