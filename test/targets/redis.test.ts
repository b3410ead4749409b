import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { redis } from "../../src/targets/redis.ts";
import type { Versions } from "../../src/targets/target.ts";
import { pastedLines } from "../support/docs.ts";
import { startTap } from "../support/proxy.ts";
import { type RedisServer, redisSkip, redisTlsSkip, startRedis } from "../support/redis-server.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

const rootPassword = "password-of-default";
/** What a user needs to change its own passwords. */
const selfRights = ["+ping", "+acl|getuser", "+acl|setuser", "+acl|save", "+config|rewrite"];

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

async function newUser(
  server: RedisServer,
  username: string,
  password: string,
  rights = selfRights,
): Promise<DatabaseCredential> {
  await server.run("ACL", "SETUSER", username, "on", `>${password}`, "-@all", ...rights);
  return { engine: "redis", host: server.host, port: server.port, username, password, ssl: server.caFile !== undefined };
}

const adminOf = ({ host, port }: RedisServer): DatabaseCredential => ({
  engine: "redis",
  host,
  port,
  username: "default",
  password: rootPassword,
  ssl: false,
});

describe("redis", { skip: redisSkip }, () => {
  let server: RedisServer;
  let trusting: RedisServer;
  let stopped: RedisServer;
  before(async () => {
    [server, trusting, stopped] = await Promise.all([startRedis({ password: rootPassword }), startRedis(), startRedis()]);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: redis,
      names: ["plain", "odd#>name", "näme{with}<signs>", "UPPER%s$1", "a:b@c/d"],
      async newUser(name, password) {
        await trusting.run("ACL", "SETUSER", name, "on", "nopass", ...selfRights);
        return newUser(server, name, password);
      },
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stopped.port }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.log(),
    }),
    ["dual-slot", "single-user"],
  );

  const set = (versions: Partial<Versions<DatabaseCredential>> & { current: DatabaseCredential; pending: DatabaseCredential }) =>
    redis.set({ previous: undefined, admin: undefined, ...versions }, "dual-slot", tools());
  const rotated = async (current: DatabaseCredential, admin?: DatabaseCredential) => {
    const pending = await redis.create(current, "dual-slot", tools());
    await set({ current, pending, admin });
    return pending;
  };
  const passwordsOf = async (name: string, at = server): Promise<string[]> => {
    const reply = (await at.run("ACL", "GETUSER", name)) as unknown[];
    return reply[reply.indexOf("passwords") + 1] as string[];
  };
  const hashOf = (password: string) => createHash("sha256").update(password).digest("hex");
  const probes = async (...credentials: DatabaseCredential[]) =>
    Promise.all(credentials.map((credential) => redis.probe(credential, tools())));

  test("a user that may not change users is changed by the superuser that masterarn names", async () => {
    const current = await newUser(server, freshName("plain"), "old-password", ["+get"]);
    const pending = await redis.create(current, "dual-slot", tools());
    assert.equal(await failure(set({ current, pending })), "denied");
    assert.deepEqual(await probes(current, pending), ["ok", "refused"]);
    await set({ current, pending, admin: adminOf(server) });
    assert.deepEqual(await probes(current, pending), ["ok", "ok"], "though it may not even say PING");
    await redis.retire?.(current, { current: pending, admin: adminOf(server) }, "dual-slot", tools());
    assert.deepEqual(await probes(current, pending), ["refused", "ok"]);
  });

  test("a missing right is named in the message, and nothing is changed", async () => {
    for (const missing of ["acl|getuser", "acl|setuser", "acl|save"]) {
      const rights = selfRights.filter((right) => right !== `+${missing}`);
      const current = await newUser(server, freshName("rights"), "old-password", rights);
      const pending = await redis.create(current, "dual-slot", tools());
      await assert.rejects(set({ current, pending }), (error: Error) => error.message.includes(`'${missing}'`));
      assert.deepEqual(await probes(current, pending), ["ok", "refused"]);
    }
  });

  test("at most the current and the pending password stay; the one in force is never taken away", async () => {
    const name = freshName("slots");
    const current = await newUser(server, name, "v1");
    const version = (password: string) => ({ ...current, password });
    await server.run("ACL", "SETUSER", name, ">v0", ">forgotten", ">also forgotten");
    await set({ current: version("v1"), pending: version("v2"), previous: version("v0") });
    assert.deepEqual((await passwordsOf(name)).sort(), [hashOf("v1"), hashOf("v2")].sort());
    await server.run("ACL", "SETUSER", name, "resetpass", ">v0");
    await set({ current: version("v1"), pending: version("v2"), previous: version("v0") });
    assert.deepEqual((await passwordsOf(name)).sort(), [hashOf("v0"), hashOf("v2")].sort(), "only v0 was in force");
    await server.run("ACL", "SETUSER", name, "resetpass", ">elsewhere");
    assert.equal(await failure(set({ current: version("v1"), pending: version("v2") })), "refused");
    await set({ current: version("v1"), pending: version("v2"), admin: adminOf(server) });
    assert.deepEqual(await passwordsOf(name), [hashOf("v2")], "none of the secret's was in force");
  });

  test("the current password cannot be retired, nor one of another user", async () => {
    const current = await newUser(server, freshName("live"), "v1");
    const other = await newUser(server, freshName("other"), "v2");
    const retire = (old: DatabaseCredential) =>
      failure(redis.retire?.(old, { current, admin: adminOf(server) }, "dual-slot", tools()) ?? Promise.resolve());
    assert.equal(await retire(current), "invalid");
    assert.equal(await retire(other), "invalid");
    assert.deepEqual(await probes(current, other), ["ok", "ok"]);
  });

  test("a call of an earlier rotation that comes late undoes nothing", async () => {
    const name = freshName("late");
    const current = await newUser(server, name, "v1");
    const next = await rotated(await rotated(current));
    const late = ["ACL", "SETUSER", name, `#${hashOf("v-late")}`, `!${hashOf("v1")}`]; // as it would have been sent while v1 was there
    await assert.rejects(server.run(...late));
    assert.deepEqual(await probes(next), ["ok"]);
    assert.ok(!(await passwordsOf(name)).includes(hashOf("v-late")), "all of it or nothing");
  });

  test("users that are off, take any password, or are not there are told apart", async () => {
    const admin = adminOf(server);
    const [off, open] = [await newUser(server, freshName("off"), "x"), await newUser(server, freshName("open"), "x")];
    await server.run("ACL", "SETUSER", off.username, "off");
    await server.run("ACL", "SETUSER", open.username, "nopass");
    const missing = { ...off, username: freshName("missing") };
    const outcome = async (current: DatabaseCredential) => failure(rotated(current, admin));
    assert.equal(await outcome(off), "locked");
    assert.equal(await outcome(open), "invalid");
    assert.equal(await outcome(missing), "invalid");
    assert.equal(await server.run("ACL", "GETUSER", missing.username), null, "and is not made by the way");
    assert.deepEqual(await probes(off, open, missing), ["refused", "invalid", "refused"]);
    assert.equal(await redis.probe(await newUser(server, freshName("on"), "x"), tools()), "ok");
  });

  test("names that the server's files cannot hold are refused before anything happens", async () => {
    const current = await newUser(server, freshName("x"), "x");
    for (const username of ["", "a b", "a\tb", "x on nopass ~* +@all", 'a"b', "a'b", "a\\b", "a\nuser b on nopass +@all"]) {
      assert.equal(redis.credential.safeParse({ ...current, username }).success, false, JSON.stringify(username));
    }
    assert.equal(redis.credential.safeParse({ ...current, nodes: ["a:1", "[::1]:6379", "b"] }).success, true);
    for (const nodes of [["a b:1"], ["a:b:c"], [""], "a:1", Array.from({ length: 101 }, (_, index) => `h${index}`)])
      assert.equal(redis.credential.safeParse({ ...current, nodes }).success, false, JSON.stringify(nodes).slice(0, 40));
  });

  test("a pre-flight tells what would fail, and changes nothing", async () => {
    const plain = await newUser(server, freshName("plain"), "v1", ["+ping"]);
    const able = await newUser(server, freshName("able"), "v1", [...selfRights, "+acl|dryrun", "+config|get", "+info"]);
    const problems = async (current: DatabaseCredential, admin?: DatabaseCredential) =>
      ((await redis.check?.({ current, admin }, "dual-slot", tools())) ?? []).map(({ problem, warning }) => [problem, warning]);
    assert.deepEqual(await problems(able), []);
    assert.deepEqual(await problems(plain, adminOf(server)), []);
    assert.match(String(await problems(plain)), /no permissions to run the 'acl\|getuser' command/);
    await server.run("ACL", "SETUSER", able.username, "-acl|save", ">another");
    const found = await problems(able);
    assert.deepEqual(
      found.map(([, warning]) => warning),
      [true, undefined],
    );
    assert.match(String(found[0]), /has a password that the secret does not know/);
    const previous = { ...able, password: "another" };
    const more = { current: able, admin: undefined, previous };
    assert.equal((await redis.check?.(more, "dual-slot", tools()))?.length, 1, "that of the version before is the secret's own");
    assert.match(String(found[1]), /may not run acl\|save/);
    await server.run("ACL", "SETUSER", plain.username, "off");
    assert.match(String(await problems(plain, adminOf(server))), /is off/);
    assert.deepEqual(await passwordsOf(able.username), [hashOf("v1"), hashOf("another")]);
  });

  test("what is silent, hangs up, is full or busy is not taken for a refusal", async () => {
    const current = await newUser(server, freshName("class"), "x");
    const silent = createServer((socket) => sockets.push(socket));
    const sockets: Socket[] = [];
    const hangingUp = createServer((socket) => socket.end());
    for (const one of [silent, hangingUp]) await once(one.listen(0, "127.0.0.1"), "listening");
    const portOf = (one: typeof silent) => (one.address() as AddressInfo).port;
    const probe = (changed: object, ms = 120_000) =>
      redis.probe({ ...current, ...changed }, { ...tools(), deadlineAt: Date.now() + ms });
    try {
      assert.equal(await probe({ port: portOf(silent) }, 200), "timeout");
      assert.equal(await probe({ port: portOf(silent), ssl: true }, 200), "timeout");
      assert.equal(await probe({ port: portOf(hangingUp) }), "unreachable");
      assert.equal(await probe({ host: "no-such-host.invalid" }), "unreachable");
      assert.equal(await probe({ sslrootcert: "/no/such/file", ssl: true }), "invalid");
      assert.ok(["timeout", "tls"].includes(await probe({ ssl: true }, 500)), "a server without TLS waits for more, or says so");
    } finally {
      for (const socket of sockets) socket.destroy();
      for (const one of [silent, hangingUp]) one.close();
    }
    await using full = await startRedis({ settings: ["maxclients 1"] });
    const there = connect(full.port, full.host);
    await once(there, "connect");
    assert.equal(await redis.probe({ ...current, port: full.port }, tools()), "unreachable");
    there.destroy();
    await using busy = await startRedis({ settings: ["busy-reply-threshold 1"] });
    const user = await newUser(busy, "app", "x");
    const endless = busy.run("EVAL", "while true do end", "0").catch(() => undefined);
    while ((await redis.probe(user, tools())) === "ok") await sleep(5);
    assert.equal(await redis.probe(user, tools()), "unreachable");
    await busy.run("SCRIPT", "KILL");
    await endless;
    assert.equal(await redis.probe(user, tools()), "ok");
  });

  test("a connection that ends before the answer leaves it unknown whether the password was set", async () => {
    for (const when of ["before", "after"] as const) {
      const current = await newUser(server, freshName("cut"), "v1");
      const pending = await redis.create(current, "dual-slot", tools());
      await using tap = await startTap(server, (sent) => (sent.includes("SETUSER") ? when : undefined));
      const there = (credential: DatabaseCredential) => ({ ...credential, port: tap.port });
      assert.equal(await failure(set({ current: there(current), pending: there(pending) })), "unknown");
      if (when === "after") while ((await redis.probe(pending, tools())) !== "ok") await sleep(5);
      assert.deepEqual(await probes(current, pending), ["ok", when === "after" ? "ok" : "refused"]);
      await set({ current, pending });
      assert.deepEqual(await probes(current, pending), ["ok", "ok"]);
    }
  });
});

describe("redis: what was set outlives a restart", { skip: redisSkip }, () => {
  const set = async (current: DatabaseCredential, strategy: "dual-slot" | "single-user" = "dual-slot") => {
    const pending = await redis.create(current, strategy, tools());
    await redis.set({ current, pending, previous: undefined, admin: undefined }, strategy, tools());
    return pending;
  };

  for (const users of ["aclfile", "config"] as const) {
    test(`users in the ${users}: so are a password that was added, and one that was ended`, async () => {
      await using server = await startRedis({ users });
      const old = await newUser(server, "app", "v1");
      const current = await set(old);
      await server.restart();
      for (const one of [old, current]) assert.equal(await redis.probe(one, tools()), "ok");
      await redis.retire?.(old, { current, admin: undefined }, "dual-slot", tools());
      await server.restart();
      assert.equal(await redis.probe(old, tools()), "refused");
      assert.equal(await redis.probe(current, tools()), "ok");
      const last = await set(current, "single-user");
      await server.restart();
      assert.equal(await redis.probe(current, tools()), "refused");
      assert.equal(await redis.probe(last, tools()), "ok");
    });
  }

  test("the user default and its requirepass too", async () => {
    await using server = await startRedis({ users: "config", password: rootPassword });
    const current = await set(adminOf(server), "single-user");
    assert.equal(await redis.probe(adminOf(server), tools()), "refused");
    await using again = await startRedis({
      users: "config",
      settings: readFileSync(server.configFile, "utf8")
        .split("\n")
        .filter((line) => /^(user|requirepass) /.test(line)),
      password: current.password,
    });
    assert.equal(await redis.probe({ ...current, port: again.port }, tools()), "ok");
    assert.equal(await redis.probe({ ...adminOf(server), port: again.port }, tools()), "refused");
  });

  test("a server that keeps no file is refused, unless the secret says that it does not matter", async () => {
    await using server = await startRedis({ users: "nowhere" });
    const current = await newUser(server, "app", "v1");
    const pending = await redis.create(current, "dual-slot", tools());
    const versions = { current, pending, previous: undefined, admin: undefined };
    await assert.rejects(redis.set(versions, "dual-slot", tools()), /a restart would bring the users of before back/);
    assert.equal(await failure(redis.set(versions, "dual-slot", tools())), "invalid");
    assert.equal(await redis.probe(pending, tools()), "refused");
    await server.run("ACL", "SETUSER", "app", "+config|get", "+info", "+acl|dryrun");
    const [finding] = (await redis.check?.(versions, "dual-slot", tools())) ?? [];
    assert.match(finding?.remedy ?? "", /"persist": false/);
    const careless = { ...current, persist: false };
    assert.deepEqual(await redis.check?.({ current: careless, admin: undefined }, "dual-slot", tools()), []);
    assert.equal(await redis.probe(await set(careless), tools()), "ok");
  });

  test("a password that cannot be saved after all is taken back", async () => {
    await using server = await startRedis();
    const current = await newUser(server, "app", "v1");
    let blocked = false;
    await using tap = await startTap(server, (sent) => {
      if (sent.includes("SETUSER") && !blocked) {
        blocked = true;
        server.forbidSaving(); // between the trial and the change
      }
      return undefined;
    });
    const pending = await redis.create({ ...current, port: tap.port }, "dual-slot", tools());
    const versions = { current: { ...current, port: tap.port }, pending, previous: undefined, admin: undefined };
    assert.equal(await failure(redis.set(versions, "dual-slot", tools())), "invalid");
    assert.ok(blocked);
    assert.equal(await redis.probe(pending, tools()), "refused");
    assert.equal(await redis.probe(current, tools()), "ok");
  });
});

describe("redis with nodes", { skip: redisSkip }, () => {
  test("all nodes must take the password; one that is down keeps the rotation from going on", async () => {
    await using one = await startRedis({ password: rootPassword });
    await using two = await startRedis({ password: rootPassword });
    const nodes = [`${two.host}:${two.port}`];
    const current = { ...(await newUser(one, "app", "v1", ["+ping"])), nodes };
    await newUser(two, "app", "v1", ["+ping"]);
    const admin = { ...adminOf(one), nodes };
    const pending = await redis.create(current, "dual-slot", tools());
    const versions = { current, pending, previous: undefined, admin };
    const at = (credential: DatabaseCredential, server: RedisServer) => redis.at?.(credential, server) ?? credential;
    const probe = (credential: DatabaseCredential) => redis.probe(credential, tools());

    assert.equal(await failure(redis.set(versions, "single-user", tools())), "invalid");
    await two.run("ACL", "SETUSER", "app", "off");
    assert.equal(await failure(redis.set(versions, "dual-slot", tools())), "locked");
    assert.equal(await probe(at(pending, one)), "ok", "the first node has it");
    assert.equal(await probe(pending), "refused", "but not all");
    await two.run("ACL", "SETUSER", "app", "on");
    assert.equal(await probe(current), "ok");
    await redis.set(versions, "dual-slot", tools());
    for (const credential of [pending, current, at(pending, two), at(current, two)]) assert.equal(await probe(credential), "ok");
    await redis.retire?.(current, { current: pending, admin }, "dual-slot", tools());
    for (const server of [one, two]) assert.equal(await probe(at(current, server)), "refused");
    await two.stop();
    assert.equal(await probe(pending), "unreachable");
    const next = await redis.create(pending, "dual-slot", tools());
    assert.equal(await failure(redis.set({ ...versions, current: pending, pending: next }, "dual-slot", tools())), "unreachable");
    assert.equal(await probe(at(pending, one)), "ok");
  });

  test("the superuser's password goes to the nodes of its own secret only", async () => {
    await using server = await startRedis({ password: rootPassword });
    const heard: string[] = [];
    await using foreign = await startTap(server, (sent) => void heard.push(sent));
    const current = { ...(await newUser(server, "app", "v1")), nodes: [`127.0.0.1:${foreign.port}`] };
    const pending = await redis.create(current, "dual-slot", tools());
    const versions = { current, pending, previous: undefined, admin: adminOf(server) };
    assert.equal(await failure(redis.set(versions, "dual-slot", tools()), rootPassword), "invalid");
    assert.deepEqual(heard, []);
  });
});

test("redis over TLS: verified or not at all", { skip: redisTlsSkip }, async () => {
  await using server = await startRedis({ tls: true });
  const pem = readFileSync(server.caFile ?? "", "utf8");
  const { ssl: _, ...current } = await newUser(server, "app", "old-password");
  const probe = (changed: object) => redis.probe({ ...(current as DatabaseCredential), ...changed }, tools());
  assert.equal(await probe({}), "tls", "verified TLS is what nothing said means");
  assert.equal(await probe({ ssl: true }), "tls");
  assert.equal(await probe({ sslrootcert: server.caFile }), "ok");
  assert.equal(await probe({ ssl: true, sslrootcert: pem }), "ok");
  assert.equal(await probe({ host: "127.0.0.2", sslrootcert: pem }), "unreachable");
  assert.notEqual(await probe({ ssl: false }), "ok");
});

test("the rights of the documentation are enough, and each of them is needed", { skip: redisSkip }, async () => {
  const page = join(import.meta.dirname, "../../docs/targets.md");
  for (const users of ["aclfile", "config"] as const) {
    await using server = await startRedis({ users });
    for (const line of pastedLines(page, "redis")) await server.run(...line.split(" "));
    const old = await newUser(server, "app", "v1", ["+get"]);
    const admin = { ...adminOf(server), username: "rekey", password: "a-long-password-for-rekey" };
    assert.deepEqual(await redis.check?.({ current: old, admin }, "dual-slot", tools()), []);
    const current = await redis.create(old, "dual-slot", tools());
    const set = () => redis.set({ current: old, pending: current, previous: undefined, admin }, "dual-slot", tools());
    for (const right of ["acl|getuser", "acl|setuser", "acl|save", ...(users === "config" ? ["config|rewrite"] : [])]) {
      await server.run("ACL", "SETUSER", "rekey", `-${right}`);
      assert.equal(await failure(set()), "denied", right);
      await server.run("ACL", "SETUSER", "rekey", `+${right}`);
    }
    await set();
    await redis.retire?.(old, { current, admin }, "dual-slot", tools());
    assert.equal(await redis.probe(old, tools()), "refused");
    assert.equal(await redis.probe(current, tools()), "ok");
  }
});
