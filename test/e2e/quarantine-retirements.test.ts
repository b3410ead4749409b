// What becomes of old credentials that wait for their end in a backup that is restored.
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { nativeOk, newName } from "../support/aws.ts";
import { type CommandLine, commandLine, run } from "../support/cli.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { rotationWorld } from "../support/rotation-e2e.ts";

describe("old credentials of a restored store", { skip: postgresSkip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-restored-"));
  const data = join(folder, "data");
  let database: PostgresServer;
  let made: { SecretId: string; VersionId: string };

  before(async () => {
    database = await startPostgres();
    await using server = await startRekey({ dataFolder: data });
    const world = rotationWorld(server, database);
    const { ARN: masterarn } = await world.newSecret(world.superuser(), newName("master"));
    made = await world.newSecret(await world.newLogin({ masterarn }));
    await nativeOk(server, "rotations/put-policy", { secretId: made.SecretId, retireAfterSeconds: 3_600 });
    assert.equal((await world.rotated(made.SecretId, "MultiUser")).state, "succeeded");
    const { code, err } = await run(["backup", "--to", "snapshot", "--data", data], { cwd: folder });
    assert.equal(code, 0, err);
  });
  after(async () => {
    await database[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  interface Restored {
    readonly server: RekeyServer;
    readonly cli: CommandLine;
    readonly world: ReturnType<typeof rotationWorld>;
    state(): Promise<unknown>;
  }

  async function restored(name: string, work: (store: Restored) => Promise<void>): Promise<void> {
    const { code, err } = await run(["restore", "--from", "snapshot", "--data", name], { cwd: folder });
    assert.equal(code, 0, err);
    for (const file of ["root.key", "root-credentials.json"]) copyFileSync(join(data, file), join(folder, name, file));
    await using server = await startRekey({ dataFolder: join(folder, name) });
    await work({
      server,
      cli: commandLine(server.endpoint, server.credentials.token, folder),
      world: rotationWorld(server, database),
      async state() {
        const { retirements } = await nativeOk(server, "retirements/list", { secretId: made.SecretId });
        return (retirements as { state: string }[]).map(({ state }) => state).join();
      },
    });
  }

  test("their end is called off, since what was restored may be behind", async () => {
    await restored("called-off", async ({ cli, world, state }) => {
      const { SecretId, VersionId } = made;
      assert.match(await cli.ask("quarantine plan"), new RegExp(`\n${SecretId} +retirement `));
      await cli.ask("quarantine release --yes");
      assert.equal(await state(), "canceled");
      const late = await cli.run(`rotation retire ${SecretId} ${VersionId} --now`);
      assert.match(late.err, /waits to be ended/);
      for (const label of ["AWSCURRENT", "AWSPREVIOUS"])
        assert.equal(await world.logsIn(await world.value(SecretId, label)), true);
      assert.match(await cli.ask(`rotation status ${SecretId}`), /\nOld credential +is kept/);
      assert.match(await cli.ask("events tail"), new RegExp(`retirement.canceled .*${SecretId}`));
    });
  });

  test("with --keep-retirements they end as the restored store says", async () => {
    await restored("kept", async ({ cli, world, state }) => {
      const { SecretId, VersionId } = made;
      await cli.ask("quarantine release --yes --keep-retirements");
      assert.equal(await state(), "waiting");
      assert.equal(await world.logsIn(await world.value(SecretId, "AWSPREVIOUS")), true);
      await cli.ask(`rotation retire ${SecretId} ${VersionId} --now`);
      for (let asked = 0; (await state()) !== "done"; asked++) {
        assert.ok(asked < 1_000, "waited in vain");
        await sleep(20);
      }
      assert.equal(await world.logsIn(await world.value(SecretId)), true);
      assert.equal(await world.logsIn(await world.value(SecretId, "AWSPREVIOUS")), "28P01");
    });
  });
});
