// Projects and configs as rows, for tests of what surrounds them.
import { randomUUID } from "node:crypto";
import type { Sql } from "../../src/store/sql.ts";

/** A config with its project and environment, which may be there already. Its id. */
export async function newConfig(sql: Sql, project: string, environment: string, config: string): Promise<string> {
  const id = randomUUID();
  await sql.transaction(async (tx) => {
    await tx.query("insert into projects (id, name, created_at) values ($1, $1, 1) on conflict do nothing", [project]);
    await tx.query(
      `insert into environments (project_id, slug, name, position, created_at) values ($1, $2, $2, 0, 1) on conflict do nothing`,
      [project, environment],
    );
    await tx.query(
      `insert into configs (id, project_id, environment, name, is_root, locked, inheritable, version, generation, created_at)
       values ($1, $2, $3, $4, $5, 0, 0, 0, 0, 1)`,
      [id, project, environment, config, Number(environment === config)],
    );
  });
  return id;
}
