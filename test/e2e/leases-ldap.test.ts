// Leases of a real directory through the native API and the command line, and requests that are sent twice.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, InvalidCredentialsError } from "ldapts";
import { native, nativeOk } from "../support/aws.ts";
import { commandLine } from "../support/cli.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { type SlapdServer, slapdSkip, startSlapd, suffix } from "../support/slapd-server.ts";

const [base, readers, manager] = [`ou=leases,${suffix}`, `cn=readers,${suffix}`, `cn=manager,${suffix}`];
const password = "canary-of-the-manager";
const secret = { project: "shop", config: "dev", dynamicSecret: "DIRECTORY" };

interface Issued {
  readonly lease: { readonly id: string; readonly user: string; readonly expiresAt: string; readonly state: string };
  readonly fields: Readonly<Record<string, string>>;
}

describe("leases of a directory", { skip: slapdSkip }, () => {
  const dataFolder = mkdtempSync(join(tmpdir(), "rekey-ldap-leases-"));
  let slapd: SlapdServer;
  let server: RekeyServer;
  before(async () => {
    const access = [
      `access to dn.subtree="${base}" attrs=userPassword by dn.exact="${manager}" write by anonymous auth by * none`,
      "access to attrs=userPassword by anonymous auth by * none",
      `access to dn.subtree="${base}" by dn.exact="${manager}" write by self read by * none`,
      `access to dn.exact="${readers}" by dn.exact="${manager}" write by * none`,
      "access to * by * none",
    ];
    [server, slapd] = await Promise.all([startRekey({ dataFolder }), startSlapd({ access })]);
    await slapd.asRoot(async (client) => {
      await client.add(base, { objectClass: "organizationalUnit", ou: "leases" });
      await client.add(manager, { objectClass: "person", cn: "manager", sn: "manager", userPassword: password });
      await client.add(readers, { objectClass: "groupOfNames", cn: "readers", member: slapd.rootDn });
    });
    await nativeOk(server, "projects/create", { name: secret.project });
    const { host, port } = slapd;
    const data = { host, port, username: manager, password, ssl: false, baseDn: base };
    await nativeOk(server, "integrations/create", { name: "directory", type: "ldap", data });
    const { project, config, dynamicSecret: name } = secret;
    const settings = { groups: [{ dn: readers }] };
    await nativeOk(server, "dynamic-secrets/create", { project, config, name, integration: "directory", settings });
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await slapd[Symbol.asyncDispose]();
    rmSync(dataFolder, { recursive: true });
  });

  const issue = async (more: object = {}): Promise<Issued> =>
    (await nativeOk(server, "leases/issue", { ...secret, ...more })) as unknown as Issued;
  const entries = () =>
    slapd.asRoot(async (client) => (await client.search(base, { scope: "one" })).searchEntries.map(({ cn }) => String(cn)));
  const members = () =>
    slapd.asRoot(async (client) =>
      (await client.search(readers, { scope: "base" })).searchEntries.flatMap(({ member }) => [member ?? []].flat().map(String)),
    );
  async function logsIn({ fields: { HOST, PORT, DN = "", PASSWORD } }: Issued): Promise<boolean> {
    const client = new Client({ url: `ldap://${HOST}:${PORT}` });
    try {
      await client.bind(DN, PASSWORD);
      return true;
    } catch (error) {
      assert.ok(error instanceof InvalidCredentialsError, String(error));
      return false;
    } finally {
      await client.unbind();
    }
  }

  test("issued, its entry logs in and is in its group; renewed, it ends later; revoked, nothing is left of it", async () => {
    const issued = await issue({ ttlSeconds: 600 });
    const { id: leaseId, user, expiresAt } = issued.lease;
    assert.equal(await logsIn(issued), true);
    assert.deepEqual([await entries(), await members()], [[user], [slapd.rootDn, issued.fields.DN]]);
    const { lease: renewed } = (await nativeOk(server, "leases/renew", { leaseId, ttlSeconds: 1_200 })) as unknown as Issued;
    assert.ok(Date.parse(renewed.expiresAt) > Date.parse(expiresAt));
    assert.equal(await logsIn(issued), true);
    await nativeOk(server, "leases/revoke", { leaseId });
    while ((await entries()).length > 0) await sleep(20);
    assert.equal(await logsIn(issued), false);
    assert.deepEqual([await entries(), await members()], [[], [slapd.rootDn]]);
    const { status } = await native(server, "leases/renew", { leaseId });
    assert.equal(status, 400);
  });

  test("the command line issues, renews and revokes one", async () => {
    const cli = commandLine(server.endpoint, server.credentials.token, dataFolder);
    const issued = (await cli.askJson("lease issue DIRECTORY --project shop --config dev --ttl 10m")) as unknown as Issued;
    assert.equal(await logsIn(issued), true);
    const { lease } = (await cli.askJson(`lease renew ${issued.lease.id} --ttl 20m`)) as unknown as Issued;
    assert.ok(Date.parse(lease.expiresAt) > Date.parse(issued.lease.expiresAt));
    await cli.ask(`lease revoke ${issued.lease.id}`);
    while ((await entries()).length > 0) await sleep(20);
    assert.equal(await logsIn(issued), false);
  });

  test("one request sent twice, at once or after a restart, gives one lease", async () => {
    const clientRequestToken = randomUUID();
    const [first, second] = await Promise.all([issue({ clientRequestToken }), issue({ clientRequestToken })]);
    assert.deepEqual([second.lease.id, second.fields], [first.lease.id, first.fields]);
    assert.equal((await entries()).length, 1);
    await server.stop("SIGKILL");
    server = await startRekey({ dataFolder });
    const third = await issue({ clientRequestToken });
    assert.deepEqual([third.lease.id, third.fields], [first.lease.id, first.fields]);
    assert.deepEqual([(await entries()).length, await logsIn(first)], [1, true]);
    assert.notEqual((await issue()).lease.id, first.lease.id);
  });
});
