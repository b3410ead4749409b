// What the two users of an alternating pair do not have alike: told as the server itself sees it.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import pg from "pg";
import { postgres } from "../../src/targets/postgres.ts";
import type { Comparison, Difference } from "../../src/targets/target.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { tools } from "./contract.ts";

const tables = ["plain", "s.inner", '"Odd ""Name"""'];
const objects = [
  ...tables.flatMap((name) => ["SELECT", "INSERT", "UPDATE"].map((right) => ({ type: "table", name, right }))),
  { type: "schema", name: "s", right: "USAGE" },
  { type: "schema", name: "s", right: "CREATE" },
  { type: "function", name: "s.f(integer)", right: "EXECUTE" },
  { type: "sequence", name: "s.q", right: "USAGE" },
];
type Compare = () => Promise<Comparison>;
/** A superuser's session names schemas always. */
const withoutPublic = (text: string): string => text.replace(" public.", " ");
const roles = ["app", "app_clone", "g1", "g2"];

describe("parity of PostgreSQL users", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server[Symbol.asyncDispose]());

  /** A database of its own with the pair, and the superuser's connection to it. */
  async function withPair<T>(work: (admin: pg.Client, compare: Compare) => Promise<T>): Promise<T> {
    const url = new URL(await server.newDatabase());
    const admin = new pg.Client(url.href);
    await admin.connect();
    const credential = {
      engine: "postgres",
      host: server.host,
      port: server.port,
      username: server.user,
      password: server.password,
      dbname: url.pathname.slice(1),
    };
    try {
      for (const role of roles) await admin.query(`create role ${role} login password 'first-password'`);
      const current = { ...credential, username: "app", password: "first-password" };
      return await work(admin, async () => {
        assert.ok(postgres.compare);
        return postgres.compare({ current, admin: credential }, tools());
      });
    } finally {
      for (const role of roles) await admin.query(`drop owned by ${role} cascade`);
      await admin.query(`drop role ${roles.join(", ")}`);
      await admin.end();
    }
  }

  test("random rights: the report is what the server says of each user and object", async () => {
    const grant = fc.record({
      object: fc.constantFrom(...objects),
      to: fc.constantFrom(...roles, "public"),
      option: fc.boolean(),
    });
    const membership = fc.record({
      group: fc.constantFrom("app", "g1", "g2"),
      member: fc.constantFrom("app", "app_clone", "g2"),
    });
    const owner = fc.record({ table: fc.constantFrom(...tables), owner: fc.constantFrom(...roles) });
    const given = fc.record({
      grants: fc.array(grant, { maxLength: 12 }),
      memberships: fc.array(membership, { maxLength: 3 }),
      owners: fc.array(owner, { maxLength: 1 }),
      noInherit: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(given, (world) =>
        withPair(async (admin, compare) => {
          await arrange(admin, world);
          const { differences } = await compare();
          const grants = differences.filter(({ kind }) => kind === "grant");
          assert.deepEqual(grants.map(short).map(withoutPublic).sort(), (await bruteForce(admin)).sort());
        }),
      ),
      { numRuns: 25 },
    );
  });

  interface Arranged {
    readonly grants: readonly { object: (typeof objects)[number]; to: string; option: boolean }[];
    readonly memberships: readonly { group: string; member: string }[];
    readonly owners: readonly { table: string; owner: string }[];
    readonly noInherit: boolean;
  }

  async function arrange(admin: pg.Client, { grants, memberships, owners, noInherit }: Arranged): Promise<void> {
    await admin.query(`create schema s; create table plain (a int); create table s.inner (a int);
      create table "Odd ""Name""" (a int); create sequence s.q;
      create function s.f(integer) returns int language sql as 'select 1'; revoke execute on function s.f from public`);
    if (noInherit) await admin.query("alter role app_clone noinherit");
    // Groups above their members only: the server takes no circles.
    const rank = ["g1", "g2", "app", "app_clone"];
    for (const { group, member } of memberships) {
      if (rank.indexOf(group) < rank.indexOf(member)) await admin.query(`grant ${group} to ${member}`);
    }
    for (const { table, owner: to } of owners) await admin.query(`alter table ${table} owner to ${to}`);
    for (const { object, to, option } of grants) {
      const how = option && to !== "public" ? " with grant option" : "";
      await admin.query(`grant ${object.right} on ${object.type} ${object.name} to ${to}${how}`);
    }
  }

  const catalogOf = { table: ["pg_class", "relowner", "regclass"], sequence: ["pg_class", "relowner", "regclass"] };
  const otherCatalogs = {
    schema: ["pg_namespace", "nspowner", "regnamespace"],
    function: ["pg_proc", "proowner", "regprocedure"],
  };
  const catalogs: Record<string, string[]> = { ...catalogOf, ...otherCatalogs };

  /** Asks the server object by object, but for those that one of the two owns. */
  async function bruteForce(admin: pg.Client): Promise<string[]> {
    const found: string[] = [];
    for (const { type, name, right } of objects) {
      const [catalog, owner, cast] = catalogs[type] ?? [];
      const level = (role: string) => `case when has_${type}_privilege('${role}', oid, $1 || ' with grant option')
        then 'with grant option' when has_${type}_privilege('${role}', oid, $1) then 'yes' else '-' end`;
      const { rows } = await admin.query(
        `select pg_has_role('app', ${owner}, 'usage') or pg_has_role('app_clone', ${owner}, 'usage') as owned,
           ${level("app")} as one, ${level("app_clone")} as two, pg_describe_object('${catalog}'::regclass, oid, 0) as what
         from ${catalog} where oid = $2::${cast}`,
        [right, name],
      );
      const [{ owned, one, two, what }] = rows;
      if (!owned && one !== two) found.push(`${right} on ${what}: ${one} / ${two}`);
    }
    return found;
  }
  const short = ({ what, first = "-", second = "-" }: Difference) => `${what}: ${first} / ${second}`;

  test("memberships, attributes, limits, settings, defaults and what each owns, with statements that make them alike", async () => {
    await withPair(async (admin, compare) => {
      await admin.query(`grant g1 to app with admin option; alter role app createdb connection limit 7 valid until '2030-01-02 UTC';
        alter role app set search_path to s, public; alter role app in database ${await nameOf(admin)} set work_mem to '9MB';
        alter role app_clone set statement_timeout to '5s'; create schema s; create table s.t (a int);
        alter table s.t owner to app_clone; grant insert (a) on s.t to g1;
        alter default privileges for role app in schema s grant select on tables to g2;
        alter default privileges for role postgres in schema s grant usage on sequences to app_clone`);
      const { differences, users, advice } = await compare();
      assert.deepEqual(users, [
        { name: "app", exists: true },
        { name: "app_clone", exists: true },
      ]);
      const name = await nameOf(admin);
      assert.deepEqual(differences.map((one) => `${one.kind}: ${short(one)}`).sort(), [
        "attribute: CREATEDB: yes / no",
        "default: SELECT for g2 on tables it makes in schema s: yes / -",
        "default: USAGE on sequences that postgres makes in schema s: - / yes",
        "limit: connections: 7 / -1",
        "limit: valid until: 2030-01-02 00:00:00+00 / infinity",
        "membership: role g1: inherits its rights, may give it to others / -",
        "ownership: table s.t: - / belongs to app_clone",
        "setting: search_path: s, public / -",
        "setting: statement_timeout: - / 5s",
        `setting: work_mem in database ${name}: 9MB / -`,
      ]);
      assert.match(advice.join(), /create role "app_owner" nologin/);
      for (const one of differences.filter(({ kind }) => kind !== "ownership")) {
        for (const statement of one.statements) await admin.query(statement);
      }
      for (const line of advice.join().split("\n").slice(1)) await admin.query(line);
      await admin.query(
        `alter table s.t owner to app_owner; ${differences.find(({ kind }) => kind === "ownership")?.statements[0]}`,
      );
      const after = await compare();
      await admin.query("drop owned by app_owner cascade; drop role app_owner");
      assert.deepEqual(after.differences, []);
    });
  });

  const nameOf = async (admin: pg.Client) => (await admin.query("select current_database() as name")).rows[0].name as string;
});
