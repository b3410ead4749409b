import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { ldap } from "../../src/targets/ldap.ts";
import { passwordModifyOid, withSession } from "../../src/targets/ldap-session.ts";
import { pastedLines } from "../support/docs.ts";
import { freshName, newUser } from "../support/ldap-entries.ts";
import { startTap } from "../support/proxy.ts";
import { unlessCi } from "../support/server-process.ts";
import { type SlapdServer, slapdSkip, slapdTlsSkip, startSlapd, suffix } from "../support/slapd-server.ts";
import { failure, tools } from "./contract.ts";

describe("ldap over a network", { skip: slapdSkip }, () => {
  let server: SlapdServer;
  before(async () => {
    server = await startSlapd();
  });
  after(() => server[Symbol.asyncDispose]());

  const probe = (credential: DatabaseCredential) => ldap.probe(credential, tools());
  const versionsOf = (current: DatabaseCredential, pending: DatabaseCredential) => ({
    current,
    pending,
    previous: undefined,
    admin: undefined,
  });

  test("what is silent or hangs up is not taken for a refusal", async () => {
    const current = await newUser(server, freshName("class"), "x");
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    const hangingUp = createServer((socket) => socket.end());
    const babbling = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    const portOf = (one: typeof silent) => (one.address() as AddressInfo).port;
    const at = (changed: object, ms = 120_000) =>
      ldap.probe({ ...current, ...changed }, { ...tools(), deadlineAt: Date.now() + ms });
    for (const one of [silent, hangingUp, babbling]) await once(one.listen(0, "127.0.0.1"), "listening");
    try {
      assert.equal(await at({ port: portOf(silent) }, 200), "timeout");
      for (const starttls of [true, false]) assert.equal(await at({ port: portOf(silent), ssl: true, starttls }, 200), "timeout");
      for (const ssl of [true, false]) assert.equal(await at({ port: portOf(hangingUp), ssl }), "unreachable");
      assert.equal(await at({ port: portOf(babbling) }), "unreachable");
      assert.equal(await at({ host: "no-such-host.invalid" }), "unreachable");
      assert.equal(await at({ sslrootcert: "/no/such/file", ssl: true }), "invalid");
      assert.equal(await at({ ssl: true, starttls: true }), "tls", "a server without TLS");
    } finally {
      for (const socket of sockets) socket.destroy();
      for (const one of [silent, hangingUp, babbling]) one.close();
    }
  });

  test("a server that does not stop talking is hung up on", async () => {
    const current = await newUser(server, freshName("endless"), "x");
    let said = 0;
    const endless = createServer((socket) => {
      const talk = (): void => {
        socket.write(`0\x84\x7f\xff\xff\xff${"x".repeat(65_536)}`, "latin1", (error) => {
          said += 65_536;
          if (!error) talk();
        });
      };
      socket.on("error", () => undefined);
      talk();
    });
    await once(endless.listen(0, "127.0.0.1"), "listening");
    assert.equal(await probe({ ...current, port: (endless.address() as AddressInfo).port }), "unreachable");
    endless.close();
    await once(endless, "close");
    assert.ok(said > 1_000_000 && said < 50_000_000, `${said}`);
  });

  test("a connection that ends before the answer leaves it unknown whether the password was set", async () => {
    for (const when of ["before", "after"] as const) {
      const current = await newUser(server, freshName("cut"), "v1");
      const pending = await ldap.create(current, "single-user", tools());
      await using tap = await startTap(server, (sent) => (sent.includes(passwordModifyOid) ? when : undefined));
      const there = (credential: DatabaseCredential) => ({ ...credential, port: tap.port });
      assert.equal(await failure(ldap.set(versionsOf(there(current), there(pending)), "single-user", tools())), "unknown");
      if (when === "after") while ((await probe(pending)) !== "ok") await sleep(5);
      assert.deepEqual([await probe(current), await probe(pending)], when === "after" ? ["refused", "ok"] : ["ok", "refused"]);
      await ldap.set(versionsOf(current, pending), "single-user", tools());
      assert.equal(await probe(pending), "ok");
    }
  });

  test("after its connection has ended a session does nothing more, as nobody least of all", async () => {
    const { username, password } = await newUser(server, freshName("ended"), "old-password");
    let connections = 0;
    await using tap = await startTap(server, (sent) => {
      if (sent.includes(username)) connections += 1; // a login, or a change
      return undefined;
    });
    const login = { host: tap.host, port: tap.port, username, password, tls: "none", sslrootcert: undefined } as const;
    const work = withSession(login, Date.now() + 10_000, async (db) => {
      tap.cut();
      await sleep(50);
      connections = 0;
      await db.modifyPassword(username, "new-password");
    });
    assert.equal(await failure(work), "unknown");
    assert.equal(connections, 0);
  });
});

test("ldap over TLS: from the first byte or by StartTLS, verified or not at all", { skip: slapdTlsSkip }, async () => {
  await using server = await startSlapd({ tls: true });
  const { ssl: _, ...current } = await newUser(server, "app", "old-password");
  const probe = (changed: object) => ldap.probe({ ...current, ...changed } as DatabaseCredential, tools());
  for (const place of [{ port: server.tlsPort }, { port: server.port, starttls: true }]) {
    assert.equal(await probe(place), "tls", "verified TLS is what nothing said means");
    assert.equal(await probe({ ...place, ssl: true }), "tls");
    assert.equal(await probe({ ...place, sslrootcert: server.caFile }), "ok");
    assert.equal(await probe({ ...place, sslrootcert: server.caFile, host: "localhost" }), "ok");
    const { host: address } = server;
    await using other = await startTap({ host: address, port: place.port }, () => undefined);
    assert.equal(await probe({ ...place, port: other.port, sslrootcert: server.caFile }), "ok", "a port is not in a certificate");
    const rotated = await ldap.create(
      { ...current, ...place, sslrootcert: server.caFile } as DatabaseCredential,
      "single-user",
      tools(),
    );
    assert.ok(rotated.password.length >= 32);
  }
  assert.equal(await probe({ port: server.port, ssl: false }), "ok");
  assert.notEqual(await probe({ port: server.tlsPort, ssl: false }), "ok");
});

const ldapadd = "/usr/bin/ldapadd";
const ldapaddSkip = slapdSkip || unlessCi(existsSync(ldapadd) ? false : "no ldapadd: install Debian's ldap-utils");
test("the entries and rights of the documentation are enough, and no more than that", { skip: ldapaddSkip }, async () => {
  const page = join(import.meta.dirname, "../../docs/targets.md");
  await using server = await startSlapd({ access: pastedLines(page, "slapd") });
  const add = ["-x", "-H", `ldap://${server.host}:${server.port}`, "-D", server.rootDn, "-w", server.rootPassword];
  execFileSync(ldapadd, add, { input: `${pastedLines(page, "ldif").join("\n")}\n`, stdio: ["pipe", "pipe", "pipe"] });
  const place = { engine: "ldap", host: server.host, port: server.port, ssl: false };
  const usernames = ["", "-b"].map((end) => `cn=orders${end},ou=services,${suffix}`);
  const admin = { ...place, username: `cn=rekey,${suffix}`, password: "a-long-password-for-rekey" };
  let current: DatabaseCredential = { ...place, username: usernames[0] ?? "", usernames, password: "first-password-of-orders" };
  assert.deepEqual(await ldap.check?.({ current, admin }, "alternating-users", tools()), []);
  for (const strategy of ["alternating-users", "alternating-users", "single-user"] as const) {
    const pending = await ldap.create(current, strategy, tools());
    await ldap.set({ current, pending, previous: undefined, admin }, strategy, tools());
    assert.equal(await ldap.probe(pending, tools()), "ok");
    if (strategy === "alternating-users") await ldap.retire?.(current, { current: pending, admin }, strategy, tools());
    assert.equal(await ldap.probe(current, tools()), "refused");
    current = pending;
  }
  const [entry] = await server.asRoot(async (client) => {
    await client.bind(admin.username, admin.password);
    return (await client.search(`ou=services,${suffix}`, { attributes: ["*"] }).catch(() => ({ searchEntries: [] })))
      .searchEntries;
  });
  assert.equal(entry, undefined, "rekey may read nothing");
});
