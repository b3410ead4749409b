// Rotations across the death of the writing process, and equal nodes on one PostgreSQL.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  CreateSecretCommand,
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  RotateSecretCommand,
  type SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import pg from "pg";
import { allow, nativeOk, newName, newUser, refused, secretsClient } from "../support/aws.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { awaitLog, endProcess, runRekey, workersOf } from "../support/processes.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const singleUser = "arn:aws:lambda:us-east-1:000000000000:function:SecretsManagerRDSPostgreSQLRotationSingleUser";

let postgres: PostgresServer;
let admin: pg.Client;

before(async () => {
  if (postgresSkip) return;
  postgres = await startPostgres();
  admin = new pg.Client(postgres.url);
  await admin.connect();
});
after(async () => {
  await admin?.end();
  await postgres?.[Symbol.asyncDispose]();
});

const textOf = async (client: SecretsManagerClient, SecretId: string) =>
  (await client.send(new GetSecretValueCommand({ SecretId }))).SecretString ?? "";

/** A secret with a login of its own on the PostgreSQL of these tests. */
async function newLogin(client: SecretsManagerClient): Promise<string> {
  const username = `user_${randomUUID().slice(0, 8)}`;
  await admin.query(`create role ${username} login password 'first-password'`);
  const { host, port } = postgres;
  const credential = { engine: "postgres", host, port, username, password: "first-password", dbname: "postgres" };
  const made = await client.send(new CreateSecretCommand({ Name: newName(), SecretString: JSON.stringify(credential) }));
  return made.ARN ?? "";
}

const rotateNow = (client: SecretsManagerClient, SecretId: string) =>
  client.send(
    new RotateSecretCommand({ SecretId, RotationLambdaARN: singleUser, RotationRules: { AutomaticallyAfterDays: 30 } }),
  );

async function stagesOf(client: SecretsManagerClient, SecretId: string): Promise<Readonly<Record<string, string>>> {
  const { VersionIdsToStages = {} } = await client.send(new DescribeSecretCommand({ SecretId }));
  return Object.fromEntries(Object.entries(VersionIdsToStages).flatMap(([id, stages]) => stages.map((stage) => [stage, id])));
}

async function logsIn(credential: string): Promise<boolean> {
  const { host, port, username: user, password, dbname: database } = JSON.parse(credential);
  const client = new pg.Client({ host, port, user, password, database });
  try {
    await client.connect();
    return true;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return false;
    throw error;
  } finally {
    await client.end();
  }
}

async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  const giveUpAt = Date.now() + 120_000;
  while (!(await holds())) {
    assert.ok(Date.now() < giveUpAt, `waited in vain for ${what}`);
    await sleep(50);
  }
}

describe("a rotation of a server of several processes", { skip: postgresSkip }, () => {
  test("ends after the writer is killed in the middle of it, and no reader saw a password that was refused", async () => {
    await using server = await startRekey({ flags: ["--processes", "2", "--settle-ms", "1500"] });
    const client = secretsClient(server);
    const killInTheMiddle = async (): Promise<{ arn: string; next: string | undefined }> => {
      const arn = await newLogin(client);
      const { VersionId: next } = await rotateNow(client, arn);
      await until(async () => (await stagesOf(secretsClient(server), arn)).AWSPENDING === next, "AWSPENDING");
      await sleep(300); // its password is made by then, and the switch waits for readers to settle
      const [writer = 0] = workersOf(server, "writer");
      endProcess(writer, "SIGKILL");
      await awaitLog(server, (line) => line.worker === writer && /was ended by SIGKILL/.test(String(line.msg)));
      // On a slow machine it may be over before.
      return (await stagesOf(secretsClient(server), arn)).AWSCURRENT === next ? killInTheMiddle() : { arn, next };
    };
    const { arn, next } = await killInTheMiddle();
    assert.ok(await logsIn(await textOf(secretsClient(server), arn)), "what is read while the writer is gone");
    await until(async () => (await stagesOf(secretsClient(server), arn)).AWSCURRENT === next, "the end of the rotation");
    const credential = await textOf(secretsClient(server), arn);
    assert.notEqual(JSON.parse(credential).password, "first-password");
    assert.ok(await logsIn(credential));
    const { code, out } = await runRekey(["audit", "verify", "--data", server.dataFolder]);
    assert.equal(code, 0, out);
  });
});

describe("work at targets on a server of several processes", { skip: postgresSkip }, () => {
  test("is begun at once whichever process is asked, and all of them know of it at once", async () => {
    await using server = await startRekey({ flags: ["--processes", "3", "--settle-ms", "0"] });
    const secretId = await newLogin(secretsClient(server));
    for (let round = 0; round < 6; round++) {
      const { jobId } = await nativeOk(server, "rotations/check", { secretId, rotationLambdaArn: singleUser });
      const asks = Array.from({ length: 6 }, () => nativeOk(server, "rotations/get-job", { jobId }));
      assert.ok((await Promise.all(asks)).every(({ kind }) => kind === "check"));
      await until(async () => (await nativeOk(server, "rotations/get-job", { jobId })).state === "done", "the end of the check");
    }
  });
});

describe("nodes on one PostgreSQL", { skip: postgresSkip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-nodes-"));
  let url: string;
  /** One of two processes with the engine, and one without it. */
  let nodes: RekeyServer[];
  let clients: SecretsManagerClient[];

  before(async () => {
    url = await postgres.newDatabase();
    const { code, out, err } = await runRekey(["init", "--database-url", url, "--data", folder, "--json"]);
    assert.equal(code, 0, err);
    writeFileSync(join(folder, "root-credentials.json"), out, { mode: 0o600 });
    const flags = ["--database-url", url, "--settle-ms", "0"];
    nodes = [
      await startRekey({ dataFolder: folder, flags: [...flags, "--processes", "2"] }),
      await startRekey({ dataFolder: folder, flags: [...flags, "--engine", "off"] }),
    ];
    clients = nodes.flatMap((node) => [secretsClient(node), secretsClient(node), secretsClient(node)]);
  });
  after(async () => {
    for (const node of nodes ?? []) await node[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const first = (): SecretsManagerClient => clients[0] ?? assert.fail();

  test("what one wrote all others read next", async () => {
    const { ARN: arn = "" } = await first().send(new CreateSecretCommand({ Name: newName(), SecretString: "0" }));
    for (let round = 1; round <= 12; round++) {
      const put = new PutSecretValueCommand({ SecretId: arn, SecretString: String(round) });
      await clients[round % clients.length]?.send(put);
      assert.deepEqual(
        await Promise.all(clients.map((client) => textOf(client, arn))),
        clients.map(() => String(round)),
      );
    }
  });

  test("a key that is disabled or rotated, and a disabled access key, count on the others from the next request on", async () => {
    const [here, there] = nodes;
    assert.ok(here && there);
    const { keyId } = await nativeOk(here, "keys/create", { description: "to be disabled" });
    const name = newName();
    const made = { Name: name, SecretString: "sealed", KmsKeyId: String(keyId) };
    const { ARN: arn = "" } = await first().send(new CreateSecretCommand(made));
    for (const client of clients) assert.equal(await textOf(client, arn), "sealed");
    await nativeOk(there, "keys/disable", { keyId });
    for (const client of clients) await refused(textOf(client, arn), "DecryptionFailure", /./);
    await nativeOk(here, "keys/enable", { keyId });
    for (const client of clients) assert.equal(await textOf(client, arn), "sealed");
    await nativeOk(there, "keys/rotate", { keyId });
    await first().send(new PutSecretValueCommand({ SecretId: arn, SecretString: "sealed anew" }));
    for (const client of clients) assert.equal(await textOf(client, arn), "sealed anew");

    const userName = newName("user");
    const user = await newUser(here, userName, allow("secretsmanager:*"));
    const theirs = nodes.flatMap((node) => [secretsClient(node, user), secretsClient(node, user)]);
    for (const client of theirs) await refused(textOf(client, arn), "AccessDeniedException", /KMS/);
    await nativeOk(there, "access-keys/disable", { userName, accessKeyId: user.accessKeyId });
    for (const client of theirs) await refused(textOf(client, arn), "UnrecognizedClientException", /./);
  });

  test("a rotation asked of any of them is run by the one with the engine", async () => {
    for (const client of clients) {
      const arn = await newLogin(client);
      const { VersionId: next } = await rotateNow(client, arn);
      await until(async () => (await stagesOf(client, arn)).AWSCURRENT === next, "the end of the rotation");
      assert.ok(await logsIn(await textOf(client, arn)));
    }
  });

  test("work that is asked of any of them is begun soon, and whichever is asked next knows of it", async () => {
    const secretId = await newLogin(first());
    for (const node of [...nodes, ...nodes]) {
      const { jobId } = await nativeOk(node, "rotations/check", { secretId, rotationLambdaArn: singleUser });
      // Every connection may be another process.
      const seen = await Promise.all(
        [...nodes, ...nodes, ...nodes].map((other) => nativeOk(other, "rotations/get-job", { jobId })),
      );
      assert.ok(seen.every(({ kind }) => kind === "check"));
      await until(async () => (await nativeOk(node, "rotations/get-job", { jobId })).state === "done", "the end of the check");
    }
  });

  test("a process that is killed is started again, and the audit trail stays whole", async () => {
    const [node] = nodes;
    assert.ok(node);
    for (const worker of workersOf(node, "alone")) {
      endProcess(worker, "SIGKILL");
      await awaitLog(node, (line) => line.worker === worker && /was ended by SIGKILL/.test(String(line.msg)));
    }
    await until(async () => workersOf(node, "alone").length === 2, "both again");
    await newLogin(secretsClient(node));
    for (const each of nodes) assert.equal(await each.stop(), 0);
    const { code, out, err } = await runRekey(["audit", "verify", "--database-url", url, "--data", folder]);
    assert.equal(code, 0, out + err);
  });
});
