import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { postgresLeases as target } from "../../src/targets/lease-postgres.ts";
import { postgresSkip } from "../support/postgres-server.ts";
import { lease, leaseContract, leaseFailure, leaseTools, newUser, problemsOf } from "./lease-contract.ts";
import { type LeaseWorld, startLeaseWorld } from "./lease-postgres-world.ts";

describe("leases of postgres", { skip: postgresSkip }, () => {
  let world: LeaseWorld;
  const subject = () => world.subject();
  const asRoot: LeaseWorld["asRoot"] = (text, database) => world.asRoot(text, database);
  const asUser: LeaseWorld["asUser"] = (fields, work, database) => world.asUser(fields, work, database);
  const connectAsRoot = async () => {
    const { host, port, user, password } = world.server;
    const client = new pg.Client({ host, port, user, password, database: "app" });
    await client.connect();
    return client;
  };
  before(async () => {
    world = await startLeaseWorld();
  });
  after(() => world[Symbol.asyncDispose]());

  leaseContract(subject);

  test("what the user owns in two databases goes to the group role, with its rows", async () => {
    const one = await lease(subject());
    for (const database of ["app", "other"]) {
      await asUser(
        one.fields,
        (client) =>
          client.query(
            "create table made as select 7 as n; create function f() returns int language sql return 1; grant select on made to powerless",
          ),
        database,
      );
    }
    await one.revoke();
    await one.revoke();
    for (const database of ["app", "other"]) {
      const [row] = await asRoot(
        "select tableowner, (select n from made) as n from pg_tables where tablename = 'made'",
        database,
      );
      assert.deepEqual(row, { tableowner: "app_reader", n: 7 });
      await asRoot("drop table made; drop function f()", database);
    }
  });

  const check = async (settings: object, connection: object = subject().connection) =>
    problemsOf(await target.check(target.connection.parse(connection), target.settings.parse(settings), leaseTools()));
  const count = async (text: string, database?: string) => (await asRoot(text, database)).length;

  test("what the user owns is dropped where the settings say so, and never what others rest on", async () => {
    const one = await lease(subject(), { roles: ["app_reader"], owned: "drop" });
    await asUser(one.fields, (client) => client.query("create table dropped as select 1 as n; grant all on dropped to public"));
    await asRoot("create view resting as select * from dropped", "app");
    const { outcome, message } = await leaseFailure(one.revoke());
    assert.equal(outcome, "invalid");
    assert.match(message, /what the user owns in database app: .*2BP01/);
    await assert.rejects(subject().logIn(one.fields));
    await asRoot("drop view resting", "app");
    await one.revoke();
    assert.equal(await count("select from pg_tables where tablename = 'dropped'", "app"), 0);
    assert.equal(await subject().exists(one.user.name), false);
  });

  test("the owner is whom the settings name, else a role without rights where there is no one group to act for", async () => {
    await asRoot("create role keeper; grant keeper to manager");
    assert.match(await check({ roles: ["app_other"] }), /^warning: .*has not the rights of role app_other/);
    for (const [settings, owner] of [
      [{ roles: ["app_reader"], ownerRole: "keeper" }, /^keeper$/],
      [{ roles: ["app_other"] }, /^rk_abcd1234_heir_[0-9a-f]{8}$/],
      [{ roles: ["app_reader", "app_other"] }, /^rk_abcd1234_heir_[0-9a-f]{8}$/],
    ] as const) {
      const one = await lease(subject(), settings);
      await asUser(one.fields, (client) => client.query("create table kept as select 1 as n"));
      await one.revoke();
      const [row] = await asRoot("select tableowner from pg_tables where tablename = 'kept'", "app");
      assert.match(String(row?.tableowner), owner);
      await asRoot("drop table kept", "app");
    }
    assert.match(
      await check({ roles: ["app_reader"], ownerRole: "powerless" }),
      /^the managing user has not the rights of role powerless/,
    );
  });

  test("rights in databases, default rights and memberships given on end with the user", async () => {
    const one = await lease(subject());
    const name = pg.escapeIdentifier(one.user.name);
    await asRoot(`grant select on orders to ${name}; alter default privileges grant select on tables to ${name}`, "other");
    await asRoot(`grant connect on database other to ${name}`);
    await asUser(one.fields, (client) => client.query("alter default privileges grant select on tables to powerless"), "app");
    const { message } = await leaseFailure(one.revoke());
    assert.match(
      message,
      /something in database app, other still names the user: as who granted it, or a superuser, there: drop owned by/,
    );
    await assert.rejects(subject().logIn(one.fields));
    const boss = target.connection.parse(world.managerAt("boss"));
    await target.revoke(boss, target.settings.parse(subject().settings), one.user, leaseTools());
    assert.equal(await subject().exists(one.user.name), false);
  });

  test("a transaction that was prepared ends with the user", async () => {
    const one = await lease(subject());
    await asUser(
      one.fields,
      async (client) => {
        await client.query("create table half (n int)");
        await client.query("begin");
        await client.query("insert into half values (1)");
        await client.query("prepare transaction 'left behind'");
      },
      "other",
    );
    await one.revoke();
    assert.equal(await count("select from pg_prepared_xacts"), 0);
    await asRoot("drop table half", "other");
  });

  test("a lock that somebody holds delays the end of what is owned, not that of the login", async () => {
    const one = await lease(subject());
    await asUser(one.fields, (client) => client.query("create table locked as select 1 as n"));
    const holder = await connectAsRoot();
    await holder.query("begin; lock table locked");
    const { outcome } = await leaseFailure(one.revoke(1_500));
    assert.ok(["timeout", "unreachable", "unknown"].includes(outcome), outcome);
    await assert.rejects(subject().logIn(one.fields));
    await holder.query("rollback");
    await holder.end();
    while ((await count("select from pg_stat_activity where application_name like 'rekey lease%'")) > 0)
      await new Promise((resolve) => setTimeout(resolve, 20));
    await one.revoke();
    assert.equal(await subject().exists(one.user.name), false);
    await asRoot("drop table locked", "app");
  });

  test("a role whose making was under way when its caller was gone is made no more", async () => {
    const slow = {
      creationStatements: ["create role {{username}} login password {{password}}", "select pg_sleep(30)"],
      renewalStatements: ["select 1"],
    };
    const user = newUser(subject(), slow);
    const [connection, settings] = [target.connection.parse(subject().connection), target.settings.parse(slow)];
    const making = leaseFailure(target.create(connection, settings, user, leaseTools(30_000)));
    while ((await count("select from pg_stat_activity where wait_event = 'PgSleep'")) === 0)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await target.revoke(connection, settings, user, leaseTools());
    assert.equal((await making).outcome, "unknown");
    assert.equal(await subject().exists(user.name), false);
  });

  test("what is not done by the deadline is ended by the server, too", async () => {
    const slow = { creationStatements: ["create role {{username}} login password {{password}}", "select pg_sleep(30)"] };
    const user = newUser(subject(), slow);
    const [connection, settings] = [target.connection.parse(subject().connection), target.settings.parse(slow)];
    const { outcome } = await leaseFailure(target.create(connection, settings, user, leaseTools(500)));
    assert.ok(["timeout", "unknown"].includes(outcome), outcome);
    while ((await count("select from pg_stat_activity where wait_event = 'PgSleep'")) > 0)
      await new Promise((resolve) => setTimeout(resolve, 10));
    assert.equal(await subject().exists(user.name), false);
  });

  test("a role is no use to its server after the end, even when nobody revokes it", async () => {
    const one = await lease(subject());
    const until = async () =>
      Number(
        (await asRoot(`select extract(epoch from rolvaliduntil) as at from pg_roles where rolname = '${one.user.name}'`))[0]?.at,
      ) * 1_000;
    assert.ok((await until()) > one.user.expiresAt && (await until()) <= one.user.expiresAt + 60_000);
    await one.renew(7_200);
    assert.ok((await until()) > Date.now() + 7_000_000);
    await one.renew(-3_600);
    await assert.rejects(subject().logIn(one.fields));
    await one.revoke();
  });

  const statements = {
    creationStatements: [
      "create role {{username}} login password {{password}} valid until {{expiration}}",
      "grant app_reader to {{username}}",
      "do $$ begin perform 1; perform 2; end $$",
    ],
    renewalStatements: ["comment on role {{username}} is 'renewed; twice'"],
    revocationStatements: ["revoke app_reader from {{username}}"],
  };

  test("statements of one's own make, renew and end a role", async () => {
    assert.equal(await check(statements), "");
    const one = await lease(subject(), statements);
    await subject().logIn(one.fields);
    await one.renew(3_600);
    const [row] = await asRoot(
      `select shobj_description(oid, 'pg_authid') as said from pg_roles where rolname = '${one.user.name}'`,
    );
    assert.equal(row?.said, "renewed; twice");
    await one.revoke();
    await one.revoke();
    assert.equal(await subject().exists(one.user.name), false);
  });

  test("statements take effect together or not at all, and are named when they fail", async () => {
    const settings = { ...statements, creationStatements: [...statements.creationStatements, "grant nosuch to {{username}}"] };
    assert.match(await check(settings), /^creationStatements\[3\]: .*42704/);
    const user = newUser(subject(), settings);
    const [connection, parsed] = [target.connection.parse(subject().connection), target.settings.parse(settings)];
    const { outcome, message } = await leaseFailure(target.create(connection, parsed, user, leaseTools()));
    assert.equal(outcome, "invalid");
    assert.match(message, /^creationStatements\[3\]/);
    assert.equal(await subject().exists(user.name), false);
    const other = { creationStatements: ["select {{username}}, {{password}} from (values (1)) as t(a)"] };
    assert.match(await check(other), /creationStatements/);
  });

  test("a revocation statement that fails is told once, and keeps no user alive", async () => {
    const settings = { ...statements, revocationStatements: ["revoke nosuch from {{username}}", "select 1"] };
    assert.match(await check(settings), /^revocationStatements\[0\]/);
    const one = await lease(subject(), settings);
    const { outcome, message } = await leaseFailure(one.revoke());
    assert.equal(outcome, "invalid");
    assert.match(message, /^revocationStatements\[0\]/);
    assert.equal(await subject().exists(one.user.name), false);
    await one.revoke();
  });

  test("what stands against leases is told in words, each with what helps", async () => {
    const powerless = world.managerAt("powerless");
    assert.match(
      await check(subject().settings, powerless),
      /role powerless may not create roles -> alter role "powerless" createrole/,
    );
    assert.match(
      await check(subject().settings, powerless),
      /may not make members of role app_reader -> grant "app_reader" to … with admin option/,
    );
    assert.match(await check({ roles: ["nosuch"] }), /^role nosuch does not exist -> create role "nosuch"/);
    assert.match(await check({ roles: ["manager"] }), /manager is the managing user/);
    assert.match(
      await check({ roles: ["big"] }, { ...powerless, username: world.server.user, password: world.server.password }),
      /warning: role big is a superuser/,
    );
    const direct = [statements.creationStatements[0], "grant select on orders to {{username}}"];
    assert.match(
      await check({ creationStatements: direct }, world.managerAt("boss")),
      /warning: creationStatements\[1\] grants .* 2,440 users/,
    );
    assert.equal(await count("select from pg_roles where rolname like 'rk\\_preflght%'"), 0);
    await asRoot("revoke connect on database other from public");
    assert.match(await check({ roles: ["app_reader"] }, { ...subject().connection, dbname: "app" }), /^$/);
    await asRoot("grant connect on database other to manager");
    assert.match(
      await check({ roles: ["app_reader"] }, { ...subject().connection, dbname: "other" }),
      /may not connect to database other/,
    );
    await asRoot("grant connect on database other to public");
  });

  test("a table whose group has more members than one table has room for", async () => {
    await asRoot("do $$ begin for i in 1..2600 loop execute format('create role m_%s in role app_reader', i); end loop; end $$");
    const one = await lease(subject());
    await subject().logIn(one.fields);
    await one.revoke();
  });

  test("many at once are made and ended, each owning something", async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => lease(subject())));
    await Promise.all(
      all.map(({ fields }, index) => asUser(fields, (client) => client.query(`create table many_${index} as select 1 as n`))),
    );
    await Promise.all(all.map((one) => one.revoke()));
    assert.deepEqual(await target.list?.(target.connection.parse(subject().connection), "abcd1234", leaseTools()), []);
  });

  test("a client that logs in again and again has no session when its user is gone", async () => {
    const one = await lease(subject());
    let tries = 0;
    const insistent = Array.from({ length: 4 }, async () => {
      for (;;) {
        tries += 1;
        const refused = await asUser(one.fields, (client) => client.query("select pg_sleep(30)")).then(
          () => undefined,
          (error: pg.DatabaseError) => error,
        );
        if (refused?.code === "28P01" || refused?.code === "28000") return;
      }
    });
    while ((await count("select from pg_stat_activity where wait_event = 'PgSleep'")) < 4)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await one.revoke();
    await Promise.all(insistent);
    assert.ok(tries >= 8);
    assert.equal(await count("select from pg_stat_activity where usename like 'rk\\_%'"), 0);
  });

  test("statements that drop the role themselves are as good", async () => {
    const one = await lease(subject(), {
      ...statements,
      revocationStatements: ["drop owned by {{username}}", "drop role {{username}}"],
    });
    await one.revoke();
    await one.revoke();
    assert.equal(await subject().exists(one.user.name), false);
  });

  test("a managing user that inherits nothing by itself ends what is owned all the same", async () => {
    await asRoot("alter role manager noinherit");
    const one = await lease(subject());
    await asUser(one.fields, (client) => client.query("create table inherited as select 1 as n"));
    await one.revoke();
    await asRoot("alter role manager inherit; ");
    await asRoot("drop table inherited", "app");
  });
});
