import type { Sql } from "./sql.ts";

/** `id` is for ever; the name may change. Nobody's name is another's id. */
export interface Project {
  readonly id: string;
  readonly name: string;
  readonly description: string | undefined;
  readonly createdAt: number;
}

export interface ListPage {
  /** Last key of the page before; absent: from the first. */
  readonly after?: string | undefined;
  /** Rows to leave out behind that. */
  readonly skip?: number;
  /** At most 1,001. */
  readonly limit: number;
}

type ProjectRow = Omit<Project, "description"> & { readonly description: string | null };
const columns = `id, name, description, created_at as "createdAt"`;
const toProject = (row: ProjectRow): Project => ({ ...row, description: row.description ?? undefined });

/** By id, else by name. */
export async function findProject(sql: Sql, idOrName: string): Promise<Project | undefined> {
  const [byId] = await sql.query<ProjectRow>(`select ${columns} from projects where id = $1`, [idOrName]);
  if (byId) return toProject(byId);
  const [byName] = await sql.query<ProjectRow>(`select ${columns} from projects where name = $1`, [idOrName]);
  return byName && toProject(byName);
}

/** In the order of ids. */
export async function listProjects(sql: Sql, { after = "", skip = 0, limit }: ListPage): Promise<Project[]> {
  const rows = await sql.query<ProjectRow>(`select ${columns} from projects where id > $1 order by id limit $2 offset $3`, [
    after,
    limit,
    skip,
  ]);
  return rows.map(toProject);
}

/** Keeps the project, and with it what names are taken in it, from being changed by others until the transaction ends. */
export async function lockProject(tx: Sql, id: string): Promise<Project | undefined> {
  const lock = tx.dialect === "postgres" ? " for update" : "";
  const [row] = await tx.query<ProjectRow>(`select ${columns} from projects where id = $1${lock}`, [id]);
  return row && toProject(row);
}

export async function countProjects(sql: Sql): Promise<number> {
  const [row] = await sql.query<{ count: number }>("select count(*) as count from projects");
  return Number(row?.count ?? 0);
}

export async function insertProject(tx: Sql, { id, name, description, createdAt }: Project): Promise<void> {
  await tx.query("insert into projects (id, name, description, created_at) values ($1, $2, $3, $4)", [
    id,
    name,
    description ?? null,
    createdAt,
  ]);
}

export async function updateProject(tx: Sql, { id, name, description }: Project): Promise<void> {
  await tx.query("update projects set name = $2, description = $3 where id = $1", [id, name, description ?? null]);
}

/** Of a project without environments. */
export async function deleteProject(tx: Sql, id: string): Promise<void> {
  await tx.query("delete from projects where id = $1", [id]);
}
