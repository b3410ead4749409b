import type { Config } from "./configs.ts";
import { listed } from "./json-list.ts";
import type { Sql } from "./sql.ts";

const idsAtOnce = 500;
const pageRows = 1000;

/** What reads a config of `$1`: its environment's branches if it is a root, those that inherit it, those that refer to it. */
const readers = (dialect: Sql["dialect"]): readonly string[] => [
  `select b.id as id from configs r join configs b on b.project_id = r.project_id and b.environment = r.environment
   where r.is_root = 1 and b.is_root = 0 and r.id in ${listed(dialect, 1)} and b.id > $2 order by b.id limit $3`,
  `select distinct config_id as id from config_inherits where parent_id in ${listed(dialect, 1)} and config_id > $2 order by config_id limit $3`,
  `select distinct f.config_id as id from configs c join config_references f on f.project = c.project_id and f.config = c.name
   where c.id in ${listed(dialect, 1)} and f.config_id > $2 order by f.config_id limit $3`,
];

/**
 * Raises the generation of these configs and of all that read them, however indirectly, in the transaction of the cause.
 * Their ids: after the commit each gets a hint, `config/ID`.
 */
export async function raiseGenerations(tx: Sql, configIds: readonly string[]): Promise<string[]> {
  const raised = await lockWithReaders(tx, configIds);
  for (const ids of chunks(raised))
    await tx.query(`update configs set generation = generation + 1 where id in ${listed(tx.dialect, 1)}`, [JSON.stringify(ids)]);
  return raised;
}

/**
 * Keeps these configs, all that read them, and the ones `beside`, from being changed until the transaction ends; those that
 * read them included. All are locked in one order, of ids, so that changes wait for each other and do not go in circles.
 */
export async function lockWithReaders(tx: Sql, configIds: readonly string[], beside: readonly string[] = []): Promise<string[]> {
  const locked = new Set<string>();
  for (;;) {
    const ids = await withReaders(tx, configIds);
    const missing = [...ids, ...beside].filter((id) => !locked.has(id)).toSorted();
    if (missing.length === 0 || tx.dialect === "sqlite") return ids;
    // Until they were locked, others may have begun to read one of them.
    for (const some of chunks(missing))
      await tx.query(`select id from configs where id in ${listed(tx.dialect, 1)} order by id for update`, [
        JSON.stringify(some),
      ]);
    for (const id of missing) locked.add(id);
  }
}

async function withReaders(tx: Sql, configIds: readonly string[]): Promise<string[]> {
  const found = new Set(configIds);
  let level = [...found];
  while (level.length > 0) {
    const next: string[] = [];
    for (const ids of chunks(level))
      for (const text of readers(tx.dialect)) for (const id of await allPages(tx, text, JSON.stringify(ids))) next.push(id);
    level = [...new Set(next)].filter((id) => !found.has(id));
    for (const id of level) found.add(id);
  }
  return [...found].toSorted();
}

/** The same for those that refer to a name, where a config came to be or was: what they refer to is another one now. */
export async function raiseReferring(tx: Sql, { projectId, name }: Pick<Config, "projectId" | "name">): Promise<string[]> {
  const text =
    "select config_id as id from config_references where project = $1 and config = $4 and config_id > $2 order by config_id limit $3";
  const ids = await allPages(tx, text, projectId, name);
  return raiseGenerations(tx, ids);
}

async function allPages(tx: Sql, text: string, ...[first, ...rest]: readonly [string, ...string[]]): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const page = await tx.query<{ id: string }>(text, [first, ids.at(-1) ?? "", pageRows, ...rest]);
    for (const { id } of page) ids.push(id);
    if (page.length < pageRows) return ids;
  }
}

function* chunks(ids: readonly string[]): Generator<readonly string[]> {
  for (let start = 0; start < ids.length; start += idsAtOnce) yield ids.slice(start, start + idsAtOnce);
}

/**
 * Names of configs come, go and are referred to one transaction after another: else a value that refers to a config which
 * is just being made would be taken for up to date although it shows the text of the reference.
 */
export async function lockConfigNames(tx: Sql): Promise<void> {
  await tx.query("insert into meta (key, value) values ('config_names', '1') on conflict (key) do update set value = meta.value");
}
