// What the two users of an alternating pair do not have alike at a real MariaDB, compared with what its own tables say.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import type { Connection, RowDataPacket } from "mysql2/promise";
import { mysql } from "../../src/targets/mysql.ts";
import type { Comparison, Difference } from "../../src/targets/target.ts";
import { type MariaDbServer, mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { tools } from "./contract.ts";

const users = ["app", "app_clone"];
const places = ["*.*", "`a`.*", "`a`.`t`", "`a`.`od``d`"];
const rights = ["SELECT", "INSERT", "UPDATE"];

describe("parity of MariaDB users", { skip: mariadbSkip }, () => {
  let server: MariaDbServer;
  let admin: Connection;
  before(async () => {
    server = await startMariaDb();
    admin = await server.connect();
    await admin.query("create database a");
    await admin.query("create table a.t (x int, y int)");
    await admin.query("create table a.`od``d` (x int)");
    await admin.query("create role r1");
  });
  after(async () => {
    await admin.end();
    await server[Symbol.asyncDispose]();
  });

  async function compared(): Promise<Comparison> {
    const { host, port, user, password } = server;
    const credential = { engine: "mariadb", host, port, username: user, password };
    assert.ok(mysql.compare);
    const access = { current: { ...credential, username: "app", password: "first-password" }, admin: credential };
    return mysql.compare(access, tools());
  }
  async function withPair(work: () => Promise<void>): Promise<void> {
    for (const user of users) await admin.query(`create user ${user} identified by 'first-password'`);
    try {
      await work();
    } finally {
      for (const user of users) await admin.query(`drop user ${user}`);
    }
  }
  const short = ({ what, first = "-", second = "-" }: Difference) => `${what}: ${first} / ${second}`;

  /** Every right for itself, from the server's own tables. */
  async function bruteForce(): Promise<string[]> {
    const [rows] = await admin.query<RowDataPacket[]>(
      `select grantee, privilege_type as p, is_grantable as g, '*.*' as place from information_schema.user_privileges
       union all select grantee, privilege_type, is_grantable, concat('\`', table_schema, '\`.*') from information_schema.schema_privileges
       union all select grantee, privilege_type, is_grantable,
         concat('\`', table_schema, '\`.\`', replace(table_name, '\`', '\`\`'), '\`') from information_schema.table_privileges`,
    );
    const held = new Map(users.map((user) => [user, new Set<string>()]));
    for (const { grantee, p, g, place } of rows) {
      const option = g === "YES" ? " WITH GRANT OPTION" : "";
      const user = users.find((one) => grantee === `'${one}'@'%'`);
      if (user && p !== "USAGE") held.get(user)?.add(`${p} ON ${place}${option} (at %)`);
    }
    const [one, two] = [held.get("app") ?? new Set(), held.get("app_clone") ?? new Set()];
    const all = [...new Set([...one, ...two])].filter((right) => one.has(right) !== two.has(right));
    return all.map((right) => `${right}: ${one.has(right) ? "yes" : "-"} / ${two.has(right) ? "yes" : "-"}`).sort();
  }

  test("random rights: the report is what the server's tables say", async () => {
    const grant = fc.record({
      right: fc.constantFrom(...rights),
      place: fc.constantFrom(...places),
      user: fc.constantFrom(...users),
      option: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(grant, { maxLength: 10 }), (grants) =>
        withPair(async () => {
          for (const { right, place, user, option } of grants) {
            await admin.query(`grant ${right} on ${place} to ${user}${option ? " with grant option" : ""}`);
          }
          const { differences } = await compared();
          assert.deepEqual(differences.map(short).sort(), await bruteForce());
        }),
      ),
      { numRuns: 20 },
    );
  });

  test("roles, limits, columns and definers, with statements that make them alike", async () => {
    await withPair(async () => {
      await admin.query("alter user app require ssl with max_user_connections 5");
      await admin.query("grant r1 to app");
      await admin.query("grant select (x) on a.t to app");
      await admin.query("create definer = 'app_clone'@'%' view a.v as select 1 as one");
      const { differences, advice } = await compared();
      assert.deepEqual(differences.map(short).sort(), [
        "REQUIRE (at %): SSL / -",
        "SELECT (`x`) ON `a`.`t` (at %): yes / -",
        "WITH (at %): MAX_USER_CONNECTIONS 5 / -",
        "role `r1` (at %): yes / -",
        "view a.v: - / is its definer",
      ]);
      assert.equal(advice.length, 1);
      for (const statement of differences.flatMap(({ statements }) => statements)) await admin.query(statement);
      await admin.query("drop view a.v");
      assert.deepEqual((await compared()).differences, []);
    });
  });

  test("a user that is not there yet is told", async () => {
    await admin.query("create user app identified by 'first-password'");
    const { users: told, differences } = await compared();
    await admin.query("drop user app");
    assert.deepEqual([told[1], differences], [{ name: "app_clone", exists: false }, []]);
  });
});
