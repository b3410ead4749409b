// RotateSecret and CancelRotateSecret of the running program, on a real PostgreSQL.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { nativeOk, newName, rawCall, refused } from "../support/aws.ts";
import { type PostgresServer, postgresSkip, postgresTlsSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { type DatabaseSecret, functionArn, rotationWorld } from "../support/rotation-e2e.ts";

const unfinished = "A previous rotation isn't complete. That rotation will be reattempted.";

describe("rotation", { skip: postgresSkip }, () => {
  let server: RekeyServer;
  let database: PostgresServer;
  let world: ReturnType<typeof rotationWorld>;
  before(async () => {
    [server, database] = await Promise.all([startRekey({ env: { REKEY_SETTLE_MS: "0" } }), startPostgres()]);
    world = rotationWorld(server, database);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  async function newLogin(more: object = {}): Promise<{ SecretId: string; VersionId: string; login: DatabaseSecret }> {
    const login = await world.newLogin(more);
    return { ...(await world.newSecret(login)), login };
  }

  it("single user: a new password works, the old one is dead; dates and labels are AWS's", async () => {
    const { SecretId, VersionId, login } = await newLogin({ note: "kept" });
    const token = randomUUID();
    const answer = await world.root.rotateSecret({
      SecretId,
      ClientRequestToken: token,
      RotationLambdaARN: functionArn(server, "SingleUser"),
      RotationRules: { AutomaticallyAfterDays: 30 },
    });
    assert.deepEqual([answer.Name, answer.VersionId], [SecretId, token]);
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded");
    const current = await world.value(SecretId);
    assert.deepEqual({ ...current, password: "" }, { ...login, password: "" });
    assert.equal(await world.logsIn(current), true);
    assert.equal(await world.logsIn(await world.value(SecretId, "AWSPREVIOUS")), "28P01");
    assert.deepEqual(await world.labels(SecretId), { [token]: ["AWSCURRENT"], [VersionId]: ["AWSPREVIOUS"] });
    const shown = await world.root.describeSecret({ SecretId });
    assert.equal(shown.RotationEnabled, true);
    assert.equal(shown.RotationLambdaARN, functionArn(server, "SingleUser"));
    assert.deepEqual(shown.RotationRules, { AutomaticallyAfterDays: 30 });
    assert.ok(Math.abs(Date.now() - (shown.LastRotatedDate?.getTime() ?? 0)) < 60_000);
    const dayMs = 86_400_000;
    const next = shown.NextRotationDate?.getTime() ?? 0;
    assert.equal(Math.floor(next / dayMs), Math.floor(Date.now() / dayMs) + 30, "the end of the thirtieth day from today");
  });

  it("a token that was used is answered alike, and rotates once", async () => {
    const { SecretId } = await newLogin();
    const ClientRequestToken = randomUUID();
    const request = { SecretId, ClientRequestToken, RotationLambdaARN: functionArn(server, "SingleUser") };
    const answers = [await world.root.rotateSecret(request), await world.root.rotateSecret(request)];
    await world.rotationOf(SecretId);
    answers.push(await world.root.rotateSecret(request));
    assert.deepEqual(new Set(answers.map(({ VersionId }) => VersionId)), new Set([ClientRequestToken]));
    assert.equal((await world.rotations(SecretId)).length, 1);
    // Without settings the stored ones count; the token of an older version is taken.
    await world.root.rotateSecret({ SecretId });
    await world.rotationOf(SecretId, ({ versionId, state }) => versionId !== ClientRequestToken && state === "succeeded");
    await world.root.rotateSecret({ SecretId });
    await world.rotationOf(SecretId, ({ state }) => state === "succeeded");
  });

  it("alternating users: each turn gives the other user, and both log in after it", async () => {
    const master = await world.newSecret(world.superuser());
    const { SecretId, login } = await newLogin({ masterarn: master.ARN });
    for (const username of [`${login.username}_clone`, login.username, `${login.username}_clone`]) {
      assert.equal((await world.rotated(SecretId, "MultiUser")).state, "succeeded");
      assert.equal((await world.value(SecretId)).username, username);
      for (const label of ["AWSCURRENT", "AWSPREVIOUS"])
        assert.equal(await world.logsIn(await world.value(SecretId, label)), true, `${username} ${label}`);
    }
  });

  it("RotateImmediately=false: only a login with a copy, which goes again; a date, and no rotation", async () => {
    const { SecretId, VersionId, login } = await newLogin();
    const answer = await world.root.rotateSecret({
      SecretId,
      RotationLambdaARN: functionArn(server, "SingleUser"),
      RotationRules: { ScheduleExpression: "rate(10 days)", Duration: "3h" },
      RotateImmediately: false,
    });
    assert.equal(answer.VersionId, VersionId);
    const { state, testOnly, step } = await world.rotationOf(SecretId);
    assert.deepEqual([state, testOnly, step], ["succeeded", true, "testSecret"]);
    assert.deepEqual(await world.labels(SecretId), { [VersionId]: ["AWSCURRENT"] });
    assert.equal(await world.logsIn(login), true);
    const shown = await world.root.describeSecret({ SecretId });
    assert.equal(shown.LastRotatedDate, undefined);
    assert.deepEqual(shown.RotationRules, { ScheduleExpression: "rate(10 days)", Duration: "3h" });
    const next = shown.NextRotationDate;
    assert.deepEqual([next?.getUTCHours(), next?.getUTCMinutes()], [2, 59], "the window's last second, from midnight on");
    assert.equal((await world.root.listSecretVersionIds({ SecretId, IncludeDeprecated: true })).Versions?.length, 1);
    // One whose login fails says so and leaves nothing behind either.
    await world.sql(`alter role ${login.username} password 'changed-by-hand'`);
    await world.root.rotateSecret({ SecretId, RotateImmediately: false });
    const failed = await world.rotationOf(SecretId, (one) => one.state === "failed");
    assert.equal(failed.outcome, "refused");
    assert.deepEqual(await world.labels(SecretId), { [VersionId]: ["AWSCURRENT"] });
  });

  it("schedules: cron() and rate() with their windows; AutomaticallyAfterDays is computed after a success", async () => {
    const { SecretId } = await newLogin();
    const rules = { ScheduleExpression: "cron(0 8 1 * ? *)", Duration: "2h" };
    assert.equal((await world.rotated(SecretId, "SingleUser", { RotationRules: rules })).state, "succeeded");
    const shown = await world.root.describeSecret({ SecretId });
    const next = shown.NextRotationDate;
    assert.deepEqual([next?.getUTCDate(), next?.getUTCHours(), next?.getUTCMinutes()], [1, 9, 59]);
    const { AutomaticallyAfterDays = 0, ...given } = shown.RotationRules ?? {};
    assert.deepEqual(given, rules);
    assert.ok(AutomaticallyAfterDays >= 1 && AutomaticallyAfterDays <= 31, String(AutomaticallyAfterDays));
    await world.root.rotateSecret({ SecretId, RotationRules: { ScheduleExpression: "rate(4 hours)" }, RotateImmediately: false });
    const hourly = (await world.root.describeSecret({ SecretId })).NextRotationDate;
    assert.equal((hourly?.getUTCHours() ?? -1) % 4, 0, "windows of rate(4 hours) begin at midnight and last an hour");
    assert.ok((hourly?.getTime() ?? 0) - Date.now() <= 5 * 3_600_000);
    // A value put by hand counts as a rotation for the next date, not for LastRotatedDate.
    const { LastRotatedDate } = await world.root.describeSecret({ SecretId });
    await world.rotationOf(SecretId);
    await world.root.rotateSecret({ SecretId, RotationRules: { AutomaticallyAfterDays: 5 }, RotateImmediately: false });
    await world.rotationOf(SecretId);
    await world.root.putSecretValue({ SecretId, SecretString: JSON.stringify(await world.value(SecretId)) });
    assert.deepEqual((await world.root.describeSecret({ SecretId })).LastRotatedDate, LastRotatedDate);
  });

  it("CancelRotateSecret: off, settings stay; on again by RotateSecret without settings", async () => {
    const { SecretId } = await newLogin();
    await world.rotated(SecretId, "SingleUser", { RotationRules: { AutomaticallyAfterDays: 7 } });
    const answer = await world.root.cancelRotateSecret({ SecretId });
    assert.deepEqual([answer.Name, answer.VersionId], [SecretId, undefined]);
    const off = await world.root.describeSecret({ SecretId });
    assert.deepEqual([off.RotationEnabled, off.NextRotationDate], [false, undefined]);
    assert.deepEqual(off.RotationRules, { AutomaticallyAfterDays: 7 });
    assert.equal(off.RotationLambdaARN, functionArn(server, "SingleUser"));
    await world.root.rotateSecret({ SecretId });
    await world.rotationOf(SecretId, ({ state }) => state === "succeeded");
    const on = await world.root.describeSecret({ SecretId });
    assert.equal(on.RotationEnabled, true);
    assert.ok(on.NextRotationDate);
  });

  describe("while the target is down", () => {
    let down: PostgresServer;
    let there: ReturnType<typeof rotationWorld>;
    before(async () => {
      down = await startPostgres();
      there = rotationWorld(server, down);
    });
    after(() => down[Symbol.asyncDispose]());

    async function stuck(): Promise<{ SecretId: string; VersionId: string; token: string }> {
      const { SecretId, VersionId } = await there.newSecret(await there.newLogin());
      await down.stop();
      const token = randomUUID();
      const RotationLambdaARN = functionArn(server, "SingleUser");
      await there.root.rotateSecret({ SecretId, ClientRequestToken: token, RotationLambdaARN });
      const tried = await there.rotationOf(SecretId, ({ failedTries }) => failedTries > 0);
      assert.deepEqual([tried.state, tried.outcome], ["running", "unreachable"]);
      return { SecretId, VersionId, token };
    }

    /** What subscribers are told of its rotations, oldest first. */
    async function told(SecretId: string): Promise<string[]> {
      const { ARN } = await there.root.describeSecret({ SecretId });
      const { events } = await nativeOk(server, "events/list", { resource: ARN, type: "rotation." });
      return (events as { type: string }[]).map(({ type }) => type);
    }

    it("AWSCURRENT is untouched, AWSPENDING stays, another token is refused; once it is back the rotation ends", async () => {
      const { SecretId, VersionId, token } = await stuck();
      assert.deepEqual(await there.labels(SecretId), { [VersionId]: ["AWSCURRENT"], [token]: ["AWSPENDING"] });
      assert.equal((await there.value(SecretId)).password, "first-password");
      await refused(there.root.rotateSecret({ SecretId }), "InvalidRequestException", unfinished);
      const shown = await there.root.describeSecret({ SecretId });
      assert.deepEqual([shown.RotationEnabled, shown.LastRotatedDate], [true, undefined]);
      await down.restart();
      const ended = await there.rotationOf(SecretId);
      assert.deepEqual([ended.state, ended.versionId], ["succeeded", token]);
      assert.equal(await there.logsIn(await there.value(SecretId)), true);
    });

    it("canceled: it stops and says which version it was at; labels are left as they are, until it is asked for again", async () => {
      const { SecretId, VersionId, token } = await stuck();
      const answer = await there.root.cancelRotateSecret({ SecretId });
      assert.equal(answer.VersionId, token);
      assert.equal((await there.rotationOf(SecretId)).state, "canceled");
      assert.deepEqual(await there.labels(SecretId), { [VersionId]: ["AWSCURRENT"], [token]: ["AWSPENDING"] });
      await down.restart();
      await sleep(300);
      assert.equal((await there.rotations(SecretId)).length, 1);
      assert.equal(await there.logsIn(await there.value(SecretId)), true, "nothing was done at the target");
      await refused(there.root.rotateSecret({ SecretId }), "InvalidRequestException", unfinished);
      assert.equal((await there.rotationOf(SecretId)).state, "succeeded");
      assert.equal((await there.labels(SecretId))[token]?.[0], "AWSCURRENT");
      const [begun, again] = [["rotation.started", "rotation.retrying", "rotation.canceled"], ["rotation.started"]];
      assert.deepEqual(await told(SecretId), [...begun, ...again, "rotation.succeeded"]);
    });

    it("abandoned by a new value: AWSPENDING goes, and nothing is done at the target afterwards", async () => {
      const { SecretId, VersionId, token } = await stuck();
      const login = await there.value(SecretId);
      const put = await there.root.putSecretValue({ SecretId, SecretString: JSON.stringify({ ...login, note: "by hand" }) });
      assert.equal((await there.rotationOf(SecretId)).state, "abandoned");
      assert.deepEqual(await there.labels(SecretId), { [put.VersionId ?? ""]: ["AWSCURRENT"], [VersionId]: ["AWSPREVIOUS"] });
      await down.restart();
      await sleep(300);
      assert.equal(await there.logsIn(login), true);
      await refused(
        there.root.rotateSecret({ SecretId, ClientRequestToken: token }),
        "ResourceExistsException",
        /^You can't use ClientRequestToken .* because that value is already in use for a version of secret arn:/,
      );
      assert.deepEqual(await told(SecretId), ["rotation.started", "rotation.retrying", "rotation.abandoned"]);
      assert.equal((await there.rotated(SecretId, "SingleUser")).state, "succeeded");
    });

    it("AWSPENDING taken away: the rotation ends, and the next one begins at once", async () => {
      const { SecretId, token } = await stuck();
      await there.root.updateSecretVersionStage({ SecretId, VersionStage: "AWSPENDING", RemoveFromVersionId: token });
      const again = randomUUID();
      await there.root.rotateSecret({ SecretId, ClientRequestToken: again });
      await down.restart();
      const ended = await there.rotationOf(SecretId, ({ versionId, state }) => versionId === again && state !== "running");
      assert.equal(ended.state, "succeeded");
      assert.equal(await there.logsIn(await there.value(SecretId)), true);
    });
  });

  it("over TLS: verified with sslrootcert, or not at all", { skip: postgresTlsSkip }, async () => {
    await using secure = await startPostgres({ tls: true });
    const there = rotationWorld(server, secure);
    const sslrootcert = readFileSync(secure.caFile ?? "", "utf8");
    const good = await there.newSecret(await there.newLogin({ ssl: true, sslrootcert }));
    assert.equal((await there.rotated(good.SecretId, "SingleUser")).state, "succeeded");
    assert.equal(await there.logsIn(await there.value(good.SecretId)), true);
    for (const more of [{}, { ssl: true }]) {
      const { SecretId } = await there.newSecret(await there.newLogin(more));
      await there.root.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, "SingleUser") });
      const tried = await there.rotationOf(SecretId, ({ failedTries }) => failedTries > 0);
      assert.deepEqual([tried.state, tried.outcome], ["running", "tls"], "a certificate that nobody vouches for");
      assert.match(tried.remedy ?? "", /sslrootcert/);
      await there.root.cancelRotateSecret({ SecretId });
      assert.equal(await there.logsIn(await there.value(SecretId)), true);
    }
  });

  it("a server that takes any password is reported, and not touched", async () => {
    await using trusting = await startPostgres({ hba: ["host all all 127.0.0.1/32 trust"] });
    const there = rotationWorld(server, trusting);
    const { SecretId, VersionId } = await there.newSecret(await there.newLogin());
    const stored = "select rolpassword from pg_authid order by rolname";
    const hashes = (await there.sql(stored)).rows;
    await there.root.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, "SingleUser") });
    const tried = await there.rotationOf(SecretId, ({ failedTries }) => failedTries > 0);
    assert.equal(tried.outcome, "invalid");
    assert.match(tried.reason ?? "", /accepts any password for role app_/);
    assert.equal((await there.labels(SecretId))[VersionId]?.[0], "AWSCURRENT");
    assert.deepEqual((await there.sql(stored)).rows, hashes);
    await there.root.cancelRotateSecret({ SecretId });
  });

  describe("refusals", () => {
    const noFunction = "No Lambda rotation function ARN is associated with this secret.";
    const rotate = (SecretId: string, more: object = {}) =>
      world.root.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, "SingleUser"), ...more });

    it("of what cannot be rotated", async () => {
      const { SecretId } = await world.newSecret({ a: 1 });
      await refused(world.root.rotateSecret({ SecretId }), "InvalidRequestException", noFunction);
      await refused(
        world.root.rotateSecret({ SecretId, RotationRules: { AutomaticallyAfterDays: 1 } }),
        "InvalidRequestException",
        noFunction,
      );
      await refused(rotate(newName()), "ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
      await refused(
        rotate(SecretId, { RotationLambdaARN: "not-an-arn" }),
        "InvalidParameterException",
        "Invalid rotation Lambda ARN. Ensure the ARN matches format arn:aws:lambda:<region>:<account>:function:<functionName>.",
      );
      for (const RotationLambdaARN of [
        functionArn(server, "SingleUser").replace("PostgreSQL", "NoSuchDatabase"),
        functionArn(server, "SingleUser", "eu-west-1"),
      ])
        await refused(
          rotate(SecretId, { RotationLambdaARN }),
          "AccessDeniedException",
          "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants access to the principal secretsmanager.amazonaws.com.",
        );
      await refused(
        rotate(SecretId, { RotationLambdaARN: functionArn(server, "SingleUser").replace("PostgreSQL", "Db2") }),
        "InvalidParameterException",
        /^SecretsManagerRDSDb2RotationSingleUser: Rekey has no rotation function of its own for Db2\. Make a function/,
      );
      await refused(
        rotate(SecretId, { RotationLambdaARN: functionArn(server, "SingleUser").replace(/\d{12}/, "999999999999") }),
        "AccessDeniedException",
        /is not authorized to perform: lambda:InvokeFunction/,
      );
      const shown = await world.root.describeSecret({ SecretId });
      assert.deepEqual([shown.RotationEnabled, shown.RotationLambdaARN], [undefined, undefined], "nothing was stored");
      const { status, json } = await rawCall(server, "RotateSecret", { SecretId: "no-such-secret" });
      assert.deepEqual(
        [status, json],
        [
          400,
          {
            __type: "InvalidParameterException",
            Message: "You must provide a ClientRequestToken value. We recommend a UUID-type value.",
          },
        ],
      );
    });

    it("of rules", async () => {
      const { SecretId } = await world.newSecret({ a: 1 });
      const both = "You cannot specify both rotation frequency and schedule expression together.";
      const cases: [rules: object, text: string][] = [
        [{ AutomaticallyAfterDays: 1, ScheduleExpression: "rate(1 day)" }, both],
        [{ ScheduleExpression: "rate(10 seconds)" }, "Invalid schedule expression."],
        [{ ScheduleExpression: "rate(5 minutes)" }, "Invalid schedule expression."],
        [{ ScheduleExpression: "cron(5 8 * * ? *)" }, "Invalid schedule expression."],
        [{ ScheduleExpression: "rate(3 hours)" }, "Rate in hour should be least 4 and less than 24."],
        [{ ScheduleExpression: "rate(1000 days)" }, "Rate in day should be greater than 0 and less than 1000."],
        [{ AutomaticallyAfterDays: 1, Duration: "25h" }, "Duration must be at least 1 hour, at most 24 hour."],
        [{ ScheduleExpression: "rate(4 hours)", Duration: "5h" }, "Duration cannot be greater than Rate in hour."],
        [{ ScheduleExpression: "cron(0 22 * * ? *)", Duration: "3h" }, "Starting hour and duration must be within a day."],
      ];
      for (const [RotationRules, text] of cases)
        await refused(rotate(SecretId, { RotationRules }), "InvalidParameterException", text);
      await refused(
        rotate(SecretId, { RotationRules: { AutomaticallyAfterDays: 1001 } }),
        "ValidationException",
        /Value '1001' at 'rotationRules.automaticallyAfterDays' failed to satisfy constraint/,
      );
      assert.equal((await world.root.describeSecret({ SecretId })).RotationEnabled, undefined);
    });

    it("of secrets that await deletion, of replicas, and of cancelling what never was", async () => {
      const { SecretId } = await world.newSecret({ a: 1 });
      await refused(
        world.root.cancelRotateSecret({ SecretId }),
        "InvalidRequestException",
        "You can't cancel rotation for a secret that doesn't have rotation configured.",
      );
      await world.root.replicateSecretToRegions({ SecretId, AddReplicaRegions: [{ Region: "eu-west-1" }] });
      const far = world.secretsAs(undefined, "eu-west-1");
      while (!(await far.describeSecret({ SecretId }).catch(() => undefined))) await sleep(20);
      const onReplica = "Operation not permitted on a replica secret. Call must be made in primary secret's region.";
      const RotationLambdaARN = functionArn(server, "SingleUser", "eu-west-1");
      await refused(far.rotateSecret({ SecretId, RotationLambdaARN }), "InvalidParameterException", onReplica);
      const doomed = await world.newSecret({ a: 1 });
      await world.root.deleteSecret({ SecretId: doomed.SecretId });
      const marked = "You can't perform this operation on the secret because it was marked for deletion.";
      await refused(rotate(doomed.SecretId), "InvalidRequestException", marked);
      await refused(world.root.cancelRotateSecret({ SecretId: doomed.SecretId }), "InvalidRequestException", marked);
      await refused(
        world.root.cancelRotateSecret({ SecretId: newName() }),
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret.",
      );
    });
  });
});
