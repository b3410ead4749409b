// Marked credentials travel through an agent and through a function of AWS Lambda, set up from the command line as an operator
// does it; afterwards they stand in no file, log, answer, message or command line of either side.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type AgentProcess, startAgent } from "../support/agent-process.ts";
import { native, nativeOk, newName } from "../support/aws.ts";
import { type AwsAccount, startAwsAccount } from "../support/aws-account.ts";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { lambdaZip } from "../support/lambda-zips.ts";
import { Marks } from "../support/marks.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { type DatabaseSecret, functionArn, rotationWorld } from "../support/rotation-e2e.ts";

const roleArn = "arn:aws:iam::111122223333:role/rekey-invoke";

describe("marked credentials in private networks", { skip: postgresSkip }, () => {
  const marks = new Marks();
  const told: string[] = [];
  const folder = mkdtempSync(join(tmpdir(), "rekey-leaks-far-"));
  let aws: AwsAccount;
  let server: RekeyServer;
  let database: PostgresServer;
  let agent: AgentProcess;
  let cli: CommandLine;
  let world: ReturnType<typeof rotationWorld>;

  before(async () => {
    aws = await startAwsAccount();
    const allow = new Set(["lambda:InvokeFunction", "lambda:GetFunctionConfiguration"]);
    aws.roles.set(roleArn, { externalId: "7f2c", allow });
    const env = { ...aws.env, REKEY_SETTLE_MS: "0", REKEY_LOG_LEVEL: "trace" };
    [server, database] = await Promise.all([startRekey({ flags: ["--functions-lambda"], env }), startPostgres()]);
    world = rotationWorld(server, database);
    cli = commandLine(server.endpoint, server.credentials.token, server.dataFolder);
    marks.watch("superuser's password", database.password);
    await cli.ask("projects create shop");
  });
  after(async () => {
    await agent?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    await database?.[Symbol.asyncDispose]();
    await aws?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  async function ask(path: string, members: object): Promise<Record<string, unknown>> {
    const { text, json } = await native(server, path, members);
    told.push(text);
    return json ?? {};
  }

  /** A secret in the network, rotated, checked and rolled back; whatever comes of it. */
  async function rotate(network: string, value: object, name: "SingleUser" | "MultiUser"): Promise<string> {
    const { SecretId } = await world.newSecret(value);
    await cli.ask(`rotation policy ${SecretId} --network ${network}`);
    await world.root.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, name) });
    const { state, reason } = await world.rotationOf(SecretId, (seen) => seen.state !== "running" || seen.failedTries > 0);
    told.push(`${reason}`);
    for (const label of ["AWSCURRENT", "AWSPENDING"]) {
      const { password } = await world.value(SecretId, label).catch((): Partial<DatabaseSecret> => ({}));
      if (password !== undefined) marks.watch(`${label} of ${SecretId}`, password);
    }
    for (const [path, more] of [
      ["rotations/check", {}],
      ["secrets/rollback", { setAgain: true }],
    ] as const) {
      const { jobId } = await ask(path, { secretId: SecretId, ...more });
      while (jobId !== undefined && (await ask("rotations/get-job", { jobId })).endedDate === undefined) await sleep(20);
    }
    for (const path of ["rotations/list", "retirements/list"]) await ask(path, { secretId: SecretId });
    await world.root.cancelRotateSecret({ SecretId });
    return state;
  }

  /** Rotations that work and that do not, and a lease with a managing user. */
  async function useAll(network: string): Promise<void> {
    const password = marks.fresh(`first password in ${network}`);
    const login = await world.newLogin({ password });
    await world.sql(`alter role ${login.username} password '${password}'`);
    assert.equal(await rotate(network, login, "SingleUser"), "succeeded");
    const superuser = await world.newSecret(world.superuser());
    await cli.ask(`rotation policy ${superuser.SecretId} --network ${network}`);
    const turns = { ...(await world.newLogin()), masterarn: superuser.ARN };
    assert.equal(await rotate(network, turns, "MultiUser"), "succeeded");
    const wrong = marks.fresh(`wrong password in ${network}`);
    assert.notEqual(await rotate(network, { ...login, password: wrong }, "SingleUser"), "succeeded");
    const away = { ...login, port: 1, password: marks.fresh(`password for nowhere in ${network}`) };
    assert.notEqual(await rotate(network, away, "SingleUser"), "succeeded");
    const { host, port, username } = world.superuser();
    const data = { host, port, username, password: database.password, ssl: false };
    const refused = { ...data, password: marks.fresh(`wrong manager in ${network}`) };
    await ask("integrations/create", { name: `${network}-wrong`, type: "postgres", network, data: refused });
    await nativeOk(server, "integrations/create", { name: network, type: "postgres", network, data });
    const place = { project: "shop", config: "dev" };
    const dynamicSecret = network.toUpperCase();
    const settings = { roles: ["pg_read_all_data"] };
    await nativeOk(server, "dynamic-secrets/create", { ...place, name: dynamicSecret, integration: network, settings });
    const issued = await nativeOk(server, "leases/issue", { ...place, dynamicSecret });
    const { lease, fields } = issued as never as { lease: { id: string }; fields: Record<string, string> };
    marks.watch(`lease in ${network}`, fields.PASSWORD ?? assert.fail());
    await ask("leases/renew", { leaseId: lease.id });
    await ask("leases/revoke", { leaseId: lease.id });
    await ask("leases/list", {});
  }

  async function isNowhere(more: Readonly<Record<string, string>>): Promise<void> {
    for (const path of ["events/list", "agents/list", "functions/list", "networks/list"]) await ask(path, {});
    const audit = JSON.stringify(await nativeOk(server, "audit/search", { limit: 1000 }));
    const places = { log: server.log(), answers: told.join("\n"), audit, ...more };
    const found = Object.entries(places).flatMap(([place, text]) => marks.foundIn(text).map((what) => `${place}: ${what}`));
    const files = marks.foundInFolder(server.dataFolder, ["root.key", "root-credentials.json"]);
    assert.deepEqual([...found, ...files], []);
  }
  const startedAs = (pid: number): string =>
    process.platform === "linux"
      ? ["cmdline", "environ"].map((name) => readFileSync(`/proc/${pid}/${name}`, "utf8")).join("")
      : "";

  it("through an agent: neither its journal, keys and log nor the server's jobs hold one", async () => {
    await cli.ask("network create plant");
    const { token } = await cli.askJson("agent enroll-token --network plant");
    const allow = `postgres://${database.host}:${database.port}`;
    agent = await startAgent({
      flags: ["--server", server.endpoint, "--name", "plant-1", "--allow", allow],
      env: { REKEY_ENROLL: String(token), REKEY_LOG_LEVEL: "trace" },
    });
    await useAll("plant");
    assert.match(agent.log(), /a job is done/);
    assert.match(told.join("\n"), /allow-list/); // what was refused is told without its password
    const started = startedAs(agent.pid) + startedAs(server.pid);
    assert.deepEqual(marks.foundInFolder(agent.dataFolder), []);
    await isNowhere({ agent: agent.log(), started });
  });

  it("through a function of AWS Lambda: neither what AWS passes on nor the function's log holds one", async () => {
    const keys = join(folder, "keys.json");
    await cli.ask(`aws keys ${keys}`);
    const { zip } = await lambdaZip("postgres");
    const keySet = await (await fetch(`${server.endpoint}/.well-known/jwks.json`)).text();
    const environment = { REKEY_KEY_SET: keySet, REKEY_FAR_KEYS: readFileSync(keys, "utf8") };
    const hosted = aws.createFunction({ name: newName("rekey-postgres"), zip, environment });
    const passed: string[] = [];
    const invoke = hosted.invoke.bind(hosted);
    hosted.invoke = async (requestId, payload) => {
      const answer = await invoke(requestId, payload);
      passed.push(payload, answer.payload, answer.log);
      return answer;
    };
    const at = `--lambda ${hosted.arn} --assume-role ${roleArn} --external-id 7f2c`;
    await cli.ask(`function create rekey-postgres ${at} --protocol rekey --far-key ${keys}.pub`);
    await cli.ask("network create vpc --function postgres=rekey-postgres");
    await useAll("vpc");
    assert.ok(passed.length > 30, String(passed.length));
    await isNowhere({ passed: passed.join("\n"), written: hosted.written, calls: JSON.stringify(aws.calls) });
  });
});
