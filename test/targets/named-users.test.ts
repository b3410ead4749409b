// Two users that a secret names: they take turns, and nobody else's password is ever set in their stead.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import mysql2 from "mysql2/promise";
import pg from "pg";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { mysql } from "../../src/targets/mysql.ts";
import { postgres } from "../../src/targets/postgres.ts";
import type { Rotator } from "../../src/targets/target.ts";
import { mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { failure, tools } from "./contract.ts";

interface Target extends AsyncDisposable {
  readonly rotator: Rotator<DatabaseCredential>;
  readonly admin: DatabaseCredential;
  /** As the superuser, or as somebody else. */
  run(statement: string, as?: DatabaseCredential): Promise<void>;
  createUser(name: string, password: string): string;
  /** Statements by which the owner of a user gives what it may to another one. */
  giveItself(name: string, to: string): readonly string[];
  /** A user that may do all. */
  makeSuper(name: string): string;
}

async function postgresTarget(): Promise<Target> {
  const server = await startPostgres();
  const { host, port, user, password } = server;
  const admin = { engine: "postgres", host, port, username: user, password };
  return {
    rotator: postgres,
    admin,
    async run(statement, as = admin) {
      const client = new pg.Client({ host, port, user: as.username, password: as.password, database: "postgres" });
      await client.connect();
      await client.query(statement).finally(() => client.end());
    },
    createUser: (name, word) => `create role ${pg.escapeIdentifier(name)} login password ${pg.escapeLiteral(word)}`,
    giveItself: (name, to) => [`grant ${pg.escapeIdentifier(name)} to ${pg.escapeIdentifier(to)}`],
    makeSuper: (name) => `alter role ${pg.escapeIdentifier(name)} superuser`,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function mariadbTarget(): Promise<Target> {
  const server = await startMariaDb();
  const { host, port, user, password } = server;
  const admin = { engine: "mariadb", host, port, username: user, password };
  return {
    rotator: mysql,
    admin,
    async run(statement, as = admin) {
      const connection = await mysql2.createConnection({ host, port, user: as.username, password: as.password });
      await connection.query(statement).finally(() => connection.end());
    },
    createUser: (name, word) => `create user ${mysql2.escape(name)} identified by ${mysql2.escape(word)}`,
    giveItself: () => [],
    makeSuper: (name) => `grant all on *.* to ${mysql2.escape(name)} with grant option`,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

for (const [kind, skip, start] of [
  ["PostgreSQL", postgresSkip, postgresTarget],
  ["MariaDB", mariadbSkip, mariadbTarget],
] as const) {
  describe(`two named users of ${kind}`, { skip }, () => {
    let target: Target;
    before(async () => {
      target = await start();
    });
    after(() => target[Symbol.asyncDispose]());

    const newUser = async (name: string, usernames?: string[]): Promise<DatabaseCredential> => {
      await target.run(target.createUser(name, `first-of-${name}`));
      return { ...target.admin, username: name, password: `first-of-${name}`, ...(usernames && { usernames }) };
    };
    const turn = async (current: DatabaseCredential, password?: string): Promise<DatabaseCredential> => {
      const made = await target.rotator.create(current, "alternating-users", tools());
      const pending = { ...made, password: password ?? made.password };
      const versions = { current, pending, previous: undefined, admin: target.admin };
      await target.rotator.set(versions, "alternating-users", tools());
      await target.rotator.test(pending, tools());
      return pending;
    };
    const probe = (credential: DatabaseCredential) => target.rotator.probe(credential, tools());

    test("the second is made under its own name, and then they take turns", async () => {
      const [a, b] = [freshName("a"), freshName("odd 'name\"")];
      let current = await newUser(a, [b, a]);
      const accounts = new Set([target.rotator.account(current, "alternating-users")]);
      for (const expected of [b, a, b, a]) {
        const before = current;
        current = await turn(current);
        assert.equal(current.username, expected);
        assert.equal(await probe(before), "ok", "the one that was in use stays good");
        accounts.add(target.rotator.account(current, "alternating-users"));
        accounts.add(target.rotator.account({ ...current, usernames: [a, b] }, "alternating-users"));
      }
      assert.equal(accounts.size, 1, "one account, whichever is in use and however they are written");
    });

    test("what is wrong with the names is told", async () => {
      const { credential } = target.rotator;
      const problems = (value: object) =>
        credential.safeParse({ ...target.admin, username: "a", ...value }).error?.issues.map(({ path }) => path[0]);
      assert.equal(problems({ usernames: ["a", "b"] }), undefined);
      assert.deepEqual(problems({ usernames: ["b", "c"] }), ["username"]);
      for (const usernames of [["a"], ["a", "a"], ["a", ""], "a", ["a", "b", "c"]]) {
        assert.equal(problems({ usernames })?.[0], "usernames", JSON.stringify(usernames));
      }
    });

    test("somebody else's user is not set, whoever it is and whatever it was given by the attacker", async () => {
      for (const power of ["plain", "super"]) {
        const [own, victim] = [freshName("own"), freshName("victim")];
        const [attacker, other] = [await newUser(own, [own, victim]), await newUser(victim)];
        if (power === "super") await target.run(target.makeSuper(victim));
        for (const statement of target.giveItself(own, victim)) {
          await target.run(statement, attacker).catch(() => undefined); // servers differ in whether a user may
          await target.run(statement); // and somebody may have done it for good reasons
        }
        assert.equal(await failure(turn(attacker)), "invalid");
        assert.equal(await probe(other), "ok");
        assert.equal(await probe(target.admin), "ok");
      }
      const admin = await newUser(freshName("own"));
      const usernames = [admin.username, target.admin.username];
      assert.equal(await failure(turn({ ...admin, usernames })), "invalid", "nor the superuser itself");
    });

    test("a pending version cannot name others than the current one", async () => {
      const [own, second, victim] = [freshName("own"), freshName("second"), freshName("victim")];
      const current = await newUser(own, [own, second]);
      const other = await newUser(victim);
      const pending = { ...current, usernames: [own, victim], username: victim, password: "from-outside" };
      for (const named of [pending, { ...pending, usernames: [own, second] }]) {
        const versions = { current, pending: named, previous: undefined, admin: target.admin };
        assert.equal(await failure(target.rotator.set(versions, "alternating-users", tools())), "invalid");
      }
      assert.equal(await probe(other), "ok");
    });

    test("a user that is there is taken once an administrator says so, in the words of the error", async () => {
      const [a, b] = [freshName("a"), freshName("b")];
      const current = await newUser(a, [a, b]);
      await newUser(b);
      const refused = await turn(current).catch((error: unknown) => error);
      assert.ok(refused instanceof Error);
      const statements = refused.message.slice(refused.message.indexOf("if it does: ") + "if it does: ".length);
      for (const statement of statements.split("; ")) await target.run(statement);
      const second = await turn(current);
      assert.equal((await turn(second)).username, a);
    });

    test("a clone's name does not lead to a user that may do more", async () => {
      const victim = freshName("victim");
      const [other, attacker] = [await newUser(victim), await newUser(`${victim}_clone`)];
      await target.run(target.makeSuper(victim));
      assert.equal(await failure(turn(attacker)), "invalid");
      assert.equal(await probe(other), "ok");
    });

    test("a clone that may do more is not taken either, and one that was left half made is finished", async () => {
      const own = freshName("own");
      const [attacker, other] = [await newUser(own), await newUser(`${own}_clone`)];
      await target.run(target.makeSuper(`${own}_clone`));
      for (const statement of target.giveItself(own, `${own}_clone`)) await target.run(statement);
      assert.equal(await failure(turn(attacker)), "invalid");
      assert.equal(await probe(other), "ok");
      // As after a crash between making the user and marking it: what it was made with logs in.
      const [a, b] = [freshName("a"), freshName("b")];
      const current = await newUser(a, [a, b]);
      if (kind === "MariaDB") await newUser(b);
      assert.equal((await turn(current, `first-of-${b}`)).username, b);
    });

    test("what is retired must be the pair's other user, and still have the old password", async () => {
      const [a, b] = [freshName("a"), freshName("b")];
      const old = await newUser(a, [a, b]);
      const current = await turn(old);
      const retire = (what: DatabaseCredential, admin: DatabaseCredential | undefined = target.admin) =>
        target.rotator.retire?.(what, { current, admin }, "alternating-users", tools()) ?? assert.fail();
      assert.equal(await failure(retire(current)), "invalid", "the current one");
      assert.equal(await failure(retire({ ...old, username: freshName("other") })), "invalid");
      assert.equal(
        await failure(
          target.rotator.retire?.(old, { current, admin: undefined }, "alternating-users", tools()) ?? Promise.resolve(),
        ),
        "invalid",
      );
      const victim = await newUser(freshName("victim"));
      assert.equal(await failure(retire({ ...victim, usernames: [a, victim.username] })), "invalid");
      const younger = { ...old, password: "younger" };
      await retire(younger); // has never been in force: nothing to end
      assert.deepEqual([await probe(old), await probe(victim)], ["ok", "ok"]);
      await retire(old);
      assert.deepEqual([await probe(old), await probe(current)], ["refused", "ok"]);
      assert.equal((await turn(current)).username, a, "and can be used again");
    });

    test("the same credential at another address", () => {
      const there = target.rotator.at?.(target.admin, { host: "replica.example.com" });
      assert.deepEqual(there, { ...target.admin, host: "replica.example.com" });
      const pooled = target.rotator.at?.(target.admin, { host: "pooler.example.com", port: 6432 });
      assert.deepEqual(pooled, { ...target.admin, host: "pooler.example.com", port: 6432 });
    });
  });
}
