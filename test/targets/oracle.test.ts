// At the driver's boundary: an object stands in for node-oracledb. Not run against a real server, nor its protocol; the real
// driver is met by faults of the network and by a listener's refusal only.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { oracle, oracleRotator } from "../../src/targets/oracle.ts";
import type { Strategy } from "../../src/targets/target.ts";
import { startFaultyTcp } from "../support/faulty-tcp.ts";
import { type OracleDouble, oracleDouble } from "../support/oracle-driver.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

const ports = { port: 1521, stopped: 1522, untrusted: 1523 };

const credentialOf = (username: string, password: string): DatabaseCredential => ({
  engine: "oracle",
  host: "db.example",
  port: ports.port,
  username,
  password,
  dbname: "ORCL",
  ssl: true,
});

function newUser(double: OracleDouble, username: string, password: string, rolloverDays = 0): DatabaseCredential {
  double.addUser(/^[A-Za-z]\w*$/.test(username) ? username.toUpperCase() : username, password, { rolloverDays });
  return credentialOf(username, password);
}

const dba = { roles: new Map([["DBA", { admin: true, byDefault: true }]]) };

for (const strategy of ["single-user", "alternating-users", "dual-slot"] as const) {
  describe(`oracle at its driver's boundary, ${strategy}`, () => {
    const double = oracleDouble({ port: ports.port, untrustedPort: ports.untrusted });
    double.addUser("SYSTEM", "admin-password", dba);
    rotatorContract<DatabaseCredential>(
      () => ({
        rotator: oracleRotator(async () => double),
        newUser: async (name, password) => newUser(double, name, password, strategy === "dual-slot" ? 1 : 0),
        admin: credentialOf("system", "admin-password"),
        atStoppedServer: (credential) => ({ ...credential, port: ports.stopped }),
        atTrustingServer: (credential) => ({ ...credential, port: ports.untrusted }),
        withPassword: (credential, password) => ({ ...credential, password }),
        passwordOf: ({ password }) => password,
        serverLog: () => double.log(),
        names: ["plain", "MiXed", "odd name'; drop ", "näme", "back\\slash"],
        passwords: ["n'e\\w to ''me", "$1; -- drop", "pass wörd\u00a0x", "x".repeat(30)],
        maxPasswordLength: 30,
      }),
      [strategy],
    );
  });
}

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

/** A driver, its rotator, and what a rotation of a user hands over. */
function world(options: { lockAfter?: number } = {}) {
  const double = oracleDouble({ port: ports.port, ...options });
  double.addUser("SYSTEM", "admin-password", dba);
  const rotator = oracleRotator(async () => double);
  const admin = credentialOf("system", "admin-password");
  const versionsFor = async (current: DatabaseCredential, strategy: Strategy) => {
    const pending = await rotator.create(current, strategy, tools());
    return { current, pending, previous: undefined, admin: strategy === "alternating-users" ? admin : undefined };
  };
  return { double, rotator, admin, versionsFor };
}

describe("oracle at its driver's boundary, its own cases", () => {
  test("the clone is like the original, and follows it", async () => {
    const { double, rotator, versionsFor } = world();
    const current = newUser(double, "app", "old-password");
    const original = double.users.get("APP");
    original?.roles.set("READER", { admin: true, byDefault: true });
    original?.roles.set("WRITER", { admin: false, byDefault: false });
    original?.system.set("CREATE TABLE", true);
    original?.quotas.set("USERS", -1);
    const table = { owner: "S", object: "o's", type: "TABLE", grantable: true };
    original?.objects.push(
      { ...table, column: null, privilege: "SELECT" },
      { ...table, column: "c", privilege: "UPDATE", grantable: false },
    );
    original?.objects.push({ owner: "SYS", object: "D", type: "DIRECTORY", column: null, privilege: "READ", grantable: false });
    const versions = await versionsFor(current, "alternating-users");
    await rotator.set(versions, "alternating-users", tools());
    const rights = (name: string) => {
      const { roles, system, quotas, objects, profile } = double.users.get(name) ?? {};
      return { roles, system, quotas, objects, profile };
    };
    assert.deepEqual(rights("APP_CLONE"), rights("APP"));
    original?.system.set("CREATE VIEW", false);
    await rotator.set(
      { ...versions, pending: await rotator.create(current, "alternating-users", tools()) },
      "alternating-users",
      tools(),
    );
    assert.deepEqual(rights("APP_CLONE"), rights("APP"), "what was granted since");
    original?.objects.push({ ...table, type: "JAVA CLASS", column: null, privilege: "EXECUTE" });
    assert.equal(await failure(rotator.set(versions, "alternating-users", tools())), "invalid");
    const findings = await rotator.check?.(versions, "alternating-users", tools());
    assert.match(String(findings?.[0]?.problem), /EXECUTE on java class/);
  });

  test("nobody has a stranger's password set by naming a secret's user after them", async () => {
    const { double, rotator, versionsFor, admin } = world();
    const current = newUser(double, "app", "old-password");
    const stranger = newUser(double, "app_clone", "strangers-password");
    double.users.get("APP_CLONE")?.system.set("ALTER USER", false);
    assert.equal(
      await failure(rotator.set(await versionsFor(current, "alternating-users"), "alternating-users", tools())),
      "invalid",
    );
    const back = await versionsFor(newUser(double, "system_CLONE", "old-password"), "alternating-users");
    assert.equal(back.pending.username, "system");
    assert.equal(await failure(rotator.set(back, "alternating-users", tools())), "invalid");
    for (const live of [stranger, admin]) assert.equal(await rotator.probe(live, tools()), "ok");
  });

  test("a profile with a rollover time is a second slot: the current password is valid at every moment", async () => {
    const { double, rotator, versionsFor } = world();
    const current = newUser(double, "app", "password-1", 1);
    const access = { current, admin: undefined };
    assert.equal(await rotator.prefer?.(access, "single-user", tools()), "dual-slot");
    assert.equal(await rotator.prefer?.(access, "alternating-users", tools()), "alternating-users");
    assert.equal(
      await rotator.prefer?.({ ...access, current: newUser(double, "plain", "x") }, "single-user", tools()),
      "single-user",
    );
    const gone = { ...current, password: "wrong" };
    assert.equal(await rotator.prefer?.({ ...access, current: gone }, "single-user", tools()), "single-user");

    let [previous, now] = [undefined as DatabaseCredential | undefined, current];
    for (let turn = 0; turn < 3; turn++) {
      const abandoned = { ...(await versionsFor(now, "dual-slot")), previous };
      await rotator.set(abandoned, "dual-slot", tools());
      assert.equal(await rotator.probe(now, tools()), "ok", "beside a version that is given up");
      const versions = { ...(await versionsFor(now, "dual-slot")), previous };
      for (const _ of ["once", "again"]) await rotator.set(versions, "dual-slot", tools());
      for (const live of [now, versions.pending]) assert.equal(await rotator.probe(live, tools()), "ok");
      assert.equal(await rotator.probe(abandoned.pending, tools()), "refused");
      [previous, now] = [now, versions.pending];
    }
  });

  test("no password that Oracle would read otherwise, and no address that says more, reaches the driver", async () => {
    const { double, rotator, versionsFor, admin } = world();
    const current = newUser(double, "app", "old-password");
    const versions = await versionsFor(current, "alternating-users");
    const set = (changed: object) =>
      failure(rotator.set({ ...versions, ...changed }, "alternating-users", tools()), 'x" account lock');
    assert.equal(await set({ pending: { ...versions.pending, password: 'x" account lock' } }), "invalid");
    assert.ok(!double.log().includes("account lock"), "the statement is not even sent");
    const probe = (changed: object) => rotator.probe({ ...current, ...changed }, tools());
    assert.equal(await probe({ username: 'a"b' }), "invalid");
    assert.equal(await probe({ host: "db)(PORT=1" }), "invalid");
    assert.equal(await probe({ dbname: "X))(SECURITY=(SSL_SERVER_DN_MATCH=NO)" }), "invalid");
    assert.equal(await probe({ dbname: undefined }), "invalid");
    assert.equal(await probe({ sslrootcert: "-----BEGIN CERTIFICATE-----" }), "invalid", "no wallet");
    const folder = mkdtempSync(join(tmpdir(), "rekey-wallet-"));
    const another = join(folder, "key-of-another.pem");
    writeFileSync(another, "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n");
    const before = double.log().length;
    assert.equal(await probe({ ssl: true, sslrootcert: another }), "invalid", "a key that lies on the server is shown to nobody");
    assert.equal(double.log().length, before);
    rmSync(folder, { recursive: true });
    const open = { ...admin, ssl: undefined };
    assert.equal(await set({ admin: open }), "invalid", "a password in a statement, and nothing said about TLS");
    await rotator.set({ ...versions, admin: { ...open, ssl: false } }, "alternating-users", tools());
    const findings = await rotator.check?.({ current, admin: open }, "alternating-users", tools());
    assert.match(String(findings?.[0]?.problem), /tell Oracle the password itself/);
  });

  test("single user: whichever version is in force is used; a superuser only when none is", async () => {
    const { double, rotator, admin } = world();
    const version = (password: string) => credentialOf("app", password);
    const set = async (inForce: string, superuser?: DatabaseCredential) => {
      double.addUser("APP", inForce);
      const versions = { current: version("version-1"), pending: version("version-2"), previous: version("version-0") };
      await rotator.set({ ...versions, admin: superuser }, "single-user", tools());
      assert.equal(await rotator.probe(version("version-2"), tools()), "ok");
    };
    for (const inForce of ["version-1", "version-2", "version-0"]) await set(inForce);
    assert.equal(await failure(set("changed-by-hand")), "refused");
    await set("changed-by-hand", admin);
  });

  test("a rotation and its probes keep an account that tolerates three failures open", async () => {
    const { double, rotator, versionsFor } = world({ lockAfter: 3 });
    for (const [strategy, rolloverDays] of [
      ["single-user", 0],
      ["dual-slot", 1],
    ] as const) {
      let current = newUser(double, "app", "old-password", rolloverDays);
      let previous: DatabaseCredential | undefined;
      for (let turn = 0; turn < 4; turn++) {
        const versions = { ...(await versionsFor(current, strategy)), previous };
        for (const _ of ["once", "again"]) await rotator.set(versions, strategy, tools());
        await rotator.test(versions.pending, tools());
        [previous, current] = [current, versions.pending];
      }
    }
  });

  test("a connection that is cut, or hangs, leaves an unknown outcome, which the next call repairs", async () => {
    const { double, rotator, versionsFor } = world();
    for (const strategy of ["single-user", "alternating-users", "dual-slot"] as const) {
      for (const fault of ["cut-before", "cut-after", "hang"] as const) {
        const versions = await versionsFor(
          newUser(double, freshName("cut"), "old-password", strategy === "dual-slot" ? 1 : 0),
          strategy,
        );
        double.fail(fault);
        const soon = { ...tools(), deadlineAt: Date.now() + (fault === "hang" ? 200 : 120_000) };
        assert.equal(await failure(rotator.set(versions, strategy, soon), versions.pending.password), "unknown");
        await rotator.set(versions, strategy, tools());
        assert.equal(await rotator.probe(versions.pending, tools()), "ok");
      }
    }
  });

  test("a session left over from a worker that stalled is ended before the password changes again", async () => {
    const { double, rotator, versionsFor } = world();
    const versions = await versionsFor(newUser(double, "app", "old-password"), "alternating-users");
    const left = await double.getConnection({ connectString: `PORT=${ports.port}`, user: "system", password: "admin-password" });
    await rotator.set(versions, "alternating-users", tools());
    left.clientId = [...double.clientIds][0] ?? "";
    const named = tools();
    await rotator.set(
      { ...versions, pending: await rotator.create(versions.current, "alternating-users", tools()) },
      "alternating-users",
      named,
    );
    await assert.rejects(left.execute('select 1 as "one" from dual', {}, { outFormat: 0 }), { code: "NJS-500" });
    assert.ok([...double.clientIds].some((id) => id.includes(named.rotationId) && Buffer.byteLength(id) <= 64));
  });

  test("locked and expired accounts and missing rights are told apart from a wrong password", async () => {
    const { double, rotator, versionsFor, admin } = world();
    const current = newUser(double, "app", "old-password");
    const user = double.addUser("APP", "old-password", { locked: true });
    assert.equal(await rotator.probe(current, tools()), "locked");
    assert.equal(
      await failure(rotator.set(await versionsFor(current, "alternating-users"), "alternating-users", tools())),
      "locked",
    );
    Object.assign(user, { locked: false, expired: true });
    assert.equal(await rotator.probe(current, tools()), "expired");
    assert.equal(await rotator.probe({ ...current, password: "wrong" }, tools()), "refused");
    Object.assign(user, { expired: false });
    user.system.clear();
    assert.equal(await rotator.probe(current, tools()), "denied");
    user.system.set("CREATE SESSION", false);
    const versions = await versionsFor(current, "alternating-users");
    assert.equal(
      await failure(rotator.set({ ...versions, admin: current }, "alternating-users", tools())),
      "denied",
      "it cannot see users",
    );
    const short = { ...(await versionsFor(current, "single-user")), pending: { ...current, password: "short" } };
    assert.equal(await failure(rotator.set(short, "single-user", tools())), "invalid", "the password policy");
    assert.deepEqual(await rotator.check?.({ current, admin }, "alternating-users", tools()), []);
    assert.deepEqual(await rotator.check?.({ current, admin: undefined }, "single-user", tools()), []);
  });
});

describe("oracle with its real driver, against no database", () => {
  const at = (port: number, changed: object = {}) => ({
    ...credentialOf("app", "canary-value"),
    host: "127.0.0.1",
    ssl: false,
    port,
    ...changed,
  });

  test("silence ends with the deadline, and so do the sockets; who hangs up is unreachable", async () => {
    await using silent = await startFaultyTcp("silence");
    await using hangingUp = await startFaultyTcp("hang up");
    assert.equal(
      await failure(oracle.test(at(silent.port), { ...tools(), deadlineAt: Date.now() + 400 }), "canary-value"),
      "timeout",
    );
    while (silent.open() > 0) await delay(10);
    assert.equal(await oracle.probe(at(hangingUp.port), tools()), "unreachable");
    const { port } = hangingUp;
    await hangingUp[Symbol.asyncDispose]();
    assert.equal(await oracle.probe(at(port), tools()), "unreachable");
    assert.equal(await oracle.probe(at(port, { host: "no-such-host.invalid" }), tools()), "unreachable");
  });

  test("a login that is never answered ends with the deadline, though the driver would wait for ever", async () => {
    const accept = Buffer.alloc(48);
    accept.writeUInt16BE(accept.length, 0);
    accept.writeUInt8(2, 4); // accepted
    accept.writeUInt16BE(318, 8); // version of the protocol
    for (const unit of [32, 36]) accept.writeUInt32BE(8192, unit);
    accept.writeUInt8(12, 23); // no more services to agree on
    await using database = await startFaultyTcp(accept);
    assert.equal(await oracle.probe(at(database.port), { ...tools(), deadlineAt: Date.now() + 400 }), "timeout");
    while (database.open() > 0) await delay(10);
  });

  test("a listener that does not know the service now is unreachable", async () => {
    const text = Buffer.from("(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR=12514)(ERROR_STACK=(ERROR=(CODE=12514)(EMFI=4))))");
    const head = Buffer.from([0, 12 + text.length, 0, 0, 4, 0, 0, 0, 34, 0, 0, text.length]);
    await using listener = await startFaultyTcp(Buffer.concat([head, text]));
    assert.equal(await oracle.probe(at(listener.port), tools()), "unreachable");
    assert.equal(await oracle.probe(at(listener.port, { ssl: true }), tools()), "tls");
  });
});
