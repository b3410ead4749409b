// The real driver against a wire fake: driver-level, not run against a real server.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { sqlserver } from "../../src/targets/sqlserver.ts";
import type { Strategy } from "../../src/targets/target.ts";
import { startFaultyTcp } from "../support/faulty-tcp.ts";
import { hasOpenssl, makeCertificate, unlessCi } from "../support/server-process.ts";
import { type SqlServerWire, startSqlServerWire } from "../support/sqlserver-wire.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

const credentialOf = ({ host, port }: SqlServerWire, username: string, password: string): DatabaseCredential => ({
  engine: "sqlserver",
  host,
  port,
  username,
  password,
  ssl: false,
});

function newLogin(server: SqlServerWire, username: string, password: string): DatabaseCredential {
  server.catalog.addLogin(username, password);
  return credentialOf(server, username, password);
}

function adminOf(server: SqlServerWire): DatabaseCredential {
  server.catalog.addLogin("sa", "admin-password").roles.add("sysadmin");
  return credentialOf(server, "sa", "admin-password");
}

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

/** What a rotation of this login hands over. */
async function versionsFor(server: SqlServerWire, current: DatabaseCredential, strategy: Strategy) {
  const pending = await sqlserver.create(current, strategy, tools());
  return { current, pending, previous: undefined, admin: strategy === "alternating-users" ? adminOf(server) : undefined };
}

describe("sqlserver on a wire fake", () => {
  let server: SqlServerWire;
  let trusting: SqlServerWire;
  let stoppedPort: number;
  before(async () => {
    [server, trusting] = await Promise.all([startSqlServerWire(), startSqlServerWire({ acceptsAnyPassword: true })]);
    await using stopped = await startSqlServerWire();
    stoppedPort = stopped.port;
  });
  after(async () => {
    for (const one of [server, trusting]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: sqlserver,
      newUser: async (name, password) => newLogin(server, name, password),
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stoppedPort }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.catalog.log(),
      passwords: ["n'e\\w\"''", "$1; -- ]", "pass wörd\u00a0x", "x".repeat(128)],
    }),
    ["single-user", "alternating-users"],
  );

  const connect = { state: "GRANT", permission: "CONNECT", class: "DATABASE" };

  test("the clone is like the original on the server and in every database, and follows it", async () => {
    const name = freshName("li]ke");
    const current = newLogin(server, name, "old-password");
    const login = server.catalog.logins.get(name);
    login?.roles.add("dbcreator");
    login?.permissions.push({ state: "GRANT", permission: "VIEW SERVER STATE", class: "SERVER" });
    const permissions = [
      connect,
      { state: "GRANT", permission: "SELECT", class: "OBJECT_OR_COLUMN", schema: "s", object: "o]'t", column: "c" },
      { state: "GRANT", permission: "SELECT", class: "OBJECT_OR_COLUMN", schema: "s", object: "t" },
      { state: "DENY", permission: "DELETE", class: "OBJECT_OR_COLUMN", schema: "s", object: "t" },
      { state: "GRANT_WITH_GRANT_OPTION", permission: "EXECUTE", class: "SCHEMA", schema: "s" },
      { state: "REVOKE", permission: "SELECT", class: "OBJECT_OR_COLUMN", schema: "s", object: "t", column: "secret" },
    ];
    const user = { login: name, schema: "s", roles: new Set(["db_datareader"]), permissions };
    server.catalog.databases.set("app]'s", new Map([["somebody", user]]));
    server.catalog.databases.set("owned", new Map([["dbo", { ...user, schema: "dbo", roles: new Set(), permissions: [] }]]));
    const versions = await versionsFor(server, current, "alternating-users");
    await sqlserver.set(versions, "alternating-users", tools());
    const clone = `${name}_clone`;
    const made = () => server.catalog.databases.get("app]'s")?.get(clone);
    assert.deepEqual(server.catalog.logins.get(clone)?.roles, login?.roles);
    assert.deepEqual(server.catalog.logins.get(clone)?.permissions, login?.permissions);
    assert.deepEqual(made(), { ...user, login: clone });
    assert.deepEqual(server.catalog.databases.get("owned")?.get(clone)?.roles, new Set(["db_owner"]));
    user.roles.add("db_datawriter");
    const next = await sqlserver.create(current, "alternating-users", tools());
    await sqlserver.set({ ...versions, pending: next }, "alternating-users", tools());
    assert.deepEqual(made()?.roles, user.roles, "what was granted since");
    for (const gone of ["app]'s", "owned"]) server.catalog.databases.delete(gone);
  });

  test("two named logins take turns: a superuser sets the other's password, or each changes its own", async () => {
    const usernames = ["first", "second"].map(freshName) as [string, string];
    const [first, second] = usernames.map((name) => ({ ...newLogin(server, name, `old-of-${name}`), usernames }));
    if (!first || !second) return assert.fail();
    const pending = await sqlserver.create(first, "alternating-users", tools());
    assert.equal(pending.username, second.username);
    const versions = { current: first, pending, previous: second, admin: undefined };
    const elsewhere = { ...second, host: "other.internal" };
    for (const [given, message] of [
      [{ previous: undefined }, /need masterarn/],
      [{ previous: elsewhere }, /host of the previous version/],
      [{ pending: { ...pending, usernames: [second.username, "stranger"] } }, /is not the other one/],
    ] as const)
      await assert.rejects(sqlserver.set({ ...versions, ...given }, "alternating-users", tools()), message);
    assert.equal(await sqlserver.probe(second, tools()), "ok", "nothing was changed");
    for (const _ of ["once", "again"]) await sqlserver.set(versions, "alternating-users", tools());
    assert.deepEqual(await Promise.all([pending, first, second].map((one) => sqlserver.probe(one, tools()))), [
      "ok",
      "ok",
      "refused",
    ]);
    assert.deepEqual(await sqlserver.check?.({ current: pending, admin: undefined }, "alternating-users", tools()), []);
    const next = await sqlserver.create(pending, "alternating-users", tools());
    const admin = adminOf(server);
    await sqlserver.set({ current: pending, pending: next, previous: undefined, admin }, "alternating-users", tools());
    assert.deepEqual([next.username, await sqlserver.probe(next, tools())], [first.username, "ok"]);
  });

  test("a right that cannot be copied is reported before anything is made, and by check", async () => {
    const name = freshName("odd");
    const current = newLogin(server, name, "old-password");
    const certificate = { state: "GRANT", permission: "CONTROL", class: "CERTIFICATE" };
    server.catalog.databases.set(
      "odd",
      new Map([[name, { login: name, schema: "dbo", roles: new Set(), permissions: [certificate] }]]),
    );
    const versions = await versionsFor(server, current, "alternating-users");
    assert.equal(await failure(sqlserver.set(versions, "alternating-users", tools())), "invalid");
    assert.ok(!server.catalog.logins.has(`${name}_clone`));
    const findings = await sqlserver.check?.(versions, "alternating-users", tools());
    assert.match(String(findings?.[0]?.problem), /CONTROL on a certificate/);
    server.catalog.databases.delete("odd");
    assert.deepEqual(await sqlserver.check?.(versions, "alternating-users", tools()), []);
    const weak = await sqlserver.check?.({ ...versions, admin: current }, "alternating-users", tools());
    assert.match(String(weak?.[0]?.problem), /lacks ALTER ANY LOGIN/);
  });

  test("nobody has a stranger's password set by naming a secret's login after them", async () => {
    const name = freshName("stranger");
    const current = newLogin(server, name, "old-password");
    const stranger = newLogin(server, `${name}_clone`, "strangers-password");
    server.catalog.logins.get(`${name}_clone`)?.roles.add("securityadmin");
    const versions = await versionsFor(server, current, "alternating-users");
    assert.equal(await failure(sqlserver.set(versions, "alternating-users", tools())), "invalid");
    const posing = newLogin(server, "sa_clone", "old-password");
    const back = await versionsFor(server, posing, "alternating-users");
    assert.equal(back.pending.username, "sa");
    assert.equal(await failure(sqlserver.set(back, "alternating-users", tools())), "invalid");
    for (const live of [stranger, adminOf(server)]) assert.equal(await sqlserver.probe(live, tools()), "ok");
  });

  test("a user of a contained database keeps its password there, alone or in a pair", async () => {
    const name = freshName("contained");
    const user = { password: "old-password", schema: "dbo", roles: new Set(["db_datareader"]), permissions: [connect] };
    server.catalog.databases.set("contained", new Map([[name, user]]));
    const current = { ...credentialOf(server, name, "old-password"), dbname: "contained" };
    const other = await versionsFor(server, current, "alternating-users");
    for (const _ of ["once", "again"]) await sqlserver.set(other, "alternating-users", tools());
    assert.equal(await sqlserver.probe(other.pending, tools()), "ok");
    assert.deepEqual(server.catalog.databases.get("contained")?.get(`${name}_clone`)?.roles, user.roles);
    assert.ok(!server.catalog.logins.has(`${name}_clone`));
    const own = await versionsFor(server, current, "single-user");
    await sqlserver.set(own, "single-user", tools());
    assert.equal(await sqlserver.probe(own.pending, tools()), "ok");
    assert.equal(await sqlserver.probe(current, tools()), "refused");
    server.catalog.databases.delete("contained");
  });

  test("single user: whichever version is in force is used; a superuser only when none is", async () => {
    const name = freshName("versions");
    const current = newLogin(server, name, "version-1");
    const version = (password: string) => ({ ...current, password });
    const set = async (inForce: string, admin?: DatabaseCredential) => {
      server.catalog.addLogin(name, inForce);
      const versions = { current: version("version-1"), pending: version("version-2"), previous: version("version-0"), admin };
      await sqlserver.set(versions, "single-user", tools());
      assert.equal(await sqlserver.probe(version("version-2"), tools()), "ok");
    };
    for (const inForce of ["version-1", "version-2", "version-0"]) await set(inForce);
    assert.equal(await failure(set("changed-by-hand")), "refused");
    await set("changed-by-hand", adminOf(server));
  });

  test("a rotation and its probes keep an account that tolerates three failures open", async () => {
    await using strict = await startSqlServerWire({ lockAfter: 3 });
    let current = newLogin(strict, "strict", "old-password");
    for (let turn = 0; turn < 4; turn++) {
      const versions = await versionsFor(strict, current, "single-user");
      for (const _ of ["once", "again"]) await sqlserver.set(versions, "single-user", tools());
      await sqlserver.test(versions.pending, tools());
      current = versions.pending;
    }
    const wrong = { ...current, password: "wrong" };
    for (let count = 0; count < 3; count++) assert.equal(await sqlserver.probe(wrong, tools()), "refused");
    assert.equal(await sqlserver.probe(current, tools()), "locked");
  });

  test("a connection that is cut leaves an unknown outcome, which the next call repairs", async () => {
    for (const strategy of ["single-user", "alternating-users"] as const) {
      for (const fault of ["cut-before", "cut-after"] as const) {
        const versions = await versionsFor(server, newLogin(server, freshName("cut"), "old-password"), strategy);
        server.fail(fault);
        assert.equal(await failure(sqlserver.set(versions, strategy, tools()), versions.pending.password), "unknown");
        assert.equal(await sqlserver.probe(versions.pending, tools()), fault === "cut-after" ? "ok" : "refused");
        await sqlserver.set(versions, strategy, tools());
        assert.equal(await sqlserver.probe(versions.pending, tools()), "ok");
      }
    }
  });

  test("a call left over from a worker that stalled is ended before the password changes again", async () => {
    const versions = await versionsFor(server, newLogin(server, freshName("late"), "old-password"), "alternating-users");
    await sqlserver.set(versions, "alternating-users", tools());
    const changes = () => server.catalog.log().split("password = ***").length;
    const before = changes();
    const release = server.catalog.hold();
    const late = sqlserver.set(
      { ...versions, pending: { ...versions.pending, password: "canary-late" } },
      "alternating-users",
      tools(),
    );
    const stalled = failure(late, "canary-late");
    while (changes() === before) await delay(5);
    const next = await sqlserver.create(versions.current, "alternating-users", tools());
    const named = tools();
    const again = sqlserver.set({ ...versions, pending: next }, "alternating-users", named);
    assert.equal(await stalled, "unknown");
    release();
    await again;
    assert.equal(await sqlserver.probe(next, tools()), "ok");
    assert.ok([...server.applications].some((application) => application.includes(named.rotationId)));
  });

  test("a login without the right to end an earlier call waits for it, and no longer than its deadline", async () => {
    const versions = await versionsFor(server, newLogin(server, freshName("wait"), "old-password"), "single-user");
    const release = server.catalog.hold();
    const first = sqlserver.set(versions, "single-user", { ...tools(), deadlineAt: Date.now() + 10_000 });
    await delay(300);
    const second = sqlserver.set(versions, "single-user", { ...tools(), deadlineAt: Date.now() + 2_500 });
    assert.equal(await failure(second), "timeout");
    release();
    await first;
    assert.equal(await sqlserver.probe(versions.pending, tools()), "ok");
  });

  test("a change that hangs ends with its deadline", async () => {
    const versions = await versionsFor(server, newLogin(server, freshName("hang"), "old-password"), "single-user");
    const release = server.catalog.hold();
    const late = { ...tools(), deadlineAt: Date.now() + 1_500 };
    assert.equal(await failure(sqlserver.set(versions, "single-user", late), versions.pending.password), "unknown");
    release();
  });

  test("unreachable, silent and unfit servers and accounts are told apart", async () => {
    const current = newLogin(server, freshName("apart"), "old-password");
    await using silent = await startFaultyTcp("silence");
    await using hangingUp = await startFaultyTcp("hang up");
    const probe = (changed: object, ms = 120_000) =>
      sqlserver.probe({ ...current, ...changed }, { ...tools(), deadlineAt: Date.now() + ms });
    assert.equal(await probe({ port: silent.port }, 300), "timeout");
    while (silent.open() > 0) await delay(10); // the deadline ends the sockets
    assert.equal(await probe({ port: hangingUp.port }), "unreachable");
    assert.equal(await probe({ host: "no-such-host.invalid", ssl: true }), "unreachable");
    assert.equal(await probe({ host: "192.0.2.1" }), "invalid", "no password in the open");
    assert.equal(await probe({ ssl: true }), "tls", "a server without TLS is told no password");
    assert.equal(await probe({ ssl: undefined }), "tls");
    assert.equal(await probe({ dbname: "no such database" }), "invalid");
    assert.equal(await probe({ sslrootcert: "/no/such/file" }), "invalid");
    for (const [state, outcome] of [
      [{ disabled: true }, "locked"],
      [{ mustChange: true }, "expired"],
    ] as const) {
      const name = freshName("state");
      server.catalog.addLogin(name, "old-password", state);
      assert.equal(await probe({ username: name }), outcome);
      assert.equal(await probe({ username: name, password: "wrong" }), "refused");
    }
    const versions = await versionsFor(server, current, "single-user");
    const short = { ...versions, pending: { ...versions.pending, password: "short" } };
    assert.equal(await failure(sqlserver.set(short, "single-user", tools())), "invalid", "the password policy");
  });
});

const tlsSkip = unlessCi(hasOpenssl() ? false : "no openssl to make a certificate");

test("sqlserver over TLS, on a wire fake: verified or not at all", { skip: tlsSkip }, async (context) => {
  const home = mkdtempSync(join(tmpdir(), "rekey-sqlserver-"));
  context.after(() => rmSync(home, { recursive: true }));
  const pem = readFileSync(makeCertificate(home), "utf8");
  await using server = await startSqlServerWire({ tls: { cert: pem, key: readFileSync(join(home, "server.key")) } });
  const { ssl, ...current } = newLogin(server, "app", "old-password");
  const probe = (changed: object) => sqlserver.probe({ ...current, ...changed }, tools());
  assert.equal(await probe({}), "tls", "no TLS that cannot be verified, and never without");
  assert.equal(await probe({ sslrootcert: join(home, "server.crt") }), "ok");
  assert.equal(await probe({ host: "localhost", ssl: true, sslrootcert: pem }), "ok");
  assert.equal(await probe({ ssl: false }), "tls", "the server insists");
  const trusted = { ...current, sslrootcert: pem };
  const admin = { ...adminOf(server), ssl: true, sslrootcert: pem };
  const pending = await sqlserver.create(trusted, "alternating-users", tools());
  await sqlserver.set({ current: trusted, pending, previous: undefined, admin }, "alternating-users", tools());
  assert.equal(await sqlserver.probe(pending, tools()), "ok");
});
