// When old credentials end, through the API and the command line, of a real PostgreSQL.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { nativeOk } from "../support/aws.ts";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { rotationWorld } from "../support/rotation-e2e.ts";

describe("old credentials", { skip: postgresSkip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-retire-"));
  let server: RekeyServer;
  let database: PostgresServer;
  let world: ReturnType<typeof rotationWorld>;
  let cli: CommandLine;

  before(async () => {
    [server, database] = await Promise.all([startRekey(), startPostgres()]);
    world = rotationWorld(server, database);
    cli = commandLine(server.endpoint, server.credentials.token, folder);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  /** One of two users that alternate, rotated once. */
  async function rotated(policy?: object): Promise<{ SecretId: string; VersionId: string }> {
    const { ARN: masterarn } = await world.newSecret(world.superuser());
    const made = await world.newSecret(await world.newLogin({ masterarn }));
    if (policy) await nativeOk(server, "rotations/put-policy", { secretId: made.SecretId, ...policy });
    assert.equal((await world.rotated(made.SecretId, "MultiUser")).state, "succeeded");
    return made;
  }
  async function ended(secretId: string): Promise<Record<string, unknown>> {
    for (let asked = 0; ; asked++) {
      const { retirements } = await nativeOk(server, "retirements/list", { secretId });
      const [newest] = retirements as Record<string, unknown>[];
      if (newest?.state === "done") return newest;
      assert.ok(asked < 1_000, `waited in vain: ${JSON.stringify(retirements)}`);
      await sleep(20);
    }
  }

  test("the old user's password is ended when its time has come, and the current one stays", async () => {
    const { SecretId, VersionId } = await rotated({ retireAfterSeconds: 0 });
    const done = await ended(SecretId);
    assert.deepEqual([done.versionId, done.strategy, done.what], [VersionId, "alternating-users", "credential"]);
    assert.equal(await world.logsIn(await world.value(SecretId)), true);
    assert.notEqual(await world.logsIn(await world.value(SecretId, "AWSPREVIOUS")), true);
    assert.match(await cli.ask(`rotation status ${SecretId}`), /\nOld credential +ended .*\n/);
    assert.equal((await world.rotated(SecretId, "MultiUser")).state, "succeeded");
    assert.equal(await world.logsIn(await world.value(SecretId)), true);
  });

  test("people see when it ends, and end it at once or keep it", async () => {
    const { SecretId, VersionId } = await rotated({ retireAfterSeconds: 86_400 });
    const status = await cli.ask(`rotation status ${SecretId}`);
    assert.match(status, new RegExp(`\nHow +alternating-users\n[^]*\nOld credential +ends .*version ${VersionId}, waiting`));
    assert.match(await cli.ask(`rotation retirements ${SecretId}`), new RegExp(`^SECRET .*\n${SecretId} +${VersionId} +waiting`));
    const refused = await cli.run(`rotation retire ${SecretId} ${VersionId}`);
    assert.equal(refused.code, 2);
    assert.match(refused.err, /--now/);
    assert.equal(await world.logsIn(await world.value(SecretId, "AWSPREVIOUS")), true);
    await cli.ask(`rotation retire ${SecretId} ${VersionId} --now`);
    await ended(SecretId);
    assert.notEqual(await world.logsIn(await world.value(SecretId, "AWSPREVIOUS")), true);
    const late = await cli.run(`rotation retire ${SecretId} ${VersionId} --now`);
    assert.equal(late.code, 1);
    assert.match(late.err, /waits to be ended/);

    const other = await rotated({ retireAfterSeconds: 86_400 });
    assert.match(await cli.ask(`rotation keep ${other.SecretId} ${other.VersionId}`), /is not ended/);
    assert.match(await cli.ask(`rotation status ${other.SecretId}`), /\nOld credential +is kept/);
    const { retirements } = await nativeOk(server, "retirements/list", { state: "canceled" });
    assert.ok((retirements as { secretName: string }[]).some(({ secretName }) => secretName === other.SecretId));
  });

  test("without a time for it, users that alternate keep the old password until their next turn", async () => {
    const { SecretId } = await rotated();
    assert.deepEqual((await nativeOk(server, "retirements/list", { secretId: SecretId })).retirements, []);
    assert.equal(await world.logsIn(await world.value(SecretId, "AWSPREVIOUS")), true);
  });
});
