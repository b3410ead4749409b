import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Attribute, Change, Client } from "ldapts";
import { ldapLeases as target } from "../../src/targets/lease-ldap.ts";
import { type LeaseServers, managerPassword, startLeaseServers } from "../support/lease-servers.ts";
import { type SlapdServer, slapdSkip, startSlapd, suffix } from "../support/slapd-server.ts";
import { type LeaseSubject, lease, leaseContract, leaseFailure, leaseTools, problemsOf } from "./lease-contract.ts";

const base = `ou=leases,${suffix}`;
const readers = `cn=readers,${suffix}`;
const manager = `cn=manager,${suffix}`;
const powerless = `cn=powerless,${suffix}`;

describe("leases of OpenLDAP", { skip: slapdSkip }, () => {
  let servers: LeaseServers<SlapdServer>;
  let server: SlapdServer;

  async function asUser<T>(
    { HOST, PORT, DN = "", PASSWORD = "" }: Readonly<Record<string, string>>,
    work: (client: Client) => Promise<T>,
  ) {
    const client = new Client({ url: `ldap://${HOST}:${PORT}` });
    try {
      await client.bind(DN, PASSWORD);
      return await work(client);
    } finally {
      await client.unbind();
    }
  }
  const subject = (): LeaseSubject => ({
    target,
    ...servers.connections,
    settings: { groups: [{ dn: readers }] },
    logIn: (fields) =>
      asUser(fields, async (client) => {
        const { searchEntries } = await client.search(`ou=services,${suffix}`, { scope: "base" });
        assert.equal(searchEntries.length, 1);
      }),
    oversteps: (fields) =>
      asUser(fields, (client) =>
        client.add(`cn=own,${base}`, { objectClass: "person", cn: "own", sn: "own" }).then(
          () => true,
          () => false,
        ),
      ),
    plant: (name) => server.asRoot((client) => client.add(`cn=${name},${base}`, { objectClass: "person", cn: name, sn: "x" })),
    exists: (name) =>
      server.asRoot(
        async (client) => (await client.search(base, { scope: "sub", filter: `(cn=${name})` })).searchEntries.length > 0,
      ),
    serverLog: () => server.log(),
  });

  before(async () => {
    const access = [
      `access to dn.subtree="${base}" attrs=userPassword by dn.exact="${manager}" write by anonymous auth by * none`,
      "access to attrs=userPassword by anonymous auth by * none",
      `access to dn.subtree="${base}" by dn.exact="${manager}" write by dn.exact="${powerless}" read by self read by * none`,
      `access to dn.exact="${readers}" by dn.exact="${manager}" write by dn.exact="${powerless}" read by * none`,
      `access to dn.subtree="ou=services,${suffix}" by group.exact="${readers}" read by * none`,
      "access to * by * none",
      `limits dn.exact="${manager}" size=unlimited`,
    ];
    const start = () => startSlapd({ access });
    servers = await startLeaseServers({ start, startStopped: startSlapd, manager, powerless, more: { baseDn: base } });
    server = servers.server;
    await server.asRoot(async (client) => {
      await client.add(base, { objectClass: "organizationalUnit", ou: "leases" });
      for (const [dn, cn] of [
        [manager, "manager"],
        [powerless, "powerless"],
      ] as const)
        await client.add(dn, { objectClass: "person", cn, sn: cn, userPassword: managerPassword });
      await client.add(readers, { objectClass: "groupOfNames", cn: "readers", member: server.rootDn });
    });
  });
  after(() => servers[Symbol.asyncDispose]());

  leaseContract(subject, { sessionsEnd: false });

  const members = () =>
    server.asRoot(async (client) =>
      (await client.search(readers, { scope: "base" })).searchEntries.flatMap(({ member }) => [member ?? []].flat().map(String)),
    );

  test("a session that goes on has lost its group, and its name", async () => {
    const one = await lease(subject());
    await asUser(one.fields, async (client) => {
      const see = async () => (await client.search(`ou=services,${suffix}`, { scope: "base" })).searchEntries.length;
      assert.equal(await see(), 1);
      assert.ok((await members()).includes(one.fields.DN ?? ""));
      await one.revoke();
      assert.equal(await see().catch(() => 0), 0);
    });
    assert.deepEqual(await members(), [server.rootDn]);
  });

  test("to look at what would fail leaves no entry, and tells what is missing", async () => {
    const connection = target.connection.parse(subject().connection);
    const check = async (settings: object) =>
      problemsOf(await target.check(connection, target.settings.parse(settings), leaseTools()));
    assert.equal(await check({ groups: [{ dn: readers }] }), "");
    assert.match(await check({ groups: [{ dn: `cn=none,${suffix}` }] }), /cn=none.*does not exist/);
    assert.match(await check({ attributes: { objectClass: "inetOrgPerson", cn: "{{username}}" } }), /object classes/);
    assert.match(await check({ attributes: { objectClass: "person", sn: "x", nosuch: "x" } }), /no such attribute/);
    const elsewhere = target.connection.parse({ ...subject().connection, baseDn: `ou=none,${suffix}` });
    assert.match(problemsOf(await target.check(elsewhere, target.settings.parse({}), leaseTools())), /ou=none.*does not exist/);
    const entries = await server.asRoot(async (client) => (await client.search(base, { scope: "children" })).searchEntries);
    assert.deepEqual(
      entries.filter(({ dn }) => dn.includes("preflight")),
      [],
    );
  });

  test("to look at attributes that no entry has so far leaves the directory readable", async () => {
    const connection = target.connection.parse(subject().connection);
    const settings = { attributes: { objectClass: "inetOrgPerson", cn: "{{username}}", sn: "x", employeeType: "leased" } };
    await target.check(connection, target.settings.parse(settings), leaseTools());
    const one = await lease({ ...subject(), settings });
    const { searchEntries } = await server.asRoot((client) => client.search(base, { filter: "(employeeType=leased)" }));
    assert.deepEqual(
      searchEntries.map(({ dn }) => dn),
      [one.fields.DN],
    );
    await one.revoke();
  });

  test("templates put in values, never a password or another entry", async () => {
    for (const attributes of [
      { objectClass: "person", userPassword: "x" },
      { objectClass: "person", "UserPassword;x": "x" },
      { objectClass: "person", sn: "{{password}}" },
      { objectClass: "person", sn: "{{}}" },
      { objectClass: "person", "sn: x\ncn": "x" },
      { objectClass: "person", "sn)(cn": "x" },
      { sn: "x" },
    ])
      assert.equal(target.settings.safeParse({ attributes }).success, false, JSON.stringify(attributes));
    for (const dn of ["no name", "cn=a\nb,,", "*", ""]) {
      assert.equal(target.settings.safeParse({ groups: [{ dn }] }).success, false, dn);
      assert.equal(target.connection.safeParse({ ...subject().connection, baseDn: dn }).success, false, dn);
    }
    const attributes = {
      objectClass: ["inetOrgPerson"],
      sn: "*)(cn=*",
      givenName: "a,b=c\\",
      description: ["{{expiration}}", "{{ dn }}"],
      employeeNumber: "{{username}}",
    };
    const one = await lease(subject(), { attributes });
    const [entry] = (await server.asRoot((client) => client.search(one.fields.DN ?? "", { scope: "base" }))).searchEntries;
    assert.equal(entry?.sn, "*)(cn=*");
    assert.equal(entry?.givenName, "a,b=c\\");
    assert.equal(entry?.employeeNumber, one.user.name);
    assert.deepEqual([entry?.description].flat().length, 2);
    const before = String(entry?.description);
    await one.renew(7_200);
    const [after] = (await server.asRoot((client) => client.search(one.fields.DN ?? "", { scope: "base" }))).searchEntries;
    assert.notEqual(String(after?.description), before);
    assert.match(String(after?.description), /\b\d{14}Z\b/);
    await one.revoke();
  });

  test("an entry that is not the lease's own is neither changed nor deleted", async () => {
    const one = await lease(subject());
    const parsed = [target.connection.parse(subject().connection), target.settings.parse(subject().settings)] as const;
    for (const handle of [manager, base, `cn=${one.user.name}x,${base}`, `cn=x+cn=${one.user.name},${base}`]) {
      const { outcome } = await leaseFailure(target.revoke(...parsed, { ...one.user, handle }, leaseTools()));
      assert.equal(outcome, "invalid");
    }
    assert.ok(await subject().exists(one.user.name));
    await one.revoke();
  });

  test("a group without another member is told until somebody gives it one, and the entry is gone", async () => {
    const lonely = `cn=lonely,${base}`;
    await server.asRoot((client) => client.add(lonely, { objectClass: "groupOfNames", cn: "lonely", member: server.rootDn }));
    const one = await lease(subject(), { groups: [{ dn: lonely }] });
    const modify = (operation: "add" | "delete") =>
      server.asRoot((client) =>
        client.modify(
          lonely,
          new Change({ operation, modification: new Attribute({ type: "member", values: [server.rootDn] }) }),
        ),
      );
    await modify("delete");
    for (const _ of [1, 2]) assert.match((await leaseFailure(one.revoke())).message, /cn=lonely.*no other member/);
    assert.equal(await subject().exists(one.user.name), false);
    await modify("add");
    await one.revoke();
    await server.asRoot((client) => client.del(lonely));
  });

  test("more users than one page holds are all listed, or it is said that they are not", async () => {
    const connection = target.connection.parse(subject().connection);
    const names = Array.from({ length: 620 }, (_, index) => `rk_pagepage_many_${String(index).padStart(16, "0")}`);
    await server.asRoot(async (client) => {
      for (const cn of names) await client.add(`cn=${cn},${base}`, { objectClass: "person", cn, sn: "x" });
    });
    const found = (await target.list?.(connection, "pagepage", leaseTools())) ?? [];
    assert.deepEqual(found.map(({ name }) => name).sort(), names);
    assert.ok(
      found.every(({ createdAt, handle }) => Math.abs(Number(createdAt) - Date.now()) < 600_000 && handle?.endsWith(base)),
    );
  });
});
