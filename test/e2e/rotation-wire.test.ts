// Rotations of the running program at targets that are wire fakes: the real drivers, and no real server of these databases.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { mongodb } from "../../src/targets/mongodb.ts";
import { sqlserver } from "../../src/targets/sqlserver.ts";
import type { Rotator } from "../../src/targets/target.ts";
import { clientSettings, homeRegion, nativeOk, newName } from "../support/aws.ts";
import { type MongoDbWire, ordinaryUser, startMongoDbWire } from "../support/mongodb-wire.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import type { SeenRotation } from "../support/rotation-e2e.ts";
import { type SqlServerWire, startSqlServerWire } from "../support/sqlserver-wire.ts";
import { tools } from "../targets/contract.ts";

interface Kind {
  readonly template: string;
  readonly rotator: Rotator<DatabaseCredential>;
  secret(username: string): DatabaseCredential;
  readonly superuser: () => DatabaseCredential;
}

describe("rotation at wire fakes", () => {
  let server: RekeyServer;
  let root: SecretsManager;
  let mongo: MongoDbWire;
  let mssql: SqlServerWire;
  before(async () => {
    [server, mongo, mssql] = await Promise.all([
      startRekey({ env: { REKEY_SETTLE_MS: "0" } }),
      startMongoDbWire(),
      startSqlServerWire(),
    ]);
    root = new SecretsManager(clientSettings(server));
    mongo.addUser({ user: "root", db: "admin", roles: [{ role: "root", db: "admin" }] }, "root-password");
    mssql.catalog.addLogin("sa", "root-password").roles.add("sysadmin");
  });
  after(async () => {
    for (const one of [server, mongo, mssql]) await one[Symbol.asyncDispose]();
  });

  const at = ({ host, port }: MongoDbWire | SqlServerWire, engine: string, username: string, password: string) => ({
    engine,
    host,
    port,
    username,
    password,
    ssl: false,
  });
  const kinds: readonly Kind[] = [
    {
      template: "SecretsManagerMongoDBRotation",
      rotator: mongodb,
      secret(username) {
        mongo.addUser(ordinaryUser(username), "first-password");
        return at(mongo, "mongo", username, "first-password");
      },
      superuser: () => at(mongo, "mongo", "root", "root-password"),
    },
    {
      template: "SecretsManagerRDSSQLServerRotation",
      rotator: sqlserver,
      secret(username) {
        mssql.catalog.addLogin(username, "first-password");
        return at(mssql, "sqlserver", username, "first-password");
      },
      superuser: () => at(mssql, "sqlserver", "sa", "root-password"),
    },
  ];

  async function newSecret(value: object): Promise<{ SecretId: string; ARN: string }> {
    const { Name = "", ARN = "" } = await root.createSecret({ Name: newName("wire"), SecretString: JSON.stringify(value) });
    return { SecretId: Name, ARN };
  }

  async function rotated(SecretId: string, functionName: string): Promise<SeenRotation> {
    const ClientRequestToken = randomUUID();
    const RotationLambdaARN = `arn:aws:lambda:${homeRegion}:${server.credentials.account}:function:${functionName}`;
    await root.rotateSecret({ SecretId, ClientRequestToken, RotationLambdaARN });
    for (let asked = 0; ; asked++) {
      const { rotations } = await nativeOk(server, "rotations/list", { secretId: SecretId });
      const ours = (rotations as SeenRotation[]).find(({ versionId }) => versionId === ClientRequestToken);
      if (ours && ours.state !== "running") return ours;
      if (asked > 5_000) throw new Error(`waited in vain: ${JSON.stringify(rotations)}\n${server.log().slice(-4_000)}`);
      await sleep(20);
    }
  }

  const readValue = async (SecretId: string, VersionStage = "AWSCURRENT"): Promise<DatabaseCredential> =>
    JSON.parse((await root.getSecretValue({ SecretId, VersionStage })).SecretString ?? "");

  for (const { template, rotator, secret, superuser } of kinds) {
    it(`${template}SingleUser: the new password works, and the old one does not`, async () => {
      const { SecretId } = await newSecret(secret(`single_${randomUUID().slice(0, 8)}`));
      for (let turn = 0; turn < 2; turn++) {
        const { state, reason } = await rotated(SecretId, `${template}SingleUser`);
        assert.equal(state, "succeeded", reason);
        assert.equal(await rotator.probe(await readValue(SecretId), tools()), "ok");
        assert.equal(await rotator.probe(await readValue(SecretId, "AWSPREVIOUS"), tools()), "refused");
      }
      assert.ok(!server.log().includes((await readValue(SecretId)).password));
    });

    it(`${template}MultiUser: each turn gives the other user, and both log in after it`, async () => {
      const { ARN: masterarn } = await newSecret(superuser());
      const username = `multi_${randomUUID().slice(0, 8)}`;
      const { SecretId } = await newSecret({ ...secret(username), masterarn });
      for (const next of [`${username}_clone`, username, `${username}_clone`]) {
        const { state, reason } = await rotated(SecretId, `${template}MultiUser`);
        assert.equal(state, "succeeded", reason);
        assert.equal((await readValue(SecretId)).username, next);
        for (const label of ["AWSCURRENT", "AWSPREVIOUS"])
          assert.equal(await rotator.probe(await readValue(SecretId, label), tools()), "ok");
      }
    });
  }
});
