// Rotated secrets of configs, by both APIs, of real databases.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  CancelRotateSecretCommand,
  DeleteSecretCommand,
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  ReplicateSecretToRegionsCommand,
  RestoreSecretCommand,
  RotateSecretCommand,
} from "@aws-sdk/client-secrets-manager";
import { native, nativeOk, refused, secretsClient } from "../support/aws.ts";
import { commandLine } from "../support/cli.ts";
import { cli } from "../support/doppler.ts";
import { type Login, type PairDatabase, pairDatabases } from "../support/pair-databases.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const config = { project: "shop", config: "dev" };
const daySeconds = 86_400;
interface Shown {
  readonly id: string;
  readonly state: string;
  readonly secretArn: string;
  readonly credential?: string;
  readonly nextRotationAt?: string;
  readonly lastRotatedAt?: string;
  readonly rotation?: { readonly state: string; readonly reason?: string };
}

for (const [kind, start, skip] of pairDatabases) {
  describe(`rotated secrets on ${kind}`, { skip }, () => {
    let server: RekeyServer;
    let database: PairDatabase;
    before(async () => {
      [server, database] = await Promise.all([startRekey(), start()]);
      await nativeOk(server, "projects/create", { name: config.project });
      await nativeOk(server, "integrations/create", { name: "main", type: database.type, data: database.data() });
    });
    after(async () => {
      await server?.[Symbol.asyncDispose]();
      await database?.dispose();
    });

    const newName = () => `DB_${randomUUID().slice(0, 8).toUpperCase()}`;
    const make = async (name: string, pair: readonly Login[], more: object = {}): Promise<Shown> =>
      (
        await nativeOk(server, "rotated-secrets/create", {
          ...config,
          name,
          integration: "main",
          rotationPeriodSeconds: 30 * daySeconds,
          credentials: pair,
          ...more,
        })
      ).rotatedSecret as Shown;
    const show = async (name: string): Promise<Shown> =>
      (await nativeOk(server, "rotated-secrets/get", { ...config, id: name })).rotatedSecret as Shown;
    const until = async (name: string, is: (shown: Shown) => boolean): Promise<Shown> => {
      for (let asked = 0; ; asked++) {
        const shown = await show(name);
        if (is(shown)) return shown;
        if (asked > 5_000) throw new Error(`waited in vain: ${JSON.stringify(shown)}\n${server.log().slice(-4_000)}`);
        await sleep(20);
      }
    };
    const rotate = async (name: string): Promise<void> => {
      const { lastRotatedAt } = await show(name);
      await nativeOk(server, "rotated-secrets/rotate", { ...config, id: name });
      const { rotation } = await until(name, (now) => now.lastRotatedAt !== lastRotatedAt || now.rotation?.state === "failed");
      assert.equal(rotation?.state, "succeeded", JSON.stringify(rotation));
    };
    const token = () => server.credentials.token;
    const download = () =>
      cli(server, `GET /v3/configs/config/secrets/download?project=${config.project}&config=${config.config}&format=json`, {
        token: token(),
      });
    const loginIn = (values: Record<string, string>, name: string): Login => ({
      username: values[`${name}_USERNAME`] ?? "",
      password: values[`${name}_PASSWORD`] ?? "",
    });

    test("the config shows one of two users; after each rotation the other, and the old one still logs in", async () => {
      const name = newName();
      const pair = await database.newPair();
      const made = await make(name, pair);
      assert.equal(made.state, "active");
      assert.ok(Date.parse(made.nextRotationAt ?? "") > Date.now() + 29 * daySeconds * 1_000);
      const first = await download();
      assert.deepEqual(loginIn(first.json, name), pair[0]);
      assert.equal(first.json[`${name}_PORT`], String((database.data() as { port: number }).port));

      await rotate(name);
      const second = await download();
      assert.notEqual(second.headers.etag, first.headers.etag);
      const next = loginIn(second.json, name);
      assert.equal(next.username, pair[1].username);
      assert.notEqual(next.password, pair[1].password);
      for (const login of [pair[0], next]) assert.ok(await database.logsIn(login), login.username);
      assert.equal(await database.logsIn(pair[1]), false);

      await rotate(name);
      const third = loginIn((await download()).json, name);
      assert.equal(third.username, pair[0].username);
      for (const login of [next, third]) assert.ok(await database.logsIn(login), login.username);
      assert.equal(await database.logsIn(pair[0]), false);

      const { logs } = await nativeOk(server, "configs/logs", config);
      assert.deepEqual(
        (logs as { text: string; user: { name: string } }[]).slice(0, 3).map(({ text, user }) => [text, user.name]),
        [
          [`rotated ${name}`, "Rekey"],
          [`rotated ${name}`, "Rekey"],
          [`added rotated secret ${name}`, "root"],
        ],
      );
      const { rotations } = await nativeOk(server, "rotated-secrets/history", { ...config, id: name });
      assert.deepEqual(
        (rotations as { state: string }[]).map(({ state }) => state),
        ["succeeded", "succeeded"],
      );
    });

    test("what is not the caller's, or would fail, is refused in words, and nothing is made", async () => {
      const pair = await database.newPair();
      const ask = (more: object) =>
        native(server, "rotated-secrets/create", {
          ...config,
          name: "REFUSED",
          integration: "main",
          rotationPeriodSeconds: 30 * daySeconds,
          credentials: pair,
          ...more,
        });
      const wrong = { ...pair[1], password: "canary-wrong" };
      const manager = database.data() as Login;
      const cases: [object, RegExp][] = [
        [{ credentials: [pair[0], wrong] }, /Credentials\[1\] was not accepted/],
        [{ credentials: [pair[0]] }, /Credentials must be 2/],
        [{ credentials: [pair[0], pair[0]] }, /they name the same/],
        [{ credentials: [pair[0], { username: manager.username, password: manager.password }] }, /integration's own user/],
        [{ parameters: { HOST: "elsewhere" } }, /must be the integration's/],
        [{ parameters: { MANAGING_USER: { USERNAME: "a", PASSWORD: "b" } } }, /the integration's own user is the managing user/],
        [{ parameters: { EXTRA: 1 } }, /Parameters has extra/],
        [{ rotationPeriodSeconds: 10 }, /RotationPeriodSeconds must be/],
        [{ integration: "nothing" }, /Could not find integration nothing/],
        [{ name: "lower" }, /A-Z_/],
      ];
      for (const [change, message] of cases) {
        const answer = await ask(change);
        assert.notEqual(answer.status, 200, JSON.stringify(change));
        assert.match(answer.text, message);
        assert.ok(!answer.text.includes("canary-wrong"));
      }
      await nativeOk(server, "config-secrets/set", { ...config, secrets: { REFUSED_PORT: "1" } });
      assert.match((await ask({})).text, /has a secret REFUSED_PORT already/);
      assert.deepEqual((await nativeOk(server, "rotated-secrets/list", config)).rotatedSecrets, await listedNow());
      assert.ok(!server.log().includes("canary-wrong"));
    });
    const listedNow = async () => (await nativeOk(server, "rotated-secrets/list", config)).rotatedSecrets;

    test("AWS's calls read the secret, and may change nothing of it; the config's may not set its names", async () => {
      const name = newName();
      const { secretArn: SecretId } = await make(name, await database.newPair());
      const aws = secretsClient(server);
      const described = await aws.send(new DescribeSecretCommand({ SecretId }));
      assert.equal(described.OwningService, "rekey");
      assert.match(described.Name ?? "", new RegExp(`^rekey!shop/dev/${name}$`));
      const value = JSON.parse((await aws.send(new GetSecretValueCommand({ SecretId }))).SecretString ?? "");
      assert.match(value.masterarn, /^arn:aws:rekey:us-east-1:\d{12}:integration\//);
      const managed = /managed by rekey/;
      await refused(aws.send(new PutSecretValueCommand({ SecretId, SecretString: "x" })), "InvalidRequestException", managed);
      await refused(aws.send(new RotateSecretCommand({ SecretId })), "InvalidRequestException", managed);
      await refused(aws.send(new CancelRotateSecretCommand({ SecretId })), "InvalidRequestException", managed);
      await refused(aws.send(new DeleteSecretCommand({ SecretId })), "InvalidRequestException", managed);
      await refused(
        aws.send(new DeleteSecretCommand({ SecretId, ForceDeleteWithoutRecovery: true })),
        "InvalidRequestException",
        managed,
      );
      await refused(
        aws.send(new ReplicateSecretToRegionsCommand({ SecretId, AddReplicaRegions: [{ Region: "eu-west-1" }] })),
        "InvalidRequestException",
        managed,
      );
      const set = await native(server, "config-secrets/set", { ...config, secrets: { [`${name}_PASSWORD`]: "mine" } });
      assert.notEqual(set.status, 200);
    });

    test("attack: a secret of one's own that names the integration gets nothing done by its user", async () => {
      const victim = newName();
      const [first, second] = await database.newPair();
      const { secretArn } = await make(victim, [first, second]);
      const aws = secretsClient(server);
      const value = JSON.parse((await aws.send(new GetSecretValueCommand({ SecretId: secretArn }))).SecretString ?? "");
      const { arn } = await nativeOk(server, "secrets/create", { name: `own-${victim}`, secretString: JSON.stringify(value) });
      const multi = database.type === "postgres" ? "PostgreSQL" : "MySQL";
      const rotationLambdaArn = `arn:aws:lambda:us-east-1:${secretArn.split(":")[4]}:function:SecretsManagerRDS${multi}RotationMultiUser`;
      await nativeOk(server, "secrets/rotate", { secretId: arn, rotationLambdaArn });
      for (let asked = 0; ; asked++) {
        const { rotations } = await nativeOk(server, "rotations/list", { secretId: arn });
        const [rotation] = rotations as { state: string; reason?: string; outcome?: string }[];
        if (rotation?.outcome === "denied") break;
        assert.ok(asked < 500, JSON.stringify(rotation));
        await sleep(20);
      }
      assert.ok(await database.logsIn(second));
    });

    test("a credential that was changed outside is put right by whoever gives the one in force", async () => {
      const name = newName();
      const [first, second] = await database.newPair();
      await make(name, [first, second]);
      await until(name, ({ credential }) => credential === "logs in");
      const changed = { ...first, password: "changed-by-hand" };
      await database.setPassword(changed);
      const refusedResume = await native(server, "rotated-secrets/resume", { ...config, id: name });
      assert.match(refusedResume.text, /does not log in: give Credential/);
      const stranger = await native(server, "rotated-secrets/resume", { ...config, id: name, credential: second });
      assert.match(stranger.text, /must be of/);
      await nativeOk(server, "rotated-secrets/resume", { ...config, id: name, credential: { PASSWORD: changed.password } });
      assert.deepEqual(loginIn((await download()).json, name), changed);
      await rotate(name);
      assert.equal(loginIn((await download()).json, name).username, second.username);
    });

    test("a name and a period change, nothing else; a deleted one is shown no more, and its secret may be restored", async () => {
      const name = newName();
      const { id, secretArn: SecretId } = await make(name, await database.newPair());
      const renamed = `${name}_B`;
      const changed = await nativeOk(server, "rotated-secrets/update", {
        ...config,
        id,
        name: renamed,
        rotationPeriodSeconds: 2 * daySeconds,
      });
      const shown = changed.rotatedSecret as Shown;
      assert.ok(Date.parse(shown.nextRotationAt ?? "") < Date.now() + 4 * daySeconds * 1_000);
      const values = (await download()).json;
      assert.equal(values[`${name}_PASSWORD`], undefined);
      assert.ok(values[`${renamed}_PASSWORD`]);
      await nativeOk(server, "rotated-secrets/delete", { ...config, id });
      assert.equal((await download()).json[`${renamed}_PASSWORD`], undefined);
      const aws = secretsClient(server);
      assert.ok((await aws.send(new DescribeSecretCommand({ SecretId }))).DeletedDate);
      await aws.send(new RestoreSecretCommand({ SecretId }));
      await aws.send(new PutSecretValueCommand({ SecretId, SecretString: "x" }));
      await make(name, await database.newPair()); // the name is free in the config, and another one as a secret
    });

    test("the command line does it all", async () => {
      const name = newName();
      const pair = await database.newPair();
      const folder = mkdtempSync(join(tmpdir(), "rekey-rotated-"));
      const line = commandLine(server.endpoint, token(), folder);
      const typed = (...args: string[]) => line.ask(["rotated", ...args, "--project", config.project, "--config", config.config]);
      try {
        writeFileSync(join(folder, "pair.json"), JSON.stringify(pair));
        const made = await typed(
          "create",
          name,
          "--integration",
          "main",
          "--every",
          "30d",
          "--credentials",
          join(folder, "pair.json"),
        );
        assert.match(made, /active[\s\S]*30 d/);
        assert.ok(!pair.some(({ password }) => made.includes(password)));
        assert.match(await typed("list"), new RegExp(name));
        assert.match(await typed("rotate", name), /is being rotated/);
        await until(name, ({ rotation }) => rotation?.state === "succeeded");
        assert.match(await typed("history", name), /succeeded/);
        assert.match(await typed("update", name, "--every", "12h"), /43200 s/);
        assert.match(await typed("get", name), /Next rotation/);
        assert.match(await typed("delete", name, "--yes"), /rekey secret restore/);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });

    test("Doppler's calls do the same", async () => {
      const name = newName();
      const pair = await database.newPair();
      const at = `project=${config.project}&config=${config.config}`;
      const { integrations } = (await cli(server, "GET /v3/integrations", { token: token() })).json;
      const body = {
        integration: integrations[0].slug,
        name,
        rotation_period_sec: 30 * daySeconds,
        parameters: database.type === "postgres" ? { DATABASE: "postgres" } : {},
        credentials: pair.map(({ username, password }) => ({ USERNAME: username, PASSWORD: password })),
      };
      const made = await cli(server, `POST /v3/configs/config/rotated_secrets?${at}`, { token: token(), body });
      assert.equal(made.status, 200, made.text);
      const { slug } = made.json.rotatedSecret;
      assert.equal(made.json.rotatedSecret.rotation_period_sec, 30 * daySeconds);
      const one = `/v3/configs/config/rotated_secrets/rotated_secret?${at}&slug=${slug}`;
      const put = await cli(server, `PUT ${one}`, {
        token: token(),
        body: { name: `${name}_X`, rotation_period_sec: daySeconds },
      });
      assert.equal(put.json.rotatedSecret?.name, `${name}_X`, put.text);
      assert.equal((await cli(server, `GET ${one}`, { token: token() })).json.rotatedSecret.name, `${name}_X`);
      assert.equal((await cli(server, `DELETE ${one}`, { token: token() })).status, 200);
      assert.equal((await cli(server, `GET ${one}`, { token: token() })).status, 404);
    });
  });
}
