import pg from "pg";

/** What the secrets of the demo hold; AWS's names for the parts of a database credential. */
export interface Credential {
  readonly engine: "postgres";
  readonly host: string;
  readonly port: number;
  readonly dbname: string;
  readonly username: string;
  readonly password: string;
  readonly masterarn?: string;
}

const connectMs = 10_000;

/** One login on a new connection, and one query on `table`: false when the password is refused. @throws whatever else fails */
export async function logIn({ host, port, dbname, username, password }: Credential, table: string): Promise<boolean> {
  const client = new pg.Client({
    host,
    port,
    database: dbname,
    user: username,
    password,
    connectionTimeoutMillis: connectMs,
    query_timeout: connectMs,
  });
  client.on("error", () => undefined); // a connection that ends tells it through the call that waits for it
  try {
    await client.connect();
    await client.query(`select count(*) from ${pg.escapeIdentifier(table)}`);
    return true;
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === "28P01") return false;
    throw error;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Makes a user for each service, with a table that it may read; returns the server's version. */
export async function prepareDatabase(superuser: Credential, users: readonly Credential[]): Promise<string> {
  const { host, port, dbname: database, username: user, password } = superuser;
  const client = new pg.Client({ host, port, database, user, password });
  await client.connect();
  try {
    await client.query("set log_statement = 'none'"); // these first passwords are ours, not Rekey's
    for (const { username, password } of users) {
      const name = pg.escapeIdentifier(username);
      await client.query(`create role ${name} login password ${pg.escapeLiteral(password)}`);
      await client.query(`create table ${name} (id bigint primary key)`);
      await client.query(`grant select on ${name} to ${name}`);
    }
    const { rows } = await client.query<{ server_version: string }>("show server_version");
    return rows[0]?.server_version ?? "";
  } finally {
    await client.end();
  }
}
