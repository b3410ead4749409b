// `rekey rotation setup`: from a bare secret to a rotated one in one command, and what stops it before anything is changed.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { secretParts } from "../../src/commands/setup-parts.ts";
import { newName } from "../support/aws.ts";
import { type CommandLine, commandLine, run } from "../support/cli.ts";
import { functionWorld, nodeRotation } from "../support/function-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { startRdsEndpoint } from "../support/rds-endpoint.ts";
import { rotationWorld } from "../support/rotation-e2e.ts";

interface SetUp {
  readonly ok: boolean;
  readonly applied: boolean;
  readonly functionArn: string;
  readonly parts: readonly { readonly part: string; readonly name: string; readonly state: string }[];
  readonly findings: readonly { readonly problem: string }[];
  readonly rotation?: { readonly state: string; readonly versionId: string; readonly testOnly: boolean };
}

describe("rekey rotation setup", { skip: postgresSkip }, () => {
  let functions: Awaited<ReturnType<typeof functionWorld>>;
  let postgres: PostgresServer;
  let world: ReturnType<typeof rotationWorld>;
  let rekey: CommandLine;
  before(async () => {
    [functions, postgres] = await Promise.all([functionWorld(), startPostgres()]);
    world = rotationWorld(functions.server, postgres);
    rekey = commandLine(functions.server.endpoint, functions.server.credentials.token, functions.folder);
  });
  after(async () => {
    await Promise.all([functions[Symbol.asyncDispose](), postgres[Symbol.asyncDispose]()]);
  });
  const setUp = async (command: string) => (await rekey.askJson(`rotation setup ${command}`)) as unknown as SetUp;
  const states = ({ parts }: SetUp) => parts.map(({ state }) => state);

  it("a single user: a plan, one command, and again nothing", async () => {
    const login = await world.newLogin();
    const { SecretId } = await world.newSecret(login);
    const before = await world.labels(SecretId);
    const plan = await rekey.ask(`rotation setup ${SecretId}`);
    assert.match(plan, /Function SecretsManagerRDSPostgreSQLRotationSingleUser, single-user/);
    assert.match(plan, /rotation, and the first one now +\S+ +to make/);
    assert.match(plan, /ok: the current credential logs in/);
    assert.match(plan, /nothing was changed; --yes does it/);
    assert.deepEqual(await world.labels(SecretId), before);
    assert.match(await rekey.ask(`rotation setup ${SecretId} --after-days 30 --yes`), /is set up; it was rotated/);
    const value = await world.value(SecretId);
    assert.equal(await world.logsIn(value), true);
    assert.equal(await world.logsIn(login), "28P01");
    const again = await rekey.ask(`rotation setup ${SecretId} --after-days 30 --yes`);
    assert.match(again, /all of it is there: nothing was changed/);
    assert.equal((await world.rotations(SecretId)).length, 1);
    const other = await setUp(`${SecretId} --after-days 10 --no-immediately --yes`);
    assert.deepEqual(states(other), ["there"]);
    assert.equal((await world.root.describeSecret({ SecretId })).RotationRules?.AutomaticallyAfterDays, 10);
    assert.deepEqual(await world.value(SecretId), value);
  });

  it("alternating users with a superuser's secret, which it writes into the value", async () => {
    const master = await world.newSecret(world.superuser());
    const login = await world.newLogin({ note: "kept" });
    const { SecretId } = await world.newSecret(login);
    const done = await setUp(`${SecretId} --superuser ${master.SecretId} --yes`);
    assert.equal(done.rotation?.state, "succeeded");
    assert.match(done.functionArn, /PostgreSQLRotationMultiUser$/);
    const value = await world.value(SecretId);
    assert.deepEqual([value.username, value.masterarn, value.note], [`${login.username}_clone`, master.ARN, "kept"]);
    assert.equal(await world.logsIn(value), true);
    assert.equal(await world.logsIn(login), true);
    assert.deepEqual(states(await setUp(`${SecretId} --superuser ${master.SecretId} --yes`)), ["there", "there"]);
    assert.deepEqual(states(await setUp(SecretId)), ["there", "there"], "what is configured counts when nothing is asked for");
    assert.equal((await world.rotations(SecretId)).length, 1);
  });

  it("a superuser's value without host, as RDS keeps it, is used at the address that its secret is tagged with, and nowhere else", async () => {
    const { username, password } = world.superuser();
    const master = await world.newSecret({ username, password }, newName("rds"));
    const login = await world.newLogin();
    const { SecretId } = await world.newSecret(login);
    const planned = await setUp(`${SecretId} --superuser ${master.SecretId}`);
    assert.deepEqual([planned.ok, planned.applied, states(planned)], [true, false, ["to make", "to make", "to make"]]);
    assert.equal((await world.root.describeSecret({ SecretId: master.ARN })).Tags, undefined);
    const done = await setUp(`${SecretId} --superuser ${master.SecretId} --yes`);
    assert.equal(done.rotation?.state, "succeeded");
    const tags = (await world.root.describeSecret({ SecretId: master.ARN })).Tags;
    assert.deepEqual(tags, [{ Key: "rekey:address", Value: `${login.host}:${login.port}` }]);
    // Whoever may write the secret alone cannot have the superuser's password sent to a server of his own.
    const elsewhere = await startPostgres();
    try {
      await world.root.putSecretValue({
        SecretId,
        SecretString: JSON.stringify({ ...(await world.value(SecretId)), host: elsewhere.host, port: elsewhere.port }),
      });
      const { code, out } = await rekey.run(`rotation setup ${SecretId} --yes`);
      assert.equal(code, 1);
      assert.match(out, /the superuser's secret is for postgres:\/\/\S+, this one for postgres:/);
    } finally {
      await elsewhere[Symbol.asyncDispose]();
    }
  });

  it("the address of a superuser's secret without host, as RDS tells it", async () => {
    await using rds = await startRdsEndpoint();
    const env = { ...rekey.env, ...rds.env };
    const { username, password } = world.superuser();
    const master = await world.newSecret({ username, password }, newName("rds"));
    const login = await world.newLogin();
    const { SecretId } = await world.newSecret(login);
    const setUpWith = (identifier: string) =>
      run(["rotation", "setup", SecretId, "--superuser", master.SecretId, "--rds", identifier, "--yes"], { env });
    const refused = async (identifier: string, message: RegExp, code = 1) => {
      const ran = await setUpWith(identifier);
      assert.match(ran.err, message);
      assert.equal(ran.code, code);
      assert.equal((await world.root.describeSecret({ SecretId: master.ARN })).Tags, undefined, "nothing was changed");
    };
    await refused("unknown", /RDS knows no instance or cluster unknown/);
    rds.places.set("young", { kind: "cluster" });
    await refused("young", /young has no address yet/);
    rds.refuses = true;
    await refused("young", /need rds:DescribeDBInstances and rds:DescribeDBClusters/);
    rds.refuses = false;
    rds.places.set("elsewhere", { kind: "db", host: "127.0.0.1", port: 1 });
    assert.equal((await setUpWith("elsewhere")).code, 1, "another server than the rotated secret's");
    for (const kind of ["db", "cluster"] as const) {
      rds.places.set(kind, { kind, host: String(login.host), port: Number(login.port) });
      const named = kind === "db" ? `arn:aws:rds:eu-central-1:123456789012:db:${kind}` : kind;
      const ran = await setUpWith(named);
      assert.equal(ran.code, 0, ran.err);
    }
    const tags = (await world.root.describeSecret({ SecretId: master.ARN })).Tags;
    assert.deepEqual(tags, [{ Key: "rekey:address", Value: `${login.host}:${login.port}` }]);
    assert.equal((await world.rotations(SecretId)).length, 1);
    const whole = await world.newSecret(world.superuser());
    const ran = await run(["rotation", "setup", SecretId, "--superuser", whole.SecretId, "--rds", "db"], { env });
    assert.match(ran.err, /this one has one/);
    assert.equal(ran.code, 2);
  });

  it("a function of one's own: role, rights, function, who may invoke it", async () => {
    functions.write("own/rotate.mjs", nodeRotation);
    const { SecretId } = await world.newSecret({ username: "app", password: "first" });
    const name = newName("own");
    const command = `${SecretId} --function ${name} --runtime node --file own/rotate.mjs --env GREETING=hello`;
    const planned = await setUp(command);
    assert.deepEqual(
      planned.parts.map(({ part, state }) => [part, state]),
      [
        ["role", "to make"],
        ["what the role may do", "to make"],
        ["function", "to make"],
        ["who may invoke it", "to make"],
        ["rotation, and the first one now", "to make"],
      ],
    );
    assert.doesNotMatch(await rekey.ask("function list"), new RegExp(name));
    const done = await setUp(`${command} --yes`);
    assert.equal(done.rotation?.state, "succeeded", await functions.logs(name));
    assert.notEqual((await world.value(SecretId)).password, "first");
    assert.ok(states(await setUp(`${command} --yes`)).every((state) => state === "there"));
    const shown = await functions.ask("functions/get", { functionName: name });
    const policy = JSON.parse(String(shown.policy)).Statement[0];
    assert.deepEqual(
      [policy.Principal, policy.Condition],
      [
        { Service: "secretsmanager.amazonaws.com" },
        { StringEquals: { "aws:SourceAccount": functions.server.credentials.account } },
      ],
    );
  });

  it("tells when the first rotation did not go well: exit code 1", async () => {
    functions.write("own/broken.mjs", "export const handler = () => { throw new Error('not today'); };");
    const { SecretId } = await world.newSecret({ username: "app", password: "first" });
    const command = `${SecretId} --function ${newName("broken")} --runtime node --file own/broken.mjs --yes`;
    const { code, out } = await rekey.run(`rotation setup ${command}`);
    assert.equal(code, 1);
    assert.match(out, /the first try failed and will be repeated: .*not today/);
  });

  it("goes on where it was interrupted, and grants the use of a customer key", async () => {
    functions.write("own/again.mjs", nodeRotation);
    const { keyId, arn } = await functions.ask("keys/create", {});
    const Name = newName("kms");
    await world.root.createSecret({ Name, KmsKeyId: String(keyId ?? arn), SecretString: '{"password":"first"}' });
    const name = newName("again");
    await functions.create({ name, file: "own/again.mjs", bare: true });
    const done = await setUp(`${Name} --function ${name} --yes`);
    assert.equal(done.rotation?.state, "succeeded", await functions.logs(name));
    const policyArn = `arn:aws:iam::${functions.server.credentials.account}:policy/${name}-role-policy`;
    const { versions } = (await functions.ask("policies/get", { policyArn })) as unknown as { versions: { document: string }[] };
    const statement = JSON.parse(versions[0]?.document ?? "").Statement.find(({ Sid }: { Sid: string }) => Sid === "UseKeys");
    assert.deepEqual(statement.Action, ["kms:Decrypt", "kms:GenerateDataKey"]);
    assert.ok(statement.Condition.StringLike["kms:EncryptionContext:SecretARN"]);
  });

  it("a pre-flight that fails stops it before any change: exit code 1", async () => {
    const master = await world.newSecret({ ...world.superuser(), password: "not-this-one" });
    const login = await world.newLogin();
    const { SecretId } = await world.newSecret(login);
    const before = await world.labels(SecretId);
    const { code, out } = await rekey.run(`rotation setup ${SecretId} --superuser ${master.SecretId} --yes`);
    assert.equal(code, 1);
    assert.match(out, /the superuser's credential does not log in/);
    assert.match(out, /nothing was changed/);
    assert.doesNotMatch(out, /not-this-one|first-password/);
    assert.deepEqual(await world.labels(SecretId), before);
    assert.deepEqual(await world.value(SecretId), login);
    assert.equal((await world.root.describeSecret({ SecretId })).RotationEnabled, undefined);
    const json = await rekey.run(`rotation setup ${SecretId} --superuser ${master.SecretId} --yes --json`);
    assert.deepEqual([json.code, JSON.parse(json.out).applied], [1, false]);
  });

  it("a value that was rotated to while somebody looked at the plan is not put back", async () => {
    const master = await world.newSecret(world.superuser());
    const { SecretId, VersionId } = await world.newSecret(await world.newLogin());
    const connection = { endpoint: functions.server.endpoint, token: functions.server.credentials.token };
    const planned = { value: { ...(await world.value(SecretId)) }, versionId: VersionId };
    assert.equal((await world.rotated(SecretId, "SingleUser")).state, "succeeded");
    const rotatedTo = await world.value(SecretId);
    const [part] = secretParts(connection, SecretId, planned, { arn: master.ARN });
    assert.equal(part?.state, "to make");
    await assert.rejects(async () => part?.apply?.(), /the secret has another value by now/);
    assert.deepEqual(await world.value(SecretId), rotatedTo);
  });

  it("says what is wrong with a call", async () => {
    writeFileSync(join(functions.folder, "plain.txt"), "plain text");
    await rekey.ask("secret create set/plain --value-file plain.txt");
    const strange = await world.newSecret({ engine: "cobol", password: "x" });
    for (const [command, code, message] of [
      ["set/plain", 2, /no key engine/],
      ["set/plain --superuser x", 1, /must|JSON object/],
      [strange.SecretId, 2, /no function is built in for engine cobol/],
      ["set/plain --function mine", 1, /there is no function mine: give --runtime/],
      ["set/plain --function mine --runtime node", 2, /--runtime and --file together/],
      ["set/none", 1, /ResourceNotFoundException/],
    ] as const) {
      const ran = await rekey.run(`rotation setup ${command}`);
      assert.match(ran.err, message, command);
      assert.equal(ran.code, code, command);
    }
  });
});
