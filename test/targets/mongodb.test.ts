// The real driver against a wire fake: driver-level, not run against a real server.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { mongodb } from "../../src/targets/mongodb.ts";
import type { Strategy } from "../../src/targets/target.ts";
import { startFaultyTcp } from "../support/faulty-tcp.ts";
import { type MongoDbWire, ordinaryUser, startMongoDbWire } from "../support/mongodb-wire.ts";
import { hasOpenssl, makeCertificate, unlessCi } from "../support/server-process.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

const root = { user: "root", db: "admin", roles: [{ role: "root", db: "admin" }] };

function newUser(server: MongoDbWire, username: string, password: string): DatabaseCredential {
  server.addUser(ordinaryUser(username), password);
  return { engine: "mongo", host: server.host, port: server.port, username, password, ssl: false };
}

function adminOf(server: MongoDbWire): DatabaseCredential {
  server.addUser(root, "root-password");
  return { engine: "mongo", host: server.host, port: server.port, username: "root", password: "root-password", ssl: false };
}

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

/** What a rotation of this user hands over. */
async function versionsFor(server: MongoDbWire, current: DatabaseCredential, strategy: Strategy) {
  const pending = await mongodb.create(current, strategy, tools());
  return { current, pending, previous: undefined, admin: strategy === "alternating-users" ? adminOf(server) : undefined };
}

describe("mongodb on a wire fake", () => {
  let server: MongoDbWire;
  let open: MongoDbWire;
  let stoppedPort: number;
  before(async () => {
    [server, open] = await Promise.all([startMongoDbWire(), startMongoDbWire({ acceptsAnyProof: true })]);
    await using stopped = await startMongoDbWire();
    stoppedPort = stopped.port;
  });
  after(async () => {
    for (const one of [server, open]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: mongodb,
      newUser: async (name, password) => newUser(server, name, password),
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stoppedPort }),
      atTrustingServer: (credential) => ({ ...credential, port: open.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.log(),
    }),
    ["single-user", "alternating-users"],
  );

  test("a server without access control is reported, though it checks the passwords it is given", async () => {
    await using lax = await startMongoDbWire({ accessControl: false });
    const current = newUser(lax, freshName("lax"), "canary-lax");
    assert.equal(await failure(mongodb.test(current, tools()), "canary-lax"), "invalid");
    assert.equal(await mongodb.probe({ ...current, password: "another" }, tools()), "refused");
  });

  test("the clone is like the original, and follows it", async () => {
    const name = freshName("like");
    const restrictions = [{ clientSource: ["127.0.0.1"] }];
    const current = newUser(server, name, "old-password");
    server.addUser(
      { ...ordinaryUser(name), customData: { team: "a" }, authenticationRestrictions: restrictions },
      "old-password",
    );
    const versions = await versionsFor(server, current, "alternating-users");
    await mongodb.set(versions, "alternating-users", tools());
    const clone = () => server.user("admin", `${name}_clone`);
    const original = server.user("admin", name);
    assert.deepEqual(clone()?.roles, original?.roles);
    assert.deepEqual(clone()?.customData, { team: "a" });
    assert.deepEqual(clone()?.authenticationRestrictions, restrictions);
    original?.roles.push({ role: "read", db: "more" });
    Object.assign(original ?? {}, { authenticationRestrictions: [{ clientSource: ["127.0.0.0/8"] }] });
    await mongodb.set(versions, "alternating-users", tools());
    assert.deepEqual(clone()?.roles, original?.roles);
    assert.deepEqual(clone()?.authenticationRestrictions, original?.authenticationRestrictions);
    assert.equal(await mongodb.probe(versions.pending, tools()), "ok");
  });

  test("Amazon DocumentDB keeps no restrictions: the clone is made without", async () => {
    await using documentDb = await startMongoDbWire({ documentDb: true });
    const versions = await versionsFor(documentDb, newUser(documentDb, "app", "old-password"), "alternating-users");
    await mongodb.set(versions, "alternating-users", tools());
    assert.equal(await mongodb.probe(versions.pending, tools()), "ok");
  });

  test("nobody has a stranger's password set by naming a secret's user after them", async () => {
    const name = freshName("stranger");
    const current = newUser(server, name, "old-password");
    server.addUser({ user: `${name}_clone`, db: "admin", roles: root.roles }, "strangers-password");
    const versions = await versionsFor(server, current, "alternating-users");
    assert.equal(await failure(mongodb.set(versions, "alternating-users", tools())), "invalid");
    const posing = newUser(server, "root_clone", "old-password");
    const back = await versionsFor(server, posing, "alternating-users");
    assert.equal(back.pending.username, "root");
    assert.equal(await failure(mongodb.set(back, "alternating-users", tools())), "invalid");
    for (const [user, password] of [
      [`${name}_clone`, "strangers-password"],
      ["root", "root-password"],
    ] as const)
      assert.equal(await mongodb.probe({ ...current, username: user, password }, tools()), "ok");
  });

  test("alternating users name what is missing: superuser, same host, rights", async () => {
    const versions = await versionsFor(server, newUser(server, freshName("rules"), "old-password"), "alternating-users");
    const set = (changed: object) => failure(mongodb.set({ ...versions, ...changed }, "alternating-users", tools()));
    assert.equal(await set({ admin: undefined }), "invalid");
    assert.equal(await set({ admin: { ...adminOf(server), host: "localhost" } }), "invalid");
    assert.equal(await set({ pending: { ...versions.pending, username: "root" } }), "invalid");
    assert.equal(await set({ admin: versions.current }), "denied");
  });

  test("single user: whichever version is in force is used; a superuser where none is, or it may not", async () => {
    const name = freshName("versions");
    const current = newUser(server, name, "canary-1");
    const version = (password: string) => ({ ...current, password });
    const set = async (inForce: string, roles: object[], admin?: DatabaseCredential) => {
      server.addUser({ ...ordinaryUser(name), roles: roles as never }, inForce);
      const versions = { current: version("canary-1"), pending: version("canary-2"), previous: version("canary-0"), admin };
      await mongodb.set(versions, "single-user", tools());
      assert.equal(await mongodb.probe(version("canary-2"), tools()), "ok");
    };
    const { roles } = ordinaryUser();
    for (const inForce of ["canary-1", "canary-2", "canary-0"]) await set(inForce, roles);
    assert.equal(await failure(set("changed-by-hand", roles)), "refused");
    await set("changed-by-hand", roles, adminOf(server));
    assert.equal(await failure(set("canary-1", []), "canary-1", "canary-2"), "denied");
    await set("canary-1", [], adminOf(server));
  });

  test("check tells beforehand which right is missing", async () => {
    const name = freshName("check");
    const current = newUser(server, name, "old-password");
    const admin = adminOf(server);
    const found = async (access: object, strategy: Strategy) =>
      (await mongodb.check?.({ current, admin: undefined, ...access }, strategy, tools()))?.map(({ problem }) => problem) ?? [];
    assert.deepEqual(await found({}, "single-user"), []);
    assert.deepEqual(await found({ admin }, "alternating-users"), []);
    assert.match(String(await found({}, "alternating-users")), /superuser/);
    assert.match(String(await found({ admin: current }, "alternating-users")), /may not viewUser, createUser/);
    server.addUser({ ...ordinaryUser(name), roles: [] }, "old-password");
    assert.match(String(await found({}, "single-user")), /its own password/);
    const gone = { ...current, username: `${freshName("gone")}_clone`, password: "x" };
    server.addUser({ ...ordinaryUser(gone.username) }, "x");
    assert.match(String(await found({ current: gone, admin }, "alternating-users")), /does not exist/);
  });

  test("a connection that is cut leaves an unknown outcome, which the next call repairs", async () => {
    for (const strategy of ["single-user", "alternating-users"] as const) {
      for (const fault of ["cut-before", "cut-after"] as const) {
        const versions = await versionsFor(server, newUser(server, freshName("cut"), "old-password"), strategy);
        server.fail(fault);
        assert.equal(await failure(mongodb.set(versions, strategy, tools()), versions.pending.password), "unknown");
        assert.equal(await mongodb.probe(versions.pending, tools()), fault === "cut-after" ? "ok" : "refused");
        await mongodb.set(versions, strategy, tools());
        assert.equal(await mongodb.probe(versions.pending, tools()), "ok");
      }
    }
  });

  test("a change that hangs ends with its deadline, at the server too", async () => {
    const versions = await versionsFor(server, newUser(server, freshName("hang"), "old-password"), "single-user");
    server.fail("stall");
    const late = { ...tools(), deadlineAt: Date.now() + 400 };
    assert.equal(await failure(mongodb.set(versions, "single-user", late), versions.pending.password), "unknown");
    while (server.stalled() > 0) await delay(10);
    assert.equal(await mongodb.probe(versions.current, tools()), "ok", "no late effect");
  });

  test("a call left over from a worker that stalled is ended before the password changes again", async () => {
    const versions = await versionsFor(server, newUser(server, freshName("late"), "old-password"), "alternating-users");
    await mongodb.set(versions, "alternating-users", tools());
    server.fail("stall");
    const stalled = failure(mongodb.set(versions, "alternating-users", tools()));
    while (server.stalled() === 0) await delay(5);
    const next = await mongodb.create(versions.current, "alternating-users", tools());
    const named = tools();
    await mongodb.set({ ...versions, pending: next }, "alternating-users", named);
    assert.equal(server.stalled(), 0, "ended before, not by its own deadline");
    assert.equal(await stalled, "unknown");
    assert.equal(await mongodb.probe(next, tools()), "ok");
    assert.ok([...server.applications].some((application) => application.includes(named.rotationId)));
  });

  test("unreachable, silent and unfit servers are told apart", async () => {
    const credential = newUser(server, freshName("apart"), "old-password");
    await using silent = await startFaultyTcp("silence");
    await using hangingUp = await startFaultyTcp("hang up");
    await using secondary = await startMongoDbWire({ primary: false });
    const probe = (changed: object, ms = 120_000) =>
      mongodb.probe({ ...credential, ...changed }, { ...tools(), deadlineAt: Date.now() + ms });
    assert.equal(await probe({ port: silent.port }, 300), "timeout");
    while (silent.open() > 0) await delay(10); // the deadline ends the sockets
    assert.equal(await probe({ port: hangingUp.port }), "unreachable");
    assert.equal(await probe({ host: "no-such-host.invalid" }), "unreachable");
    assert.equal(await probe({ host: "127.0.0.1,127.0.0.2" }), "unreachable", "one host, whatever it is called");
    assert.equal(await probe({ ssl: true }), "unreachable", "a server without TLS hangs up");
    assert.equal(await probe({ sslrootcert: "/no/such/file", ssl: true }), "invalid");
    assert.equal(await probe({ dbname: "another" }), "refused", "the user is of another database");
    const there = newUser(secondary, "app", "old-password");
    const versions = { ...(await versionsFor(secondary, there, "single-user")), current: there };
    const error = await mongodb.set(versions, "single-user", tools()).catch((reason: Error) => reason);
    assert.match(String(error), /not the primary.*replicaSet/);
  });

  test("with replicaSet the primary is found from any member, and goes on when others are down", async () => {
    const current = newUser(server, freshName("set"), "old-password");
    const of = (name: string, primaryPort: number) => startMongoDbWire({ primary: false, replicaSet: { name, primaryPort } });
    await using primary = await startMongoDbWire({ replicaSet: { name: "rs0", primaryPort: stoppedPort } });
    await using member = await of("rs0", primary.port);
    const there = { ...newUser(primary, "app", "old-password"), port: member.port, replicaSet: "rs0" };
    const versions = await versionsFor(server, there, "single-user");
    await mongodb.set(versions, "single-user", tools());
    assert.equal(await mongodb.probe(versions.pending, tools()), "ok");
    assert.equal(await mongodb.probe({ ...there, port: primary.port }, tools()), "refused", "a member that is down is not asked");
    const soon = { ...tools(), deadlineAt: Date.now() + 1_000 };
    assert.equal(await mongodb.probe({ ...there, replicaSet: "another" }, soon), "timeout", "the member is of another set");
    assert.equal(await mongodb.probe({ ...current, port: stoppedPort, replicaSet: "rs0" }, tools()), "unreachable");
  });

  test("the same credential at another address", () => {
    const credential = { ...newUser(server, freshName("at"), "x"), masterarn: "arn" };
    assert.deepEqual(mongodb.at?.(credential, { host: "replica", port: 1 }), { ...credential, host: "replica", port: 1 });
  });
});

const tlsSkip = unlessCi(hasOpenssl() ? false : "no openssl to make a certificate");

test("mongodb over TLS, on a wire fake: verified or not at all", { skip: tlsSkip }, async (context) => {
  const home = mkdtempSync(join(tmpdir(), "rekey-mongodb-"));
  context.after(() => rmSync(home, { recursive: true }));
  const pem = readFileSync(makeCertificate(home), "utf8");
  await using server = await startMongoDbWire({ tls: { cert: pem, key: readFileSync(join(home, "server.key")) } });
  const { ssl, ...credential } = newUser(server, "app", "canary-tls");
  const probe = (changed: object) => mongodb.probe({ ...credential, ...changed }, tools());
  assert.equal(await probe({}), "tls", "no TLS that cannot be verified, and never without");
  assert.equal(await probe({ ssl: true }), "tls");
  assert.equal(await probe({ sslrootcert: join(home, "server.crt") }), "ok");
  assert.equal(await probe({ ssl: true, sslrootcert: pem }), "ok");
  assert.equal(await probe({ host: "localhost", sslrootcert: pem }), "ok");
});
