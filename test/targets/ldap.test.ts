import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Attribute, Change } from "ldapts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { ldap } from "../../src/targets/ldap.ts";
import { adminOf, freshName, newUser } from "../support/ldap-entries.ts";
import { type SlapdServer, slapdSkip, startSlapd, suffix } from "../support/slapd-server.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

describe("ldap on OpenLDAP", { skip: slapdSkip }, () => {
  let server: SlapdServer;
  let trusting: SlapdServer;
  let stopped: SlapdServer;
  before(async () => {
    [server, trusting, stopped] = await Promise.all([startSlapd(), startSlapd({ trusting: true }), startSlapd()]);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: ldap,
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

  const versionsOf = (current: DatabaseCredential, pending: DatabaseCredential, admin?: DatabaseCredential) => ({
    current,
    pending,
    previous: undefined,
    admin,
  });
  const rotated = async (current: DatabaseCredential): Promise<DatabaseCredential> => {
    const pending = await ldap.create(current, "single-user", tools());
    await ldap.set(versionsOf(current, pending), "single-user", tools());
    await ldap.test(pending, tools());
    return pending;
  };
  const rotationFails = async (current: DatabaseCredential, password?: string): Promise<string> => {
    const made = await ldap.create(current, "single-user", tools());
    const pending = { ...made, password: password ?? made.password };
    return assert
      .rejects(ldap.set(versionsOf(current, pending), "single-user", tools()))
      .then(() => ldap.set(versionsOf(current, pending), "single-user", tools()))
      .then(
        () => assert.fail("it went well"),
        (error: Error & { outcome?: string }) => `${error.outcome}: ${error.message}`,
      );
  };
  const probe = (credential: DatabaseCredential) => ldap.probe(credential, tools());

  test("passwords live as hashes that the server makes", async () => {
    const current = await rotated(await newUser(server, freshName("hash"), "old-password"));
    const [entry] = (await server.asRoot((client) => client.search(current.username, { scope: "base" }))).searchEntries;
    assert.match(String(entry?.userPassword), /^\{SSHA\}/);
  });

  test("without a password one would be logged in as nobody: it is never sent", async () => {
    const current = await newUser(server, freshName("empty"), "old-password");
    const binds = () => server.log().split("BIND dn=").length;
    const before = binds();
    assert.equal(ldap.credential.safeParse({ ...current, password: "" }).success, false);
    assert.equal(await probe({ ...current, password: "" }), "invalid");
    assert.equal(binds(), before);
    assert.equal(ldap.credential.safeParse({ ...current, password: "a\0b" }).success, false);
  });

  test("a username that is no distinguished name is refused: some are read as another way to log in", async () => {
    const current = await newUser(server, freshName("name"), "old-password");
    const takes = (shape: typeof ldap.credential, username: string) =>
      shape.safeParse({ ...current, usernames: undefined, username }).success;
    for (const username of [
      "",
      "EXTERNAL",
      "PLAIN",
      "DIGEST-MD5",
      "SCRAM-SHA-1",
      "app",
      "cn",
      "=x",
      "cn=a,",
      "cn=a,b",
      ",cn=a",
      "cn=a\\",
    ]) {
      assert.equal(takes(ldap.credential, username), false, username);
      assert.equal(takes(ldap.admin ?? ldap.credential, username), false, username);
    }
    for (const username of [
      "cn=a",
      "CN=a, DC=b",
      "cn=a+sn=b,dc=c",
      "2.5.4.3=a,dc=b",
      "cn=a\\,b\\=c\\+,dc=d",
      "cn=a\\2cb,dc=c",
      'cn="q" <x>;,dc=d',
    ])
      assert.equal(takes(ldap.credential, username), true, username);
    for (const username of ["admin@example.com", "EXAMPLE\\admin"]) {
      assert.equal(takes(ldap.credential, username), false, username);
      assert.equal(takes(ldap.admin ?? ldap.credential, username), true, username);
    }
  });

  test("names that look like further parts of a name or a filter are one entry's", async () => {
    for (const name of ["a,cn=admin", "x*)(cn=*", "#sharp", " blank ", "plus+sn=y", 'quote"d;<>', "zero\u00e9\u4e2d"]) {
      const current = await rotated(await newUser(server, `${name}${randomUUID().slice(0, 8)}`, "old-password"));
      assert.equal(await probe(current), "ok", name);
    }
    assert.equal(await ldap.probe(adminOf(server), tools()), "ok");
  });

  test("the superuser sets the password of an entry only that says it belongs to the pair", async () => {
    const current = await newUser(server, freshName("pair"), "old-password");
    const boss = await newUser(server, freshName("boss"), "boss-password");
    const attack = { ...current, usernames: [current.username, boss.username] };
    const pending = await ldap.create(attack, "alternating-users", tools());
    assert.equal(pending.username, boss.username);
    const versions = versionsOf(attack, pending, adminOf(server));
    assert.equal(await failure(ldap.set(versions, "alternating-users", tools())), "invalid");
    const old = { ...boss, usernames: attack.usernames };
    const retire = ldap.retire?.(old, { current: attack, admin: adminOf(server) }, "alternating-users", tools());
    assert.equal(await failure(retire ?? Promise.resolve()), "invalid");
    assert.equal(await probe(boss), "ok");
    const [finding] = (await ldap.check?.(versions, "alternating-users", tools())) ?? [];
    assert.match(finding?.remedy ?? "", /seeAlso/);
  });

  test("a pre-flight of what is right finds nothing", async () => {
    const current = await newUser(server, freshName("fine"), "old-password");
    const check = (strategy: "single-user" | "alternating-users", admin?: DatabaseCredential) =>
      ldap.check?.({ current, admin }, strategy, tools());
    assert.deepEqual(await check("single-user"), []);
    assert.deepEqual(await check("alternating-users", adminOf(server)), []);
    const { usernames: _, ...alone } = current;
    const found = await ldap.check?.(
      { current: alone as DatabaseCredential, admin: adminOf(server) },
      "alternating-users",
      tools(),
    );
    assert.deepEqual(
      found?.map(({ step }) => step),
      ["createSecret"],
    );
    assert.equal(await failure(ldap.create(alone as DatabaseCredential, "alternating-users", tools())), "invalid");
  });

  test("whichever version is in force is used; a superuser only when none is", async () => {
    const current = await newUser(server, freshName("versions"), "v1");
    const version = (password: string) => ({ ...current, password });
    const set = async (inForce: string, admin?: DatabaseCredential) => {
      const change = new Change({
        operation: "replace",
        modification: new Attribute({ type: "userPassword", values: [inForce] }),
      });
      await server.asRoot((client) => client.modify(current.username, change));
      const versions = { current: version("v1"), pending: version("v2"), previous: version("v0"), admin };
      await ldap.set(versions, "single-user", tools());
      return probe(version("v2"));
    };
    for (const inForce of ["v0", "v1", "v2"]) assert.equal(await set(inForce), "ok", inForce);
    assert.equal(await failure(set("elsewhere")), "refused");
    assert.equal(await set("elsewhere", adminOf(server)), "ok");
  });

  test("a password that is set already is not set again: a policy would refuse it", async () => {
    const history = await server.addPolicy("history", { pwdInHistory: "3" });
    const current = await newUser(server, freshName("again"), "old-password", { pwdPolicySubentry: history });
    const pending = await ldap.create(current, "single-user", tools());
    for (let turn = 0; turn < 3; turn++) await ldap.set(versionsOf(current, pending), "single-user", tools());
    assert.equal(await probe(pending), "ok");
  });

  test("an old password of the entry that is current went with the change", async () => {
    const old = await newUser(server, freshName("same"), "old-password");
    const current = await rotated(old);
    await ldap.retire?.(old, { current, admin: adminOf(server) }, "alternating-users", tools());
    assert.equal(await probe(current), "ok");
  });

  test("who may not change a password is told so", async () => {
    const name = freshName("fixed");
    const username = `cn=${name},ou=fixed,${suffix}`;
    await server.asRoot((client) =>
      client.add(username, { objectClass: "person", cn: name, sn: "x", userPassword: "old-password" }),
    );
    const { usernames: _, ...fixed } = { ...adminOf(server), username, password: "old-password", usernames: undefined };
    assert.match(await rotationFails(fixed), /^denied: /);
    const current = await newUser(server, freshName("pair"), "old-password");
    const stranger = await newUser(server, freshName("stranger"), "x");
    const pending = await ldap.create(current, "alternating-users", tools());
    const outcome = await failure(ldap.set(versionsOf(current, pending, stranger), "alternating-users", tools()));
    assert.equal(outcome, "invalid", "it may not even see what belongs together");
    const resetter = { ...stranger, username: `cn=resetter,${suffix}` };
    await server.asRoot((client) =>
      client.add(resetter.username, { objectClass: "person", cn: "resetter", sn: "x", userPassword: "x" }),
    );
    await ldap.set(versionsOf(current, pending, resetter), "alternating-users", tools());
    assert.equal(await probe(pending), "ok");
  });

  test("locked, expired and to be changed are told apart from refused, where the policy tells", async () => {
    const policy = (name: string, rules: Record<string, string>) => server.addPolicy(name, rules);
    const locking = await policy("locking", { pwdLockout: "TRUE", pwdMaxFailure: "2" });
    const locked = await newUser(server, freshName("locked"), "x", { pwdPolicySubentry: locking });
    for (let turn = 0; turn < 5; turn++) assert.equal(await probe(locked), "ok", "our own wrong passwords do not add up");
    for (let turn = 0; turn < 2; turn++) assert.equal(await probe({ ...locked, password: "wrong" }), "refused");
    assert.equal(await probe(locked), "locked");
    const strict = await policy("strict", { pwdLockout: "TRUE", pwdMaxFailure: "1" });
    const once = await newUser(server, freshName("once"), "x", { pwdPolicySubentry: strict });
    assert.equal(await probe(once), "locked");

    const short = await policy("short", { pwdMaxAge: "1" });
    const expiring = await newUser(server, freshName("expired"), "x", { pwdPolicySubentry: short });
    while ((await probe(expiring)) === "ok") await sleep(100);
    assert.equal(await probe(expiring), "expired");
    assert.equal(await probe({ ...expiring, password: "wrong" }), "refused");

    const must = await policy("must", { pwdMustChange: "TRUE" });
    const reset = await newUser(server, freshName("reset"), "x", { pwdPolicySubentry: must, pwdReset: "TRUE" });
    assert.equal(await probe(reset), "expired");
  });

  test("what the password policy refuses is said in its words", async () => {
    const quality = await server.addPolicy("quality", {
      pwdCheckQuality: "2",
      pwdMinLength: "20",
      pwdInHistory: "3",
      pwdSafeModify: "TRUE",
    });
    const current = await newUser(server, freshName("quality"), "the-first-password-of-all", { pwdPolicySubentry: quality });
    assert.match(await rotationFails(current, "too short"), /^invalid: .*too short/);
    const next = await rotated(current); // with the old password, as pwdSafeModify wants it
    assert.match(await rotationFails(next, current.password), /^invalid: .*used before/);
    const young = await server.addPolicy("young", { pwdMinAge: "3600" });
    const fresh = await newUser(server, freshName("young"), "x", { pwdPolicySubentry: young });
    const changed = await rotated(fresh).catch(() => fresh);
    assert.match(await rotationFails(changed), /^invalid: .*so soon/);
    const fixed = await server.addPolicy("fixed", { pwdAllowUserChange: "FALSE" });
    const held = await newUser(server, freshName("held"), "x", { pwdPolicySubentry: fixed });
    assert.match(await rotationFails(held), /^denied: /);
  });
});
