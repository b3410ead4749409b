// Leases through the native API, of a real PostgreSQL.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { native, nativeOk } from "../support/aws.ts";
import { type CommandLine, commandLine } from "../support/cli.ts";
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
  let cli: CommandLine;
  const folder = mkdtempSync(join(tmpdir(), "rekey-leases-"));
  const config = { project: "shop", config: "dev" };

  before(async () => {
    [server, database] = await Promise.all([startRekey(), startPostgres()]);
    admin = new pg.Client(database.url);
    await admin.connect();
    await admin.query("create role readers; create table goods (id int); grant select on goods to readers");
    cli = commandLine(server.endpoint, server.credentials.token, folder);
    await nativeOk(server, "projects/create", { name: "shop" });
    const { host, port, user: username, password } = database;
    await nativeOk(server, "integrations/create", { name: "main", type: "postgres", data: { host, port, username, password } });
  });
  after(async () => {
    await admin.end();
    await server[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const newSecret = async (more: object = {}): Promise<string> => {
    const name = `DB_${randomUUID().slice(0, 8).toUpperCase()}`.replaceAll("-", "_");
    await nativeOk(server, "dynamic-secrets/create", {
      ...config,
      name,
      integration: "main",
      settings: { roles: ["readers"] },
      ...more,
    });
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

  test("a service token neither sees nor ends what another one leased", async () => {
    const DynamicSecret = await newSecret();
    const tokenOf = async (name: string) => {
      const { token } = await nativeOk(server, "service-tokens/create", { ...config, name, access: "read" });
      return (token as { key: string }).key;
    };
    const [mine, theirs] = [await tokenOf("mine"), await tokenOf("theirs")];
    const ask = async (key: string, path: string, input: object) => native(server, path, input, key);
    const { json } = await ask(theirs, "leases/issue", { dynamicSecret: DynamicSecret, clientRequestToken: randomUUID() });
    const { lease } = json as unknown as Issued;
    for (const path of ["leases/get", "leases/renew", "leases/revoke"])
      assert.equal((await ask(mine, path, { leaseId: lease.id })).status, 403, path);
    assert.equal((await ask(mine, "leases/list", {})).status, 403);
    assert.ok((await users()).includes(lease.user));
    for (const path of ["leases/get", "leases/renew", "leases/revoke"])
      assert.equal((await ask(theirs, path, { leaseId: lease.id })).status, 200, path);
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

  test("the command line: from an integration to the end of a lease", async () => {
    const { host, port, user } = database;
    writeFileSync(join(folder, "pw"), `${database.password}\n`);
    const made = await cli.ask(
      `integration create second --type postgres --set host=${host} --set port=${port} --set username=${user} --secret-file password=pw`,
    );
    assert.match(made, /Logs in as +role postgres of PostgreSQL/);
    assert.equal(made.includes(database.password), false);
    const refused = await cli.run(`integration create third --type postgres --set host=${host} --set password=oops`);
    assert.deepEqual([refused.code, /--secret-file/.test(refused.err)], [2, true]);
    assert.match(await cli.ask("integration list"), /^NAME +TYPE +TARGET.*\nmain .*\nsecond +postgres +postgres:/);
    assert.match(await cli.ask("integration verify second"), /^it works: role postgres/);

    const there = "--project shop --config dev";
    assert.match(
      await cli.ask(`dynamic create CLI ${there} --integration second --set roles=["readers"] --ttl 5m`),
      /Gives +CLI_USERNAME, CLI_PASSWORD/,
    );
    assert.match(await cli.ask(`dynamic list ${there}`), /\nCLI +postgres +second +300 s/);
    assert.match(await cli.ask(`dynamic check CLI ${there}`), /nothing stands in the way|warning/);
    assert.match(await cli.ask(`dynamic update CLI ${there} --max-leases 2`), /Leases at once +2/);

    const issued = (await cli.askJson(`lease issue CLI ${there} --ttl 2m`)) as unknown as Issued;
    assert.equal(await logsIn(issued), true);
    assert.match(await cli.ask(`lease issue CLI ${there}`), /^USERNAME +rk_.*\nPASSWORD +\S+\n(.*\n)*Ends +2/);
    const third = await cli.run(`lease issue CLI ${there}`);
    assert.deepEqual([third.code, /LimitExceededException: 2 leases of CLI live/.test(third.err)], [1, true]);
    const { id, user: name } = issued.lease;
    assert.match(
      await cli.ask(`lease list ${there} --dynamic CLI --state active`),
      new RegExp(`\n${id} +shop/dev/CLI +active +${name}`),
    );
    assert.match(await cli.ask(`lease list --user ${name}`), new RegExp(`\n${id} `));
    assert.match(await cli.ask(`lease renew ${id} --ttl 10m`), new RegExp(`^${id} ends at 2`));
    assert.match(await cli.ask(`lease revoke ${id}`), / has ended\n$/);
    assert.match(await cli.ask(`lease get ${id}`), /State +ended\nWhy +revoked/);
    assert.match(await cli.ask("lease orphans second"), /every user has a lease/);
    assert.match(await cli.ask(`lease revoke-all ${there} --dynamic CLI --yes`), /^1 lease is being ended/);
    const inUse = await cli.run("integration delete second");
    assert.deepEqual([inUse.code, /is used by dynamic secret shop\/dev\/CLI/.test(inUse.err)], [1, true]);
    await cli.ask(`dynamic delete CLI ${there} --yes`);
    assert.match(await cli.ask("integration delete second"), /^second is deleted/);
    const policy = await cli.run("integration policy aws-iam");
    assert.match(policy.out, /"iam:CreateUser"/);
  });
});
