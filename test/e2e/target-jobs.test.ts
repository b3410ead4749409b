// Checks, rollbacks, adoptions, comparisons, candidates and events of a running server, from the command line and the API.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { allow, native, nativeOk, newName, newUser, statement } from "../support/aws.ts";
import { type CommandLine, commandLine, program } from "../support/cli.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { type DatabaseSecret, functionArn, rotationWorld } from "../support/rotation-e2e.ts";

interface Candidate {
  readonly stage: string;
  readonly versionId: string;
  readonly generation: number;
  readonly inForce: boolean;
  readonly secretString: string;
}

describe("work at targets that somebody asks for", { skip: postgresSkip }, () => {
  let server: RekeyServer;
  let database: PostgresServer;
  let world: ReturnType<typeof rotationWorld>;
  let root: CommandLine;
  let master: { SecretId: string; ARN: string };
  const folder = mkdtempSync(join(tmpdir(), "rekey-jobs-"));
  before(async () => {
    [server, database] = await Promise.all([startRekey({ env: { REKEY_SETTLE_MS: "0" } }), startPostgres()]);
    world = rotationWorld(server, database);
    root = commandLine(server.endpoint, server.credentials.token, folder);
    master = await world.newSecret(world.superuser(), newName("master"));
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  async function newSecret(): Promise<{ SecretId: string; login: DatabaseSecret }> {
    const login = await world.newLogin({ masterarn: master.ARN });
    return { login, SecretId: (await world.newSecret(login)).SecretId };
  }

  it("a check says what a rotation would meet, and its exit code whether it would fail", async () => {
    const { SecretId, login } = await newSecret();
    const none = await root.run(`rotation check ${SecretId}`);
    assert.equal(none.code, 1);
    assert.match(none.out, /createSecret +problem +no rotation function is configured/);
    const multi = "SecretsManagerRDSPostgreSQLRotationMultiUser";
    const good = await root.ask(`rotation check ${SecretId} --function ${multi}`);
    assert.match(good, /ok: the superuser's credential logs in\n(.|\n)*a rotation would work\n$/);
    await world.sql(`alter role ${login.username} password 'by hand'`);
    const bad = await root.run(`rotation check ${SecretId} --function ${multi} --json`);
    assert.equal(bad.code, 1);
    const { ok, findings } = JSON.parse(bad.out);
    assert.deepEqual([ok, findings[0].step, findings.length], [false, "setSecret", 1]);
    assert.doesNotMatch(bad.out + server.log(), /first-password/);
  });

  it("adopting changes nothing at the target or in the value, and the first rotation does what the plan says", async () => {
    const { SecretId, login } = await newSecret();
    const atTarget = async () =>
      (await world.sql("select rolname, rolpassword, rolvaliduntil, oid from pg_authid order by oid")).rows;
    const [then, labels] = [await atTarget(), await world.labels(SecretId)];
    const command = `rotation adopt ${SecretId} --function SecretsManagerRDSPostgreSQLRotationMultiUser --after-days 30`;
    assert.match(await root.ask(command), /nothing was configured; --yes does it/);
    assert.equal((await world.root.describeSecret({ SecretId })).RotationEnabled, undefined);
    const adopted = await root.ask(`${command} --yes`);
    assert.match(adopted, new RegExp(`It makes the user ${login.username}_clone like ${login.username}`));
    assert.deepEqual(await atTarget(), then);
    assert.deepEqual(await world.labels(SecretId), labels);
    assert.deepEqual(await world.rotations(SecretId), []);
    const described = await world.root.describeSecret({ SecretId });
    assert.deepEqual([described.RotationEnabled, described.RotationRules?.AutomaticallyAfterDays], [true, 30]);
    assert.ok(described.NextRotationDate);
    assert.equal((await world.rotated(SecretId, "MultiUser")).state, "succeeded");
    assert.equal((await world.value(SecretId)).username, `${login.username}_clone`);
    assert.match(await root.ask(command), /sets a new password for \S+, which is there/);
  });

  it("a plan holds for the value that it was made for, and only a good one can be applied", async () => {
    const { SecretId, login } = await newSecret();
    const rotationLambdaArn = functionArn(server, "SingleUser");
    const planned = async () => {
      const { jobId } = await nativeOk(server, "rotations/adopt", { secretId: SecretId, rotationLambdaArn });
      for (;;) {
        const job = await nativeOk(server, "rotations/get-job", { jobId });
        if (job.state === "done") return jobId;
        await sleep(20);
      }
    };
    const jobId = await planned();
    await world.root.putSecretValue({ SecretId, SecretString: JSON.stringify({ ...login, password: "other" }) });
    const stale = await native(server, "rotations/apply-adoption", { jobId });
    assert.match(String(stale.json?.detail), /another value than the plan is for/);
    const bad = await native(server, "rotations/apply-adoption", { jobId: await planned() });
    assert.match(String(bad.json?.detail), /would make a rotation fail/);
  });

  it("a rollback goes back to what logs in, and says why it does not", async () => {
    const { SecretId } = await newSecret();
    assert.equal((await world.rotated(SecretId, "MultiUser")).state, "succeeded");
    const before = await world.value(SecretId, "AWSPREVIOUS");
    assert.match(await root.ask(`secret rollback ${SecretId}`), /is back at version \S+, which logs in/);
    assert.deepEqual(await world.value(SecretId), before);
    const events = await nativeOk(server, "events/list", { type: "secret.rolled-back", limit: 1000 });
    assert.equal((events.events as object[]).length, 1);
    await nativeOk(server, "secrets/describe", { secretId: SecretId });
    const { records } = (await nativeOk(server, "audit/search", { action: "rekey:RollbackSecret" })) as { records: object[] };
    assert.equal(records.length, 2, "who asked, and what was done");
    const again = await native(server, "rotations/rollback", { secretId: SecretId, versionId: randomUUID() });
    assert.equal(again.json?.code, "ResourceNotFoundException");
    const fresh = await newSecret();
    const { code, err } = await root.run(`secret rollback ${fresh.SecretId}`);
    assert.deepEqual([code, /no version is AWSPREVIOUS.*rekey secret versions.*--to/.test(err)], [1, true], err);
  });

  it("a comparison of the users ends with exit code 1 when they differ", async () => {
    const { SecretId, login } = await newSecret();
    assert.equal((await world.rotated(SecretId, "MultiUser")).state, "succeeded");
    assert.match(await root.ask(`rotation parity ${SecretId}`), /are alike\n/);
    await world.sql(`alter role ${login.username} connection limit 9`);
    const differing = await root.run(`rotation parity ${SecretId}`);
    assert.equal(differing.code, 1);
    assert.match(differing.out, /limit +connections +9 +-1/);
    assert.match(differing.out, new RegExp(`alter role "${login.username}_clone" connection limit 9;`));
  });

  it("candidates read while rotations run are of one moment each", async () => {
    const { SecretId } = await newSecret();
    assert.equal((await world.rotated(SecretId, "MultiUser")).state, "succeeded");
    const versionAt = new Map<number, string>();
    const valueAt = new Map<string, string>();
    let running = true;
    let reads = 0;
    const note = <K, V>(map: Map<K, V>, key: K, value: V) => {
      assert.equal(map.get(key) ?? value, value);
      map.set(key, value);
    };
    const read = async () => {
      while (running) {
        const answer = await nativeOk(server, "secrets/candidates", { secretId: SecretId });
        const candidates = answer.candidates as Candidate[];
        assert.deepEqual(
          candidates.map(({ stage, generation }) => [stage, generation]),
          [
            ["AWSCURRENT", answer.generation],
            ["AWSPREVIOUS", Number(answer.generation) - 1],
          ],
        );
        for (const { generation, versionId, secretString, inForce } of candidates) {
          note(versionAt, generation, versionId);
          note(valueAt, versionId, secretString);
          assert.ok(inForce);
        }
        reads += 1;
      }
    };
    const readers = [read(), read(), read()];
    for (let turn = 0; turn < 8; turn++) assert.equal((await world.rotated(SecretId, "MultiUser")).state, "succeeded");
    running = false;
    await Promise.all(readers);
    assert.ok(reads > 8 && versionAt.size >= 8);
    assert.match(await root.ask(`secret candidates ${SecretId}`), /AWSCURRENT .* yes/);
    const single = await newSecret();
    await world.rotated(single.SecretId, "SingleUser");
    assert.match(await root.ask(`secret candidates ${single.SecretId}`), /AWSPREVIOUS .* no /);
  });

  it("candidates need the right to read each version that they show", async () => {
    const { SecretId } = await newSecret();
    const current = { StringEquals: { "secretsmanager:VersionStage": "AWSCURRENT" } };
    const reading = statement("Allow", ["secretsmanager:GetSecretValue"], "*", current);
    const userName = newName("reader");
    await newUser(server, userName, allow("rekey:GetSecretCandidates"), reading);
    const { token } = await nativeOk(server, "tokens/create", { userName, name: "t" });
    const refused = await native(server, "secrets/candidates", { secretId: SecretId }, String(token));
    assert.match(String(refused.json?.detail), /not authorized to perform: secretsmanager:GetSecretValue/);
  });

  it("events are followed as they happen", async () => {
    const { SecretId } = await newSecret();
    const asked = async () => /operation="ListEvents".*/.exec(await (await fetch(`${server.endpoint}/metrics`)).text())?.[0];
    const before = await asked();
    const child = spawn(
      process.execPath,
      [program, "events", "tail", "--follow", "--json", "--type", "rotation.", "--max", "0"],
      {
        env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...root.env },
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    try {
      while ((await asked()) === before) await sleep(20);
      await world.rotated(SecretId, "SingleUser");
      const types: string[] = [];
      for await (const line of createInterface(child.stdout)) {
        types.push(JSON.parse(line).type);
        if (types.includes("rotation.succeeded")) break;
      }
      assert.deepEqual(types, ["rotation.started", "rotation.succeeded"]);
    } finally {
      child.kill("SIGKILL");
    }
    assert.match(await root.ask("events tail --type rotation.succeeded --max 1"), /^TIME .*\n.*rotation\.succeeded/);
  });

  it("a heartbeat that fails is shown with the rotation's status, and counted", async () => {
    const { SecretId, login } = await newSecret();
    await world.rotated(SecretId, "SingleUser");
    await world.sql(`alter role ${login.username} password 'by hand'`);
    await nativeOk(server, "rotations/put-policy", { secretId: SecretId, heartbeatSeconds: 60 });
    const beats = async () => (await nativeOk(server, "rotations/heartbeats", { secretId: SecretId })).heartbeats as object[];
    for (let tries = 0; (await beats()).length === 0 && tries < 2_400; tries++) await sleep(50);
    assert.match(await root.ask(`rotation status ${SecretId}`), /Heartbeat +changed outside: the target refuses it/);
    assert.match(await root.ask("rotation status"), new RegExp(`${SecretId} +changed outside`));
    assert.match(await (await fetch(`${server.endpoint}/metrics`)).text(), /rekey_heartbeats\{outcome="refused"\} 1/);
  });
});
