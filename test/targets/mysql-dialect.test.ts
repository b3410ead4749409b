// MySQL 8's dialect over a wire fake of ours, not over a MySQL: see test/support/mysql-wire.ts.
import assert from "node:assert/strict";
import { randomInt, randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { generatePassword, rotationPasswordOptions } from "../../src/core/password.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { mysql } from "../../src/targets/mysql.ts";
import type { RotatorTools, Strategy } from "../../src/targets/target.ts";
import { type MySqlWire, type MySqlWireOptions, startMySqlWire } from "../support/mysql-wire.ts";
import { accountText, type User } from "../support/mysql-wire-accounts.ts";
import { store } from "../support/mysql-wire-auth.ts";
import { hasOpenssl, makeCertificate, unlessCi } from "../support/server-process.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

const own = "APPLICATION_PASSWORD_ADMIN ON *.*";
const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

function newUser(wire: MySqlWire, username: string, password: string, grants: readonly string[] = []): DatabaseCredential {
  const made = wire.accounts.add(username, "%", password);
  for (const grant of grants) made.grants.set(grant, false);
  return { engine: "mysql", host: wire.host, port: wire.port, username, password };
}

const adminOf = ({ host, port, user, password }: MySqlWire): DatabaseCredential => ({
  engine: "mysql",
  host,
  port,
  username: user,
  password,
});

const userOf = (wire: MySqlWire, name: string): User => wire.accounts.find(name, "%") ?? assert.fail(`no user ${name}`);
const probe = (credential: DatabaseCredential) => mysql.probe(credential, tools());

async function rotated(strategy: Strategy, current: DatabaseCredential, admin?: DatabaseCredential): Promise<DatabaseCredential> {
  const generate: RotatorTools["generatePassword"] = (asked) => generatePassword(rotationPasswordOptions(asked), randomInt);
  const pending = await mysql.create(current, strategy, tools(generate));
  await mysql.set({ current, pending, previous: undefined, admin }, strategy, tools());
  await mysql.test(pending, tools());
  return pending;
}

for (const plugin of ["caching_sha2_password", "mysql_native_password"] as const) {
  describe(`MySQL's dialect over a wire fake: ${plugin}`, () => {
    let wire: MySqlWire;
    let trusting: MySqlWire;
    let stopped: MySqlWire;
    before(async () => {
      const start = (options: MySqlWireOptions = {}) => startMySqlWire({ plugin, ...options });
      [wire, trusting, stopped] = await Promise.all([start(), start({ trusting: true }), start()]);
      await stopped.stop();
    });
    after(async () => {
      for (const one of [wire, trusting]) await one.stop();
    });

    rotatorContract<DatabaseCredential>(
      () => ({
        rotator: mysql,
        newUser: async (name, password) => newUser(wire, name, password, [own]),
        admin: adminOf(wire),
        atStoppedServer: (credential) => ({ ...credential, port: stopped.port }),
        atTrustingServer: (credential) => ({ ...credential, port: trusting.port }),
        withPassword: (credential, password) => ({ ...credential, password }),
        passwordOf: ({ password }) => password,
        serverLog: () => wire.log(),
        names: ["plain", 'odd "name', "näme with 'quotes'", "back\\slash", "UPPER%s$1"],
      }),
      ["single-user", "alternating-users", "dual-slot"],
    );
  });
}

describe("two passwords of one MySQL user, over a wire fake", () => {
  let wire: MySqlWire;
  before(async () => {
    wire = await startMySqlWire();
  });
  after(() => wire.stop());

  const prefers = (current: DatabaseCredential, admin?: DatabaseCredential, asked: Strategy = "single-user") =>
    mysql.prefer?.({ current, admin }, asked, tools());

  test("are taken where the server has them and somebody may set them", async () => {
    const plain = newUser(wire, freshName("plain"), "p");
    assert.equal(await prefers(plain), "single-user");
    assert.equal(await prefers(newUser(wire, freshName("own"), "p", [own])), "dual-slot");
    assert.equal(await prefers(newUser(wire, freshName("own"), "p", ["CREATE USER ON *.*"])), "dual-slot");
    assert.equal(await prefers(newUser(wire, freshName("own"), "p", ["SELECT ON `CREATE USER`.*"])), "single-user");
    assert.equal(await prefers(plain, adminOf(wire)), "dual-slot");
    assert.equal(
      await prefers(plain, newUser(wire, freshName("no_admin"), "p", [own])),
      "single-user",
      "its own right is not for others",
    );
    assert.equal(await prefers(plain, adminOf(wire), "alternating-users"), "alternating-users");
    assert.equal(await prefers({ ...plain, password: "wrong" }), "single-user");
    await using older = await startMySqlWire({ version: "8.0.13" });
    assert.equal(await prefers(newUser(older, "own", "p", [own]), adminOf(older)), "single-user");
    await older.stop();
    assert.equal(await failure(Promise.resolve(prefers(adminOf(older))), older.password), "unreachable");
  });

  test("both log in until the old one is retired, with the user's own right or the superuser's", async () => {
    for (const admin of [undefined, adminOf(wire)]) {
      const first = newUser(wire, freshName("dual"), "first", admin ? [] : [own]);
      const second = await rotated("dual-slot", first, admin);
      assert.deepEqual([await probe(first), await probe(second)], ["ok", "ok"]);
      await mysql.retire?.(first, { current: second, admin }, "dual-slot", tools());
      assert.deepEqual([await probe(first), await probe(second)], ["refused", "ok"]);
    }
    const without = newUser(wire, freshName("dual"), "first");
    assert.equal(await failure(rotated("dual-slot", without)), "denied");
    assert.equal(await probe(without), "ok");
  });

  test("a set that runs again after a lost answer does not push out the old one", async () => {
    for (const fault of ["before", "after"] as const) {
      const current = newUser(wire, freshName("lost"), "first", [own]);
      const pending = await mysql.create(current, "dual-slot", tools());
      const set = () => mysql.set({ current, pending, previous: undefined, admin: undefined }, "dual-slot", tools());
      wire.fault = (text) => (/retain current password/.test(text) ? fault : undefined);
      assert.equal(await failure(set(), pending.password), "unknown");
      wire.fault = () => undefined;
      assert.equal(await probe(pending), fault === "after" ? "ok" : "refused");
      for (const _ of ["again", "and again"]) await set();
      assert.deepEqual([await probe(current), await probe(pending)], ["ok", "ok"]);
    }
  });

  test("the current one stays good when it is the secondary, after a rotation that was given up", async () => {
    for (const admin of [undefined, adminOf(wire)]) {
      const current = newUser(wire, freshName("given_up"), "first", admin ? [] : [own]);
      const abandoned = await rotated("dual-slot", current, admin);
      const pending = await rotated("dual-slot", current, admin);
      assert.deepEqual([await probe(current), await probe(abandoned), await probe(pending)], ["ok", "refused", "ok"]);
      await mysql.retire?.(current, { current: pending, admin }, "dual-slot", tools());
      assert.deepEqual([await probe(current), await probe(pending)], ["refused", "ok"]);
    }
  });

  test("retirement ends the old one even where it is the primary, as after a way back", async () => {
    const old = newUser(wire, freshName("back"), "first", [own]);
    const tried = await rotated("dual-slot", old);
    await mysql.retire?.(tried, { current: old, admin: undefined }, "dual-slot", tools());
    assert.deepEqual([await probe(old), await probe(tried)], ["ok", "refused"]);
    const next = await rotated("dual-slot", old);
    assert.deepEqual([await probe(old), await probe(next)], ["ok", "ok"]);
    // Nor does a version that never was in force, or is of another user, end anything.
    await mysql.retire?.({ ...old, password: "never" }, { current: next, admin: undefined }, "dual-slot", tools());
    await mysql.retire?.(next, { current: next, admin: undefined }, "dual-slot", tools());
    const other = newUser(wire, freshName("other"), "first");
    assert.equal(
      await failure(mysql.retire?.(other, { current: next, admin: undefined }, "dual-slot", tools()) ?? Promise.resolve()),
      "invalid",
    );
    assert.deepEqual([await probe(old), await probe(next), await probe(other)], ["ok", "ok", "ok"]);
  });

  test("a single user may log in with the secondary one too", async () => {
    const current = newUser(wire, freshName("secondary"), "first", [own]);
    await rotated("dual-slot", current);
    const next = await rotated("single-user", current);
    assert.equal(await probe(next), "ok");
  });

  test("when neither logs in, nothing is kept and the superuser sets it anew", async () => {
    const current = newUser(wire, freshName("changed"), "first", [own]);
    userOf(wire, current.username).primary = store("caching_sha2_password", "by hand");
    assert.equal(await failure(rotated("dual-slot", current), "first"), "refused");
    await rotated("dual-slot", current, adminOf(wire));
  });

  test("policies are told as such", async () => {
    await using strict = await startMySqlWire({ validatePassword: true, passwordHistory: 5 });
    const current = newUser(strict, "strict", "aA1-aA1-", [own]);
    const pending = { ...current, password: "too-simple" };
    for (const strategy of ["single-user", "dual-slot"] as const) {
      const set = mysql.set({ current, pending, previous: undefined, admin: undefined }, strategy, tools());
      assert.equal(await failure(set, "too-simple"), "invalid");
    }
    const made = await rotated("dual-slot", current);
    const back = mysql.set({ current: made, pending: current, previous: undefined, admin: undefined }, "single-user", tools());
    assert.equal(await failure(back, current.password), "invalid", "the reuse policy");
    // Retirement works in spite of it.
    await mysql.retire?.(current, { current: made, admin: undefined }, "dual-slot", tools());
    assert.deepEqual([await probe({ ...current }), await probe(made)], ["refused", "ok"]);
  });
});

describe("users of MySQL, over a wire fake", () => {
  let wire: MySqlWire;
  before(async () => {
    wire = await startMySqlWire();
  });
  after(() => wire.stop());

  test("a clone is like the original in rights, roles and rules, and gets what the original got since", async () => {
    const name = freshName("like");
    const current = newUser(wire, name, "first", ["SELECT ON `app`.`t`", "INSERT (`a`) ON `app`.`t`", "ROLE_ADMIN ON *.*"]);
    const original = userOf(wire, name);
    Object.assign(original, {
      roles: ["reader"],
      defaultRole: "reader",
      requireCurrent: true,
      attribute: { comment: "the application's" },
    });
    const pending = await rotated("alternating-users", current, adminOf(wire));
    const clone = userOf(wire, pending.username);
    const held = ({ grants, roles, defaultRole }: User) => [[...grants.keys()].sort(), roles, defaultRole];
    assert.deepEqual(held(clone), held(original));
    original.grants.set("UPDATE ON `app`.`t`", false);
    const back = await rotated("alternating-users", pending, adminOf(wire));
    assert.equal(back.username, name, "what the original alone got does not keep it from its turn");
    await rotated("alternating-users", back, adminOf(wire));
    assert.ok(clone.grants.has("UPDATE ON `app`.`t`"));
  });

  test("locked and expired users are told apart from a wrong password", async () => {
    const current = newUser(wire, freshName("state"), "first");
    const user = userOf(wire, current.username);
    user.locked = true;
    assert.equal(await probe(current), "locked");
    assert.equal(await probe({ ...current, password: "wrong" }), "refused");
    Object.assign(user, { locked: false, expired: true });
    assert.equal(await probe(current), "expired");
  });

  test("one who requires the current password changes it all the same", async () => {
    const current = newUser(wire, freshName("require"), "first");
    userOf(wire, current.username).requireCurrent = true;
    await rotated("single-user", current);
  });

  test("a superuser without the right is denied", async () => {
    const admin = newUser(wire, freshName("weak"), "p", ["SELECT ON *.*"]);
    const current = newUser(wire, freshName("of"), "first");
    assert.equal(await failure(rotated("alternating-users", current, admin)), "denied");
  });

  test("two named users: the second is made, then they take turns; its mark is its own", async () => {
    const names = [freshName("a"), freshName("b")] as const;
    const first = { ...newUser(wire, names[0], "first", ["SELECT ON `app`.*"]), usernames: [...names] };
    let current: DatabaseCredential = first;
    for (const name of [names[1], names[0], names[1]]) {
      current = await rotated("alternating-users", current, adminOf(wire));
      assert.equal(current.username, name);
    }
    assert.ok(userOf(wire, names[1]).grants.has("SELECT ON `app`.*"));
    const foreign = newUser(wire, freshName("somebody"), "else");
    const attack = { ...first, usernames: [names[0], foreign.username], password: first.password };
    const pending = await mysql.create(attack, "alternating-users", tools());
    const versions = { current: attack, pending, previous: undefined, admin: adminOf(wire) };
    assert.equal(await failure(mysql.set(versions, "alternating-users", tools())), "invalid");
    assert.equal(await probe(foreign), "ok");
    await using older = await startMySqlWire({ version: "8.0.20" });
    const there = { ...newUser(older, "a", "first"), usernames: ["a", "b"] };
    assert.equal(await failure(rotated("alternating-users", there, adminOf(older))), "invalid");
    assert.deepEqual(older.accounts.all.map(accountText), ["`root`@`%`", "`a`@`%`"]);
  });
});

test("MySQL's dialect over TLS: the password goes over verified TLS only", {
  skip: unlessCi(hasOpenssl() ? false : "no openssl"),
}, async (context) => {
  const home = mkdtempSync(join(tmpdir(), "rekey-wire-"));
  context.after(() => rmSync(home, { recursive: true }));
  const cert = readFileSync(makeCertificate(home), "utf8");
  await using wire = await startMySqlWire({ tls: { cert, key: readFileSync(join(home, "server.key"), "utf8") } });
  const current = newUser(wire, "tls", "first", [own]);
  assert.equal(await probe(current), "tls", "TLS that cannot be verified is not given up silently");
  await rotated("dual-slot", { ...current, sslrootcert: cert });
});

test("MySQL's dialect without TLS to another machine: no password goes out, in clear or under the server's key", async () => {
  for (const plugin of ["caching_sha2_password", "mysql_native_password"] as const) {
    await using wire = await startMySqlWire({ plugin });
    const current = { ...newUser(wire, "far", "first", [own]), host: "0.0.0.0" }; // this machine, by a name that does not say so
    const outcome = plugin === "mysql_native_password" ? "ok" : "invalid";
    assert.equal(await probe(current), outcome, "its answer proves the password, and does not tell it");
    assert.equal(await failure(rotated("single-user", current), "first"), "invalid");
    assert.equal(await failure(rotated("dual-slot", current), "first"), "invalid");
    assert.deepEqual(userOf(wire, "far").known, [], "nobody logged in with the password itself");
    assert.doesNotMatch(wire.log(), /alter user/);
  }
});
