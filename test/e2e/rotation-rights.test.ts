// Built-in functions act with the rights of whoever configured the rotation: attacks on what masterarn names.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AssumeRoleCommand, STSClient } from "@aws-sdk/client-sts";
import {
  allow,
  type Credentials,
  clientSettings,
  nativeOk,
  newName,
  newUser,
  policyOf,
  refused,
  statement,
} from "../support/aws.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { type DatabaseSecret, functionArn, rotationWorld, type SeenRotation } from "../support/rotation-e2e.ts";

const rotateAnything = allow("secretsmanager:RotateSecret", "lambda:InvokeFunction");

describe("rights of rotations", { skip: postgresSkip }, () => {
  let server: RekeyServer;
  let database: PostgresServer;
  let world: ReturnType<typeof rotationWorld>;
  let master: { SecretId: string; ARN: string };
  before(async () => {
    [server, database] = await Promise.all([
      startRekey({ flags: ["--extended-schedules"], env: { REKEY_SETTLE_MS: "0" } }),
      startPostgres(),
    ]);
    world = rotationWorld(server, database);
    master = await world.newSecret(world.superuser(), newName("master"));
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  /** A secret that has rotated twice by its schedule. */
  async function scheduledAs(credentials: Credentials, how: { readonly masterarn?: string }): Promise<{ SecretId: string }> {
    const { SecretId } = await world.newSecret(await world.newLogin(how));
    await world.secretsAs(credentials).rotateSecret({
      SecretId,
      RotationLambdaARN: functionArn(server, how.masterarn === undefined ? "SingleUser" : "MultiUser"),
      RotationRules: { ScheduleExpression: "rate(1 second)" },
    });
    while ((await world.rotations(SecretId)).filter(({ state }) => state === "succeeded").length < 3) await sleep(50);
    return { SecretId };
  }

  interface Try {
    readonly SecretId: string;
    readonly login: DatabaseSecret;
    readonly rotation: SeenRotation;
  }

  /** RotateSecret with these credentials on a new secret; how its first try went. */
  async function tryAs(credentials: Credentials, more: object, name: "SingleUser" | "MultiUser" = "MultiUser"): Promise<Try> {
    const login = await world.newLogin(more);
    const { SecretId } = await world.newSecret(login);
    await world.secretsAs(credentials).rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, name) });
    const rotation = await world.rotationOf(SecretId, ({ state, failedTries }) => state !== "running" || failedTries > 0);
    return { SecretId, login, rotation };
  }

  /** Denied, and neither the target nor AWSCURRENT knows of it. */
  async function isDenied(
    { SecretId, login, rotation }: Try,
    reason: RegExp = /may not read the superuser's secret/,
  ): Promise<void> {
    assert.deepEqual([rotation.state, rotation.outcome], ["running", "denied"], rotation.reason);
    assert.match(rotation.reason ?? "", reason);
    await world.root.cancelRotateSecret({ SecretId });
    await isUntouched({ SecretId, login });
  }
  async function isUntouched({ SecretId, login }: Pick<Try, "SecretId" | "login">): Promise<void> {
    assert.equal(await world.logsIn(login), true, "its password is the same");
    const clones = await world.sql(`select rolname from pg_roles where rolname = '${login.username}_clone'`);
    assert.deepEqual(clones.rows, []);
    assert.deepEqual(await world.value(SecretId), login);
  }

  it("who may read the superuser's secret may use it; who may only rotate may not", async () => {
    const reads = statement("Allow", ["secretsmanager:GetSecretValue"], master.ARN);
    const trusted = await newUser(server, newName("trusted"), rotateAnything, reads);
    assert.equal((await tryAs(trusted, { masterarn: master.ARN })).rotation.state, "succeeded");
    const attacker = await newUser(server, newName("attacker"), rotateAnything);
    await isDenied(await tryAs(attacker, { masterarn: master.ARN }));
    const refusedByDeny = await newUser(
      server,
      newName("denied"),
      allow("*"),
      statement("Deny", ["secretsmanager:GetSecretValue"], master.ARN),
    );
    await isDenied(await tryAs(refusedByDeny, { masterarn: master.ARN }));
    // The trail names who it was for, and what was not given.
    const { records } = await nativeOk(server, "audit/search", { resource: master.ARN });
    const outcomes = (records as { principal: string; action: string; outcome: string }[]).filter(
      ({ action, principal }) => action === "secretsmanager:GetSecretValue" && principal === attacker.arn,
    );
    assert.deepEqual(new Set(outcomes.map(({ outcome }) => outcome)), new Set(["AccessDeniedException"]));
  });

  it("nor who may read it but may not use its key", async () => {
    const { keyId } = await nativeOk(server, "keys/create", { alias: `alias/${newName("key")}` });
    const Name = newName("sealed-master");
    const sealed = await world.root.createSecret({
      Name,
      SecretString: JSON.stringify(world.superuser()),
      KmsKeyId: String(keyId),
    });
    const reads = statement("Allow", ["secretsmanager:GetSecretValue"], sealed.ARN ?? "");
    const keyless = await newUser(server, newName("keyless"), rotateAnything, reads);
    await isDenied(await tryAs(keyless, { masterarn: sealed.ARN }));
    const trusted = await newUser(server, newName("key-user"), rotateAnything, reads, allow("kms:Decrypt"));
    assert.equal((await tryAs(trusted, { masterarn: sealed.ARN })).rotation.state, "succeeded");
  });

  it("a single user's rotation does not fall back on a superuser that it may not read", async () => {
    const attacker = await newUser(server, newName("attacker"), rotateAnything);
    const login = await world.newLogin({ masterarn: master.ARN });
    await world.sql(`alter role ${login.username} password 'changed-by-hand'`);
    const { SecretId } = await world.newSecret(login);
    const secrets = world.secretsAs(attacker);
    await secrets.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, "SingleUser") });
    assert.equal((await world.rotationOf(SecretId, ({ failedTries }) => failedTries > 0)).outcome, "refused");
    assert.equal(await world.logsIn({ ...login, password: "changed-by-hand" }), true);
  });

  it("masterarn that names nothing, itself, one that awaits deletion, one of another region or a replica of it: all alike", async () => {
    const attacker = await newUser(server, newName("attacker"), rotateAnything);
    const doomed = await world.newSecret(world.superuser(), newName("doomed"));
    await world.root.deleteSecret({ SecretId: doomed.SecretId });
    const far = await world.secretsAs(undefined, "eu-west-1").createSecret({
      Name: newName("far"),
      SecretString: JSON.stringify(world.superuser()),
    });
    const reasons = new Set<string>();
    for (const masterarn of [`${master.ARN.slice(0, -1)}!`, master.SecretId, doomed.ARN, far.ARN, master.ARN]) {
      const attempt = await tryAs(attacker, { masterarn });
      reasons.add(attempt.rotation.reason ?? "");
      await isDenied(attempt);
      // Root may read everything there is: none of the first four is there for it either.
      if (masterarn !== master.ARN) await isDenied(await tryAs(server.credentials, { masterarn }));
    }
    assert.equal(reasons.size, 1, "the answer does not tell which of them exist");
    const login = await world.newLogin();
    const own = await world.newSecret(login);
    await world.root.putSecretValue({ SecretId: own.SecretId, SecretString: JSON.stringify({ ...login, masterarn: own.ARN }) });
    await world.secretsAs(attacker).rotateSecret({ SecretId: own.SecretId, RotationLambdaARN: functionArn(server, "MultiUser") });
    assert.equal((await world.rotationOf(own.SecretId, ({ failedTries }) => failedTries > 0)).outcome, "denied");
    // With the right to read it, the server itself says what the user may not do.
    const reader = await newUser(server, newName("reader"), rotateAnything, allow("secretsmanager:GetSecretValue"));
    await world.root.cancelRotateSecret({ SecretId: own.SecretId });
    await world.root.putSecretValue({ SecretId: own.SecretId, SecretString: JSON.stringify({ ...login, masterarn: own.ARN }) });
    await world.secretsAs(reader).rotateSecret({ SecretId: own.SecretId, RotationLambdaARN: functionArn(server, "MultiUser") });
    const tried = await world.rotationOf(own.SecretId, ({ failedTries, state }) => state === "running" && failedTries > 0);
    assert.match(tried.reason ?? "", /42501/);
    await world.root.cancelRotateSecret({ SecretId: own.SecretId });
  });

  it("a superuser of another host, port or engine is never sent there", async () => {
    for (const changed of [{ host: "localhost" }, { port: database.port + 1 }, { engine: "mysql" }]) {
      const other = await world.newSecret({ ...world.superuser(), ...changed });
      const attempt = await tryAs(server.credentials, { masterarn: other.ARN });
      assert.equal(attempt.rotation.outcome, "invalid", JSON.stringify(changed));
      await world.root.cancelRotateSecret({ SecretId: attempt.SecretId });
      await isUntouched(attempt);
    }
  });

  it("another name of the superuser's server counts where its own rotation policy names it", async () => {
    const other = await world.newSecret({ ...world.superuser(), host: "localhost" });
    const { host, port } = database;
    await nativeOk(server, "rotations/put-policy", {
      secretId: other.SecretId,
      endpoints: [
        { host, port: port + 1 },
        { host, port },
      ],
    });
    const attempt = await tryAs(server.credentials, { masterarn: other.ARN });
    assert.equal((await world.rotationOf(attempt.SecretId)).state, "succeeded", attempt.rotation.reason);
    assert.equal((await world.value(attempt.SecretId)).username, `${attempt.login.username}_clone`);
    const wrong = [{ host: "db.example.com", port }];
    await nativeOk(server, "rotations/put-policy", { secretId: other.SecretId, endpoints: wrong });
    const elsewhere = await tryAs(server.credentials, { masterarn: other.ARN });
    assert.equal(elsewhere.rotation.outcome, "invalid", elsewhere.rotation.reason);
    await world.root.cancelRotateSecret({ SecretId: elsewhere.SecretId });
  });

  it("RotateSecret asks for lambda:InvokeFunction on the built-in function, given now or stored before", async () => {
    const { SecretId } = await world.newSecret(await world.newLogin());
    const caller = await newUser(
      server,
      newName("caller"),
      allow("secretsmanager:RotateSecret"),
      statement("Allow", ["lambda:InvokeFunction"], functionArn(server, "MultiUser")),
    );
    const secrets = world.secretsAs(caller);
    const RotationLambdaARN = functionArn(server, "SingleUser");
    const text = new RegExp(`not authorized to perform: lambda:InvokeFunction on resource: ${RotationLambdaARN}`);
    await refused(secrets.rotateSecret({ SecretId, RotationLambdaARN }), "AccessDeniedException", text);
    assert.equal((await world.root.describeSecret({ SecretId })).RotationEnabled, undefined);
    await world.rotated(SecretId, "SingleUser");
    await refused(secrets.rotateSecret({ SecretId }), "AccessDeniedException", text);
    assert.equal((await world.rotations(SecretId)).length, 1);
    // One that did not finish goes on with the function that it began with, whatever the request names.
    const stuck = await world.newSecret({ ...(await world.newLogin()), port: 1 });
    await world.root.rotateSecret({ SecretId: stuck.SecretId, RotationLambdaARN });
    const again = { SecretId: stuck.SecretId, RotationLambdaARN: functionArn(server, "MultiUser") };
    await refused(secrets.rotateSecret(again), "AccessDeniedException", text);
    await refused(world.root.rotateSecret(again), "InvalidRequestException", /will be reattempted/);
    await world.root.cancelRotateSecret({ SecretId: stuck.SecretId });
  });

  describe("configured in a session", () => {
    const readsMaster = () => statement("Allow", ["secretsmanager:GetSecretValue"], master.ARN);

    async function newRole(...statements: object[]): Promise<{ roleName: string; roleArn: string; policyArn: string }> {
      const roleName = newName("role");
      const trust = { Effect: "Allow", Principal: { AWS: `arn:aws:iam::${server.credentials.account}:root` } };
      const { arn } = await nativeOk(server, "roles/create", {
        roleName,
        assumeRolePolicyDocument: policyOf({ ...trust, Action: ["sts:AssumeRole", "sts:TagSession"] }),
      });
      const policy = await nativeOk(server, "policies/create", {
        policyName: `${roleName}-policy`,
        policyDocument: policyOf(...statements),
      });
      await nativeOk(server, "policies/attach", { policyArn: policy.arn, roleName });
      return { roleName, roleArn: String(arn), policyArn: String(policy.arn) };
    }
    let assumer: Credentials;
    before(async () => {
      assumer = await newUser(server, newName("assumer"), allow("sts:AssumeRole", "sts:TagSession"));
    });
    async function assume(RoleArn: string, more: object = {}): Promise<Credentials> {
      const sts = new STSClient(clientSettings(server, assumer));
      const { Credentials: got } = await sts.send(new AssumeRoleCommand({ RoleArn, RoleSessionName: "session", ...more }));
      const { AccessKeyId = "", SecretAccessKey = "", SessionToken = "" } = got ?? {};
      return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken };
    }

    it("its limits hold at every run: an inline policy, a named one, tags", async () => {
      const { roleArn } = await newRole(rotateAnything, readsMaster());
      assert.equal((await tryAs(await assume(roleArn), { masterarn: master.ARN })).rotation.state, "succeeded");
      const inline = await assume(roleArn, { Policy: policyOf(rotateAnything) });
      await refused(world.secretsAs(inline).getSecretValue({ SecretId: master.ARN }), "AccessDeniedException", /session policy/);
      await isDenied(await tryAs(inline, { masterarn: master.ARN }));
      const wider = await assume(roleArn, { Policy: policyOf(allow("*")) });
      assert.equal((await tryAs(wider, { masterarn: master.ARN })).rotation.state, "succeeded");

      const { arn } = await nativeOk(server, "policies/create", {
        policyName: newName("limit"),
        policyDocument: policyOf(rotateAnything, readsMaster()),
      });
      const named = await assume(roleArn, { PolicyArns: [{ arn }] });
      const { SecretId, rotation } = await tryAs(named, { masterarn: master.ARN });
      assert.equal(rotation.state, "succeeded");
      // The policy's new default version counts at the next run, which nobody of that session has to be there for.
      await nativeOk(server, "policies/create-version", {
        policyArn: arn,
        policyDocument: policyOf(rotateAnything),
        setAsDefault: true,
      });
      await world.secretsAs(await assume(roleArn, { PolicyArns: [{ arn }] })).rotateSecret({ SecretId });
      const again = await world.rotationOf(SecretId, ({ failedTries }) => failedTries > 0);
      assert.equal(again.outcome, "denied");
      await world.root.cancelRotateSecret({ SecretId });

      const unlessGuest = statement("Deny", ["secretsmanager:GetSecretValue"], "*", {
        StringEquals: { "aws:PrincipalTag/team": "guest" },
      });
      const tagged = await newRole(rotateAnything, readsMaster(), unlessGuest);
      const guest = await assume(tagged.roleArn, { Tags: [{ Key: "team", Value: "guest" }] });
      await isDenied(await tryAs(guest, { masterarn: master.ARN }));
    });

    it("what the role lost since is lost to the rotation, until somebody else asks for it", async () => {
      const { roleName, roleArn, policyArn } = await newRole(rotateAnything, readsMaster());
      const { SecretId } = await scheduledAs(await assume(roleArn), { masterarn: master.ARN });
      await nativeOk(server, "policies/detach", { policyArn, roleName });
      const denied = await world.rotationOf(SecretId, ({ outcome }) => outcome === "denied");
      assert.match(denied.reason ?? "", new RegExp(`assumed-role/${roleName}/session may not read the superuser's secret`));
      await refused(world.root.rotateSecret({ SecretId }), "InvalidRequestException", /previous rotation isn't complete/);
      await world.rotationOf(SecretId, ({ state }) => state === "succeeded");
      await world.root.cancelRotateSecret({ SecretId });
    });
  });

  it("a user that is gone rotates nothing, nor does another one of its name", async () => {
    const userName = newName("leaver");
    const leaver = await newUser(server, userName, rotateAnything);
    const { SecretId } = await scheduledAs(leaver, {});
    const { accessKeyId } = leaver;
    await nativeOk(server, "access-keys/delete", { userName, accessKeyId }).catch(() => undefined);
    await nativeOk(server, "users/delete", { userName });
    const gone = await world.rotationOf(SecretId, ({ outcome }) => outcome === "denied");
    assert.match(gone.reason ?? "", /user\/leaver.* which configured the rotation, does not exist any more/);
    const current = await world.value(SecretId);
    await newUser(server, userName);
    const newest = (await world.rotations(SecretId))[0]?.rotationId;
    await world.rotationOf(SecretId, ({ rotationId, outcome }) => rotationId !== newest && outcome === "denied");
    assert.deepEqual(await world.value(SecretId), current);
    assert.equal(await world.logsIn(current), true);
    await world.root.cancelRotateSecret({ SecretId });
  });
});
