import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ConfigError } from "../../src/core/error.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { parsePostgresUrl } from "../../src/store/postgres-url.ts";
import type { Sql } from "../../src/store/sql.ts";
import { type PostgresServer, postgresSkip, postgresTlsSkip, startPostgres } from "../support/postgres-server.ts";

const withStore = async <T>(url: string, work: (sql: Sql) => Promise<T>): Promise<T> => {
  const sql = openPostgres(url, { max: 4 });
  try {
    return await work(sql);
  } finally {
    await sql.close();
  }
};

describe("the URL", () => {
  test("gives all parts, decoded", () => {
    assert.deepEqual(parsePostgresUrl("postgresql://an%40a:p%2Fw@[::1]:6543/a%20b"), {
      host: "::1",
      port: 6543,
      database: "a b",
      user: "an@a",
      password: "p/w",
      ssl: false,
    });
    assert.equal(parsePostgresUrl("postgres://ana@db/?host=/run/postgresql").host, "/run/postgresql");
    assert.equal(parsePostgresUrl("postgres://ana@db.example").database, "ana");
  });

  test("asks for a verified certificate from any other machine, unless it says otherwise", () => {
    const ssl = (rest: string) => parsePostgresUrl(`postgres://ana@${rest}`).ssl;
    for (const rest of ["db.example/x", "10.1.2.3/x", "localhost/x?sslmode=require", "db.example/x?sslmode=verify-ca"]) {
      assert.equal((ssl(rest) as { rejectUnauthorized: boolean }).rejectUnauthorized, true, rest);
    }
    assert.equal((ssl("db.example/x?sslmode=no-verify") as { rejectUnauthorized: boolean }).rejectUnauthorized, false);
    for (const rest of ["localhost/x", "127.0.0.1/x", "[::1]/x", "db.example/x?sslmode=disable"])
      assert.equal(ssl(rest), false, rest);
  });

  test("is refused without being shown", () => {
    for (const url of [
      "not a url marked",
      "http://marked@localhost/x",
      "postgres://ana:marked%@localhost/x",
      "postgres://ana:marked@localhost/x?sslmode=prefer",
      "postgres://ana:marked@localhost/x?ssl=true",
      "postgres://ana:marked@localhost/x?sslmode=require&sslrootcert=/nowhere/ca.pem",
    ]) {
      assert.throws(
        () => openPostgres(url),
        (error: Error) =>
          error instanceof ConfigError && !JSON.stringify([error.message, error.stack, error.cause]).includes("marked"),
        url,
      );
    }
  });
});

describe("the server", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres();
  });
  after(async () => server[Symbol.asyncDispose]());

  test("checks passwords, and a refusal holds none", async () => {
    const url = server.url.replace(server.password, "marked");
    const refused = (error: Error) => /authentication failed/.test(error.message) && !/marked/.test(String(error.stack));
    await withStore(url, (sql) => assert.rejects(sql.query("select 1"), refused));
  });

  test("names statements, so that plans are kept, and only so many", async () => {
    await withStore(server.url, (sql) =>
      sql.transaction(async (tx) => {
        for (let n = 0; n < 600; n++) await tx.query(`select ${n} as n`);
        const [row] = await tx.query<{ n: number }>("select count(*) as n from pg_prepared_statements");
        assert.equal(row?.n, 500);
      }),
    );
  });

  test("transactions in deadlock are run again and both succeed", async () => {
    await withStore(await server.newDatabase(), async (sql) => {
      await sql.query("create table items (id bigint primary key, n integer not null)");
      await sql.query("insert into items values (1, 0), (2, 0)");
      let runs = 0;
      const raise = async (...ids: number[]) =>
        sql.transaction(async (tx) => {
          runs += 1;
          for (const id of ids) {
            await tx.query("update items set n = n + 1 where id = $1", [id]);
            await tx.query("select pg_sleep(0.2)");
          }
        });
      await Promise.all([raise(1, 2), raise(2, 1)]);
      assert.equal(runs, 3);
      assert.deepEqual(await sql.query("select * from items order by id"), [
        { id: 1, n: 2 },
        { id: 2, n: 2 },
      ]);
    });
  });

  test("a connection lost in a transaction fails it, and the next one works", async () => {
    await withStore(await server.newDatabase(), async (sql) => {
      await sql.query("create table items (id bigint primary key)");
      const lost = sql.transaction(async (tx) => {
        await tx.query("insert into items values (1)");
        await tx.query("select pg_terminate_backend(pg_backend_pid())");
      });
      await assert.rejects(lost, /terminat/);
      assert.deepEqual(await sql.query("select * from items"), []);
      await server.restart();
      assert.deepEqual(await sql.query("select * from items"), []);
    });
  });

  test("an unreachable server is named, its password is not", async () => {
    await withStore(server.url, async (sql) => {
      await server.stop();
      const named = (error: Error) =>
        error.message.includes(`127.0.0.1:${server.port}`) &&
        /ECONNREFUSED/.test(error.message) &&
        !error.stack?.includes(server.password);
      await assert.rejects(sql.query("select 1"), named);
      await server.restart();
      assert.deepEqual(await sql.query("select 1 as one"), [{ one: 1 }]);
    });
  });

  test("one without TLS is told apart", async () => {
    await withStore(`${server.url}?sslmode=verify-full`, (sql) => assert.rejects(sql.query("select 1"), /sslmode=disable/));
  });
});

describe("TLS", { skip: postgresTlsSkip }, () => {
  test("is verified: the authority, and the name by verify-full only", async () => {
    await using server = await startPostgres({
      tls: true,
      hba: ["hostnossl all all all reject"],
      settings: ["listen_addresses=127.0.0.1,127.0.0.2"],
    });
    const { url, port, password, caFile } = server;
    const at = (host: string, rest: string) => `postgresql://postgres:${password}@${host}:${port}/postgres?${rest}`;
    const ca = `sslrootcert=${encodeURIComponent(caFile ?? "")}`;
    const inUse = (sql: Sql) => sql.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()");
    for (const good of [
      url,
      at("localhost", `sslmode=verify-full&${ca}`),
      at("127.0.0.2", `sslmode=verify-ca&${ca}`),
      at("127.0.0.1", "sslmode=no-verify"),
    ]) {
      assert.deepEqual(await withStore(good, inUse), [{ ssl: 1 }]);
    }
    await assert.rejects(withStore(at("127.0.0.1", "sslmode=verify-full"), inUse), /self-signed/);
    await assert.rejects(withStore(at("127.0.0.1", "sslmode=require"), inUse), /self-signed/);
    await assert.rejects(withStore(at("127.0.0.2", `sslmode=verify-full&${ca}`), inUse), /not in the cert/);
    await assert.rejects(withStore(at("127.0.0.1", "sslmode=disable"), inUse), /pg_hba/);
  });
});
