import type { ListPage } from "./projects.ts";
import type { Sql } from "./sql.ts";

/** Its configs' names begin with the slug. */
export interface Environment {
  readonly projectId: string;
  readonly slug: string;
  readonly name: string;
  /** Among those of its project, from 0. */
  readonly position: number;
  readonly createdAt: number;
  readonly initialFetchAt: number | undefined;
}

type EnvironmentRow = Omit<Environment, "initialFetchAt"> & { readonly initialFetchAt: number | null };
const columns = `project_id as "projectId", slug, name, position, created_at as "createdAt", initial_fetch_at as "initialFetchAt"`;
const toEnvironment = (row: EnvironmentRow): Environment => ({ ...row, initialFetchAt: row.initialFetchAt ?? undefined });

export async function findEnvironment(sql: Sql, projectId: string, slug: string): Promise<Environment | undefined> {
  const [row] = await sql.query<EnvironmentRow>(`select ${columns} from environments where project_id = $1 and slug = $2`, [
    projectId,
    slug,
  ]);
  return row && toEnvironment(row);
}

/** In their own order; a project has 100 at most. */
export async function listEnvironments(sql: Sql, projectId: string, { skip = 0, limit }: ListPage): Promise<Environment[]> {
  const rows = await sql.query<EnvironmentRow>(
    `select ${columns} from environments where project_id = $1 order by position, slug limit $2 offset $3`,
    [projectId, limit, skip],
  );
  return rows.map(toEnvironment);
}

export async function insertEnvironment(tx: Sql, environment: Omit<Environment, "initialFetchAt">): Promise<void> {
  const { projectId, slug, name, position, createdAt } = environment;
  await tx.query("insert into environments (project_id, slug, name, position, created_at) values ($1, $2, $3, $4, $5)", [
    projectId,
    slug,
    name,
    position,
    createdAt,
  ]);
}

/** `environment` as it is to be; `slug` is its slug up to now. Its configs are renamed apart. */
export async function updateEnvironment(tx: Sql, slug: string, environment: Environment): Promise<void> {
  await tx.query("update environments set slug = $3, name = $4 where project_id = $1 and slug = $2", [
    environment.projectId,
    slug,
    environment.slug,
    environment.name,
  ]);
}

export async function deleteEnvironment(tx: Sql, projectId: string, slug: string): Promise<void> {
  await tx.query("delete from environments where project_id = $1 and slug = $2", [projectId, slug]);
}
