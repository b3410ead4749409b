// Leases through the native API, of a real PostgreSQL.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { nativeOk } from "../support/aws.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

interface Issued {
  readonly lease: { readonly id: string; readonly user: string; readonly expiresAt: string; readonly state: string };
  readonly fields: Record<string, string>;
}

describe("leases", { skip: postgresSkip }, () => {
  let server: RekeyServer;
  let database: PostgresServer;
  let admin: pg.Client;
  const config = { project: "shop", config: "dev" };

  before(async () => {
    [server, database] = await Promise.all([startRekey(), startPostgres()]);
    admin = new pg.Client(database.url);
    await admin.connect();
    await admin.query("create role readers; create table goods (id int); grant select on goods to readers");
    await nativeOk(server, "projects/create", { name: "shop" });
    const { host, port, user: username, password } = database;
    await nativeOk(server, "integrations/create", { name: "main", type: "postgres", data: { host, port, username, password } });
  });
  after(async () => {
    await admin.end();
    await server[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  const newSecret = async (more: object = {}): Promise<string> => {
    const name = `DB_${randomUUID().slice(0, 8).toUpperCase()}`.replaceAll("-", "_");
    await nativeOk(server, "dynamic-secrets/create", { ...config, name, integration: "main", settings: { roles: ["readers"] }, ...more });
    return name;
  };
  const issue = async (dynamicSecret: string, more: object = {}): Promise<Issued> =>
    (await nativeOk(server, "leases/issue", { ...config, dynamicSecret, ...more })) as unknown as Issued;
  const users = async (): Promise<string[]> =>
    (await admin.query("select rolname from pg_roles where rolname like 'rk\\_%'")).rows.map(({ rolname }) => rolname);
  const logsIn = async ({ fields }: Issued): Promise<boolean> => {
    const { HOST: host, PORT, USERNAME: user, PASSWORD: password, DATABASE: name } = fields;
    const client = new pg.Client({ host, port: Number(PORT), user, password, database: name, ssl: false });
    client.on("error", () => undefined);
    try {
      await client.connect();
      await client.query("select * from goods");
      await client.end();
      return true;
    } catch (error) {
      assert.ok(error instanceof pg.DatabaseError, String(error));
      return false;
    }
  };

  test("a lease works until it is revoked, and its user is gone then", async () => {
    const issued = await issue(await newSecret());
    assert.equal(issued.lease.state, "active");
    assert.equal(issued.fields.USERNAME, issued.lease.user);
    assert.equal(await logsIn(issued), true);
    assert.ok((await users()).includes(issued.lease.user));
    const { revoked } = await nativeOk(server, "leases/revoke", { leaseId: issued.lease.id });
    assert.equal(revoked, true);
    assert.equal((await users()).includes(issued.lease.user), false);
  });

  test("deleting the dynamic secret, or its config, leaves no user", async () => {
    const secret = await newSecret();
    const { lease } = await issue(secret);
    assert.deepEqual(await nativeOk(server, "dynamic-secrets/delete", { ...config, name: secret }), { leasesEnding: 1 });
    for (let asked = 0; (await users()).includes(lease.user); asked++) {
      assert.ok(asked < 1_000, "the user stays");
      await sleep(20);
    }
  });
});
