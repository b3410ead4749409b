import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import mysql2 from "mysql2";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { mysql } from "../../src/targets/mysql.ts";
import { type MariaDbServer, mariadbSkip, mariadbTlsSkip, startMariaDb } from "../support/mariadb-server.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

async function run<R extends object>(server: MariaDbServer, text: string): Promise<R[]> {
  const connection = await server.connect();
  try {
    const [rows] = await connection.query(text);
    return rows as R[];
  } finally {
    await connection.end();
  }
}

async function newUser(server: MariaDbServer, username: string, password: string, options = ""): Promise<DatabaseCredential> {
  await run(server, `create user ${mysql2.escape(username)}@'%' identified by ${mysql2.escape(password)} ${options}`);
  return { engine: "mariadb", host: server.host, port: server.port, username, password };
}

const adminOf = ({ host, port, user, password }: MariaDbServer): DatabaseCredential => ({
  engine: "mariadb",
  host,
  port,
  username: user,
  password,
});

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

describe("mysql on MariaDB", { skip: mariadbSkip }, () => {
  let server: MariaDbServer;
  let trusting: MariaDbServer;
  let stopped: MariaDbServer;
  before(async () => {
    [server, trusting, stopped] = await Promise.all([
      startMariaDb(),
      startMariaDb({ settings: ["--skip-grant-tables", "--init-file="] }),
      startMariaDb(),
    ]);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: mysql,
      newUser: (name, password) => newUser(server, name, password),
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stopped.port }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.log(),
    }),
    ["single-user", "alternating-users"],
  );

  test("the clone is like the original in all that is granted and required, on every host", async () => {
    const name = freshName("like");
    const current = await newUser(server, name, "old-password", "with max_user_connections 7");
    await run(server, "create database if not exists app");
    await run(server, "create table if not exists app.t (a int, `b``c` int)");
    await run(server, `create user ${name}@'10.%' identified by 'old-password' require ssl`);
    await run(server, `grant select, insert (a, \`b\`\`c\`) on app.t to ${name}@'%' with grant option`);
    await run(server, `grant execute on app.* to ${name}@'10.%'`);
    await run(server, "create role if not exists reader");
    await run(server, `grant reader to ${name}@'%'`);
    await run(server, `set default role reader for ${name}@'%'`);
    const pending = await mysql.create(current, "alternating-users", tools());
    const set = () => mysql.set({ current, pending, previous: undefined, admin: adminOf(server) }, "alternating-users", tools());
    await set();
    const clone = String(pending.username);
    const shown = async (user: string, host: string) =>
      [...(await run(server, `show grants for ${user}@'${host}'`)), ...(await run(server, `show create user ${user}@'${host}'`))]
        .map(
          (row) =>
            String(Object.values(row)[0])
              .replaceAll(clone, name)
              .replace(/PASSWORD '[^']*'/, "")
              .replace("(`b``c`, `a`)", "(`a`, `b``c`)"), // the server keeps no order
        )
        .filter((text) => !text.includes("GRANT `rekey_pair_")) // says that the two alternate
        .sort();
    for (const host of ["%", "10.%"]) assert.deepEqual(await shown(clone, host), await shown(name, host));
    await run(server, `grant update on app.t to ${name}@'%'`);
    await set();
    assert.deepEqual(await shown(clone, "%"), await shown(name, "%"), "what was granted since");
  });

  test("who makes the clone need not be a superuser: what the documentation names suffices", async () => {
    const current = await newUser(server, freshName("managed"), "old-password");
    await run(server, "create database if not exists managed");
    await run(server, `grant select on managed.* to ${current.username}`);
    const manager = await newUser(server, freshName("manager"), "its-password");
    for (const grant of ["create user on *.*", "select on mysql.*"]) await run(server, `grant ${grant} to ${manager.username}`);
    await run(server, `grant select on managed.* to ${manager.username} with grant option`);
    let [before, user] = [undefined as DatabaseCredential | undefined, current];
    for (let turn = 0; turn < 3; turn++) {
      const pending = await mysql.create(user, "alternating-users", tools());
      await mysql.set({ current: user, pending, previous: before, admin: manager }, "alternating-users", tools());
      assert.deepEqual([await mysql.probe(user, tools()), await mysql.probe(pending, tools())], ["ok", "ok"]);
      [before, user] = [user, pending];
    }
  });

  test("a user that only bears the clone's name and may do more is not taken over", async () => {
    const name = freshName("foreign");
    const current = await newUser(server, name, "old-password");
    const foreign = await newUser(server, `${name}_clone`, "somebody-else");
    await run(server, `grant process on *.* to ${name}_clone@'%'`);
    const pending = await mysql.create(current, "alternating-users", tools());
    const versions = { current, pending, previous: undefined, admin: adminOf(server) };
    assert.equal(await failure(mysql.set(versions, "alternating-users", tools())), "invalid");
    assert.equal(await mysql.probe(foreign, tools()), "ok");
  });

  test("alternating users name what is missing: superuser, same host, room for the name, an open account", async () => {
    const current = await newUser(server, freshName("rules"), "old-password");
    const pending = await mysql.create(current, "alternating-users", tools());
    const versions = { current, pending, previous: undefined, admin: adminOf(server) };
    const set = (changed: object) => failure(mysql.set({ ...versions, ...changed }, "alternating-users", tools()));
    assert.equal(await set({ admin: undefined }), "invalid");
    assert.equal(await set({ admin: { ...versions.admin, host: "localhost" } }), "invalid");
    assert.equal(await set({ pending: { ...pending, username: "root" } }), "invalid");
    assert.equal(await failure(mysql.create({ ...current, username: "x".repeat(76) }, "alternating-users", tools())), "invalid");
    assert.equal(await set({ admin: current }), "denied");
    await run(server, `create user ${pending.username}@'%' identified by 'x' account lock`);
    assert.equal(await set({}), "locked");
  });

  test("single user: whichever version is in force is used; a superuser only when none is", async () => {
    const name = freshName("versions");
    const current = await newUser(server, name, "v1");
    const version = (password: string) => ({ ...current, password });
    const set = async (inForce: string, admin?: DatabaseCredential) => {
      await run(server, `alter user ${name}@'%' identified by '${inForce}'`);
      await mysql.set({ current: version("v1"), pending: version("v2"), previous: version("v0"), admin }, "single-user", tools());
    };
    for (const inForce of ["v1", "v2", "v0"]) {
      await set(inForce);
      assert.equal(await mysql.probe(version("v2"), tools()), "ok");
    }
    assert.equal(await failure(set("changed-by-hand")), "refused");
    await set("changed-by-hand", adminOf(server));
    assert.equal(await mysql.probe(version("v2"), tools()), "ok");
  });

  test("a call left over from a worker that stalled is ended before the password changes again", async () => {
    const current = await newUser(server, freshName("late"), "old-password");
    const pending = await mysql.create(current, "single-user", tools());
    const holder = await server.connect();
    await holder.query("flush tables with read lock"); // the stalled call waits behind it
    const stalled = mysql.set({ current, pending, previous: undefined, admin: undefined }, "single-user", tools());
    const outcome = failure(stalled, pending.password);
    const waiting = "select 1 from information_schema.processlist where info like 'set password%' and id <> connection_id()";
    while ((await run(server, waiting)).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    const next = await mysql.create(current, "single-user", tools());
    const again = mysql.set({ current, pending: next, previous: undefined, admin: undefined }, "single-user", tools());
    assert.equal(await outcome, "unknown");
    await holder.query("unlock tables");
    await holder.end();
    await again;
    assert.equal(await mysql.probe(next, tools()), "ok");
  });

  test("unreachable, silent, full and unfit servers are told apart", async (context) => {
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
      mysql.probe({ ...credential, ...changed }, { ...tools(), deadlineAt: Date.now() + ms });
    assert.equal(await probe({ port: portOf(silent) }, 200), "timeout");
    assert.equal(await probe({ port: portOf(hangingUp) }), "unreachable");
    assert.equal(await probe({ host: "no-such-host.invalid" }), "unreachable");
    assert.equal(await probe({ dbname: "no such database" }), "invalid");
    assert.equal(await probe({ ssl: true }), "tls");
    assert.equal(await probe({ sslrootcert: "/no/such/file" }), "invalid");
    const locked = await newUser(server, freshName("locked"), "x", "account lock");
    assert.equal(await probe(locked), "locked");
    const expired = await newUser(server, freshName("expired"), "x", "password expire");
    assert.equal(await probe(expired), "expired");
    const ssl = await newUser(server, freshName("ssl"), "x", "require ssl");
    assert.equal(await probe(ssl), "refused", "MariaDB says no more");
  });
});

test("mysql over TLS: verified or not at all", { skip: mariadbTlsSkip }, async () => {
  await using server = await startMariaDb({ tls: true });
  const probe = (changed: object) => mysql.probe({ ...adminOf(server), ...changed }, tools());
  const pem = readFileSync(server.caFile ?? "", "utf8");
  assert.equal(await probe({}), "tls", "TLS that cannot be verified is not given up silently");
  assert.equal(await probe({ ssl: true }), "tls");
  assert.equal(await probe({ ssl: true, sslrootcert: server.caFile }), "ok");
  assert.equal(await probe({ sslrootcert: pem }), "ok");
  assert.equal(await probe({ host: "127.0.0.2", sslrootcert: pem }), "unreachable");
  assert.equal(await probe({ ssl: false }), "ok");
});
