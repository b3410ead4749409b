import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { type PostgresServer, postgresSkip, postgresTlsSkip, startPostgres } from "../support/postgres-server.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

const run = (url: string, text: string, values: unknown[] = []) => {
  const client = new pg.Client(url);
  return client
    .connect()
    .then(() => client.query(text, values))
    .finally(() => client.end());
};

async function newRole(server: PostgresServer, name: string, password: string, options = ""): Promise<DatabaseCredential> {
  await run(server.url, `create role ${pg.escapeIdentifier(name)} login ${options} password ${pg.escapeLiteral(password)}`);
  return { engine: "postgres", host: server.host, port: server.port, username: name, password };
}

const adminOf = (server: PostgresServer): DatabaseCredential => ({
  engine: "postgres",
  host: server.host,
  port: server.port,
  username: server.user,
  password: server.password,
});

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

describe("postgres", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let trusting: PostgresServer;
  let stopped: PostgresServer;
  before(async () => {
    [server, trusting, stopped] = await Promise.all([
      startPostgres({
        settings: ["log_statement=all", "log_min_messages=debug1"],
        hba: ["host all md5user 127.0.0.1/32 md5", "host all plain_user 127.0.0.1/32 password"],
      }),
      startPostgres({ hba: ["host all all 127.0.0.1/32 trust"] }),
      startPostgres(),
    ]);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: postgres,
      newUser: (name, password) => newRole(server, name, password),
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stopped.port }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port, username: "postgres" }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => readFileSync(server.logFile, "utf8"),
    }),
    ["single-user", "alternating-users"],
  );

  test("the next version differs in username and password only", async () => {
    const current = { ...adminOf(server), port: "5432", note: { kept: true }, ssl: "false" };
    const { username, password, ...rest } = await postgres.create(current, "alternating-users", tools());
    assert.equal(username, "postgres_clone");
    assert.notEqual(password, current.password);
    assert.deepEqual(rest, { engine: "postgres", host: server.host, port: "5432", note: { kept: true }, ssl: "false" });
    assert.equal((await postgres.create({ ...current, username: "a_clone" }, "alternating-users", tools())).username, "a");
  });

  test("a shape that is wrong is told by key, without its value", () => {
    const result = postgres.credential.safeParse({
      host: "h",
      username: "u\0options",
      password: "canary",
      port: 99_999,
      engine: "mysql",
    });
    const paths = result.error?.issues.map(({ path }) => path.join(".")).sort();
    assert.deepEqual(paths, ["engine", "port", "username"]);
    assert.ok(!JSON.stringify(result.error?.issues).includes("canary"));
  });

  test("the clone is a member of the original and like it in all else", async () => {
    const name = freshName("like");
    const database = freshName("db");
    await server.newDatabase(database);
    const current = await newRole(server, name, "old-password", "createdb connection limit 7 valid until '2199-01-01'");
    await run(server.url, `alter role ${name} set search_path to "$user", 'a b', public`);
    await run(server.url, `alter role ${name} set "app.note" to 'it''s, fine'`);
    await run(server.url, `alter role ${name} in database ${database} set statement_timeout to '12s'`);
    const pending = await postgres.create(current, "alternating-users", tools());
    await postgres.set({ current, pending, previous: undefined, admin: adminOf(server) }, "alternating-users", tools());
    const roles = await run(
      server.url,
      `select rolcreatedb, rolcreaterole, rolsuper, rolconnlimit, rolvaliduntil::text,
         (select array_agg(setconfig::text order by setdatabase) from pg_db_role_setting s where s.setrole = r.oid)::text as settings
       from pg_roles r where rolname in ($1::text, $1::text || '_clone') order by rolname`,
      [name],
    );
    assert.equal(roles.rows.length, 2);
    assert.deepEqual(roles.rows[1], roles.rows[0]);
    const member = await run(server.url, "select pg_has_role($1::text || '_clone', $1::text, 'usage') as yes", [name]);
    assert.equal(member.rows[0].yes, true);
  });

  test("who makes the clone need not be a superuser: CREATEROLE and ADMIN on the user suffice", async () => {
    const name = freshName("managed");
    const current = await newRole(server, name, "old-password");
    const manager = await newRole(server, freshName("manager"), "its-password", "createrole");
    await run(server.url, `grant ${name} to "${manager.username}" with admin option`);
    const pending = await postgres.create(current, "alternating-users", tools());
    await postgres.set({ current, pending, previous: undefined, admin: manager }, "alternating-users", tools());
    const next = await postgres.create(pending, "alternating-users", tools());
    await postgres.set({ current: pending, pending: next, previous: current, admin: manager }, "alternating-users", tools());
    assert.deepEqual([await postgres.probe(pending, tools()), await postgres.probe(next, tools())], ["ok", "ok"]);
  });

  test("a role that only bears the clone's name is not taken over", async () => {
    const name = freshName("foreign");
    const current = await newRole(server, name, "old-password");
    const foreign = await newRole(server, `${name}_clone`, "somebody-else");
    const pending = await postgres.create(current, "alternating-users", tools());
    const versions = { current, pending, previous: undefined, admin: adminOf(server) };
    assert.equal(await failure(postgres.set(versions, "alternating-users", tools())), "invalid");
    assert.equal(await postgres.probe(foreign, tools()), "ok");
    // Nor does a login that only bears the clone's name lead to the original.
    const back = { current: foreign, pending: await postgres.create(foreign, "alternating-users", tools()) };
    assert.equal(back.pending.username, name);
    assert.equal(await failure(postgres.set({ ...versions, ...back }, "alternating-users", tools())), "invalid");
    assert.equal(await postgres.probe(current, tools()), "ok");
    // A clone that somebody dropped keeps nobody from going back.
    await run(server.url, `drop role ${name}_clone`);
    await postgres.set({ ...versions, ...back }, "alternating-users", tools());
    assert.equal(await postgres.probe(back.pending, tools()), "ok");
  });

  test("alternating users name what is missing: superuser, same host, room for the name", async () => {
    const current = await newRole(server, freshName("rules"), "old-password");
    const pending = await postgres.create(current, "alternating-users", tools());
    const versions = { current, pending, previous: undefined, admin: adminOf(server) };
    const set = (changed: object) => failure(postgres.set({ ...versions, ...changed }, "alternating-users", tools()));
    assert.equal(await set({ admin: undefined }), "invalid");
    assert.equal(await set({ admin: { ...versions.admin, host: "localhost" } }), "invalid");
    assert.equal(await set({ admin: { ...versions.admin, engine: "mysql" } }), "invalid");
    assert.equal(await set({ pending: { ...pending, username: "postgres" } }), "invalid");
    assert.equal(
      await failure(postgres.create({ ...current, username: "x".repeat(60) }, "alternating-users", tools())),
      "invalid",
    );
    assert.equal(await set({ admin: current }), "denied");
    await run(server.url, `create role "${pending.username}" nologin in role "${current.username}"`);
    assert.equal(await set({}), "locked");
    await run(server.url, `alter role "${pending.username}" login valid until '2001-01-01'`);
    assert.equal(await set({}), "expired");
  });

  test("single user: whichever version is in force is used; a superuser only when none is", async () => {
    const name = freshName("versions");
    const current = await newRole(server, name, "v1");
    const version = (password: string) => ({ ...current, password });
    const set = (inForce: string, admin?: DatabaseCredential) =>
      run(server.url, `alter role ${name} password '${inForce}'`).then(() =>
        postgres.set({ current: version("v1"), pending: version("v2"), previous: version("v0"), admin }, "single-user", tools()),
      );
    for (const inForce of ["v1", "v2", "v0"]) {
      await set(inForce);
      assert.equal(await postgres.probe(version("v2"), tools()), "ok");
    }
    assert.equal(await failure(set("changed-by-hand")), "refused");
    await set("changed-by-hand", adminOf(server));
    assert.equal(await postgres.probe(version("v2"), tools()), "ok");
  });

  test("a password beyond ASCII is the same to the server, to other clients, and to the login that tests it", async () => {
    const current = await newRole(server, freshName("beyond"), "old\u00a0p\u00adassw\u00f6rd");
    const pending = { ...current, password: "\u2168 n\u2003ew\u200d p\u0061\u0308ssword" };
    await postgres.set({ current, pending, previous: undefined, admin: undefined }, "single-user", tools());
    await postgres.test(pending, tools()); // with the keys that the verifier was made of
    await postgres.test({ ...pending }, tools()); // with its own
    const { username: user, password } = pending;
    const driver = new pg.Client({ host: server.host, port: server.port, user, password, database: "postgres" });
    await driver.connect().finally(() => driver.end());
  });

  test("a role that may have one connection at a time is changed and tested, though logging out takes a while", async (context) => {
    const role = await newRole(server, freshName("single"), "old-password", "connection limit 1");
    const slow = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect(server.port, server.host);
      far.on("error", () => near.destroy()).pipe(near);
      near
        .on("error", () => far.destroy())
        .on("end", () => setTimeout(() => far.end(), 300))
        .on("data", (bytes) => {
          const terminate = bytes[0] === 0x58;
          setTimeout(() => far.write(bytes), terminate ? 300 : 0);
        });
    }).listen(0, "127.0.0.1");
    await once(slow, "listening");
    context.after(() => slow.close());
    const current = { ...role, host: "127.0.0.1", port: (slow.address() as { port: number }).port };
    const pending = await postgres.create(current, "single-user", tools());
    await postgres.set({ current, pending, previous: undefined, admin: undefined }, "single-user", tools());
    await postgres.test(pending, tools());
  });

  test("a call left over from a worker that stalled is ended before the password changes again", async () => {
    const current = await newRole(server, freshName("late"), "old-password");
    const pending = await postgres.create(current, "single-user", tools());
    // A statement of the stalled call waits behind a lock that we hold on the role.
    const holder = new pg.Client(server.url);
    await holder.connect();
    await holder.query(`begin; alter role "${current.username}" connection limit 50`);
    const stalled = postgres.set({ current, pending, previous: undefined, admin: undefined }, "single-user", tools());
    const outcome = failure(stalled, pending.password);
    const waiting = "select from pg_stat_activity where application_name like 'rekey %' and wait_event_type = 'Lock'";
    while ((await run(server.url, waiting)).rowCount === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    const next = await postgres.create(current, "single-user", tools());
    const again = postgres.set({ current, pending: next, previous: undefined, admin: undefined }, "single-user", tools());
    assert.equal(await outcome, "unknown");
    await holder.query("rollback");
    await holder.end();
    await again;
    assert.equal(await postgres.probe(next, tools()), "ok");
  });

  test("a password is sent neither in clear nor as MD5 over an unverified connection", async () => {
    await run(server.url, "set password_encryption = md5; create role md5user login password 'canary-md5'").catch(
      () => undefined,
    );
    const old = { ...adminOf(server), username: "md5user", password: "canary-md5" };
    const plain = await newRole(server, "plain_user", "canary-plain");
    assert.equal(await failure(postgres.test(plain, tools()), "canary-plain"), "invalid");
    assert.equal(await failure(postgres.test(old, tools()), "canary-md5"), "invalid");
  });

  test("unreachable, silent and unfit servers are told apart", async (context) => {
    const credential = adminOf(server);
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
    const hangingUp = createServer((socket) => socket.end()).listen(0, "127.0.0.1");
    await Promise.all([once(silent, "listening"), once(hangingUp, "listening")]);
    context.after(() => {
      for (const socket of sockets) socket.destroy();
      silent.close();
      hangingUp.close();
    });
    const portOf = (listening: typeof silent) => (listening.address() as { port: number }).port;
    const probe = (changed: object, ms = 120_000) =>
      postgres.probe({ ...credential, ...changed }, { ...tools(), deadlineAt: Date.now() + ms });
    assert.equal(await probe({ port: portOf(silent) }, 200), "timeout");
    assert.equal(await probe({ port: portOf(hangingUp) }), "unreachable");
    assert.equal(await probe({ host: "no-such-host.invalid" }), "unreachable");
    assert.equal(await probe({ dbname: "no such database" }), "invalid");
    assert.equal(await probe({ ssl: true }), "tls");
    assert.equal(await probe({ sslrootcert: "/no/such/file" }), "invalid");
    await run(server.url, "create role nologin_user password 'x'");
    assert.equal(await probe({ username: "nologin_user", password: "x" }), "locked");
    await newRole(server, "full", "x", "connection limit 0");
    assert.equal(await probe({ username: "full", password: "x" }), "unreachable");
  });
});

test("postgres over TLS: verified or not at all", { skip: postgresTlsSkip }, async () => {
  await using server = await startPostgres({
    tls: true,
    hba: ["hostssl all plain_user 127.0.0.1/32 password", "hostssl all any_user 127.0.0.1/32 trust"],
  });
  const probe = (changed: object) => postgres.probe({ ...adminOf(server), ...changed }, tools());
  const pem = readFileSync(server.caFile ?? "", "utf8");
  assert.equal(await probe({}), "tls", "TLS that cannot be verified is not given up silently");
  assert.equal(await probe({ ssl: true }), "tls");
  assert.equal(await probe({ ssl: true, sslrootcert: server.caFile }), "ok");
  assert.equal(await probe({ sslrootcert: pem }), "ok");
  assert.equal(await probe({ host: "localhost", ssl: "true", sslrootcert: pem }), "ok");
  assert.equal(await probe({ ssl: false }), "ok");
  const plain = await newRole(server, "plain_user", "clear-password");
  assert.equal(await probe({ ...plain, sslrootcert: pem }), "ok", "verified TLS may carry the password itself");
  assert.equal(await probe({ ...plain, password: "wrong", sslrootcert: pem }), "refused");
  const any = await newRole(server, "any_user", "some-password");
  assert.equal(
    await probe({ ...any, sslrootcert: pem }),
    "invalid",
    "verified TLS does not make up for a password that is never asked for",
  );
});
