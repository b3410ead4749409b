// Redshift's dialect over a PostgreSQL that has views by the names of Redshift's system tables: not over a Redshift.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { redshift } from "../../src/targets/redshift.ts";
import { type PostgresServer, postgresTlsSkip, startPostgres } from "../support/postgres-server.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

/** Source: Amazon Redshift database developer guide, system tables and views. */
const standIns = `
  create view stv_recents as select case state when 'active' then 'Running' else 'Done' end as status, query, pid from pg_stat_activity;
  create table svv_user_grants (user_name text, role_name text);
  create view svv_relation_privileges as select table_schema as namespace_name, table_name as relation_name, privilege_type,
    grantee as identity_name, 'user' as identity_type from information_schema.role_table_grants;
  create view svv_schema_privileges as select nspname as namespace_name, acl.privilege_type, acl.grantee::regrole::text as identity_name,
    'user' as identity_type from pg_namespace, aclexplode(nspacl) acl where acl.grantee <> 0;
  create view svv_database_privileges as select datname as database_name, acl.privilege_type, acl.grantee::regrole::text as identity_name,
    'user' as identity_type from pg_database, aclexplode(datacl) acl where acl.grantee <> 0;
  grant select on stv_recents to public`;

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

describe("Redshift's dialect over a PostgreSQL", { skip: postgresTlsSkip }, () => {
  let server: PostgresServer;
  let trusting: PostgresServer;
  let stopped: PostgresServer;

  const run = async (text: string): Promise<pg.QueryResult> => {
    const client = new pg.Client(server.url);
    await client.connect();
    return client.query(text).finally(() => client.end());
  };
  const at = ({ host, port, caFile = "" }: PostgresServer) => ({
    engine: "redshift",
    host,
    port,
    sslrootcert: caFile,
    dbname: "postgres",
  });
  const newUser = async (username: string, password: string): Promise<DatabaseCredential> => {
    await run(`create user ${pg.escapeIdentifier(username)} password ${pg.escapeLiteral(password)}`);
    return { ...at(server), username, password };
  };
  const admin = (): DatabaseCredential => ({ ...at(server), username: server.user, password: server.password });
  const turn = async (current: DatabaseCredential): Promise<DatabaseCredential> => {
    const pending = await redshift.create(current, "alternating-users", tools());
    await redshift.set({ current, pending, previous: undefined, admin: admin() }, "alternating-users", tools());
    await redshift.test(pending, tools());
    return pending;
  };

  before(async () => {
    [server, trusting, stopped] = await Promise.all([
      startPostgres({
        tls: true,
        settings: ["log_statement=all", "password_encryption=md5"],
        hba: ["hostssl all all 127.0.0.1/32 md5"],
      }),
      startPostgres({ tls: true, hba: ["hostssl all all 127.0.0.1/32 trust"] }),
      startPostgres({ tls: true }),
    ]);
    await run(standIns);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: redshift,
      newUser,
      admin: admin(),
      atStoppedServer: (credential) => ({ ...credential, ...at(stopped) }),
      atTrustingServer: (credential) => ({ ...credential, ...at(trusting), username: "postgres" }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      // Redshift hides what follows the word password in its logs; PostgreSQL does not.
      serverLog: () => readFileSync(server.logFile, "utf8").replaceAll(/(alter|create) user "[^\n]*" password E?'[^\n]*/g, ""),
    }),
    ["single-user", "alternating-users"],
  );

  test("the other user is like the first: attributes, groups, settings and what it was given by name", async () => {
    const name = freshName("like");
    const current = await newUser(name, "First-0ne");
    const [group, schema] = [freshName("readers"), freshName("sales")];
    await run(
      `create group ${group}; alter group ${group} add user ${name}; alter user ${name} createdb valid until '2199-01-01'`,
    );
    await run(
      `alter user ${name} set search_path to '${schema}'; create schema ${schema}; create table ${schema}.orders (a int)`,
    );
    await run(
      `grant usage on schema ${schema} to ${name}; grant select on ${schema}.orders to ${name}; grant create on database postgres to ${name}`,
    );
    const { username } = await turn(current);
    const about = async (user: string) => {
      const { rows } = await run(
        `select usecreatedb, usesuper, valuntil, useconfig, (select array_agg(groname) from pg_group where usesysid = any(grolist)
           and groname not like 'rekey%') as groups, has_schema_privilege(usename, '${schema}', 'usage') as schema,
           has_table_privilege(usename, '${schema}.orders', 'select') as relation, has_database_privilege(usename, 'postgres', 'create') as base
         from pg_user where usename = '${user}'`,
      );
      return rows[0];
    };
    assert.deepEqual(await about(username), await about(name));
    assert.equal((await about(name)).groups, `{${group}}`);
  });

  test("a user that is there is the other one only when an administrator says so", async () => {
    const [name, victim] = [freshName("own"), freshName("victim")];
    const [attacker, other] = [await newUser(name, "First-0ne"), await newUser(victim, "Second-0ne")];
    const named = { ...attacker, usernames: [name, victim] };
    const refused = await turn(named).catch((error: unknown) => error);
    assert.ok(refused instanceof Error);
    assert.equal(await redshift.probe(other, tools()), "ok");
    assert.equal(await failure(turn({ ...attacker, usernames: [name, server.user] })), "invalid");
    const mark = refused.message.slice(refused.message.indexOf("if it does: ") + "if it does: ".length);
    await run(mark);
    assert.equal((await turn(await turn(named))).username, name);
    const clone = await newUser(`${victim}_clone`, "Third-0ne");
    assert.equal(await failure(turn(clone)), "invalid", "its name alone is no proof");
  });

  test("a check says what stands against a rotation", async () => {
    const current = await newUser(freshName("checked"), "First-0ne");
    const problems = async (admin: DatabaseCredential | undefined, strategy: "single-user" | "alternating-users") =>
      ((await redshift.check?.({ current, admin }, strategy, tools())) ?? []).map(({ problem }) => problem);
    assert.deepEqual(await problems(undefined, "single-user"), []);
    assert.deepEqual(await problems(admin(), "alternating-users"), []);
    await newUser(`${current.username}_clone`, "Second-0ne");
    const [superuser, other] = await problems(current, "alternating-users");
    assert.match(superuser ?? "", /is no superuser$/);
    assert.match(other ?? "", /nothing says that it alternates/);
  });

  test("passwords are told over verified TLS only, and are within Redshift's limits", async () => {
    const name = freshName("plain");
    await run(`set password_encryption to 'scram-sha-256'; create user ${name} password 'First-0ne'`); // proves itself without TLS
    const current: DatabaseCredential = { ...at(server), username: name, password: "First-0ne" };
    const pending = await redshift.create(current, "single-user", tools());
    const plain = { current: { ...current, ssl: false }, pending: { ...pending, ssl: false } };
    const set = redshift.set({ ...plain, previous: undefined, admin: undefined }, "single-user", tools());
    assert.equal(await failure(set, pending.password, "First-0ne"), "invalid");
    assert.equal(await redshift.probe(current, tools()), "ok");
    const access = { current: { ...current, ssl: false }, admin: undefined };
    const [finding] = (await redshift.check?.(access, "single-user", tools())) ?? [];
    assert.match(finding?.problem ?? "", /is not verified TLS$/);
    const long = { ...tools(), generatePassword: () => "x".repeat(65) };
    assert.equal(await failure(redshift.create(current, "single-user", long)), "invalid");
  });

  test("a call left over from a worker that stalled is ended before the password changes again", async () => {
    const current = await newUser(freshName("late"), "First-0ne");
    const holder = new pg.Client(server.url);
    await holder.connect();
    await holder.query(`begin; alter user ${current.username} connection limit 50`);
    const pending = await redshift.create(current, "single-user", tools());
    const stalled = failure(redshift.set({ current, pending, previous: undefined, admin: undefined }, "single-user", tools()));
    const waiting = `select 1 from pg_stat_activity where wait_event_type = 'Lock' and usename = '${current.username}'`;
    while ((await run(waiting)).rowCount === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    const next = await redshift.create(current, "single-user", tools());
    const again = redshift.set({ current, pending: next, previous: undefined, admin: undefined }, "single-user", tools());
    assert.equal(await stalled, "unknown");
    await holder.query("rollback");
    await holder.end();
    await again;
    assert.equal(await redshift.probe(next, tools()), "ok");
  });
});
