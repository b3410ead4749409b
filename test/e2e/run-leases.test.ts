// `rekey run` with credentials that are leased at a real Redis: they live as long as the program, and no longer.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CopySealer } from "../../src/commands/run/sealed-copy.ts";
import { type ConfigCli, configCli, shows, until } from "../support/config-cli.ts";
import { type RedisServer, redisSkip, startRedis } from "../support/redis-server.ts";
import { startRekey } from "../support/rekey-server.ts";

const password = "root-password";
let cli: ConfigCli;
let redis: RedisServer;
const dataFolder = mkdtempSync(join(tmpdir(), "rekey-run-data-"));

const users = async (): Promise<string[]> => ((await redis.run("ACL", "USERS")) as string[]).filter((name) => name !== "default");
const noUsers = () => until("no user is left at Redis", async () => (await users()).length === 0);
const user = (shown: string): string => /user=(\S+)/.exec(shown)?.[1] ?? "";
const asksRedis = `redis-cli -h "$CACHE_HOST" -p "$CACHE_PORT" --user "$CACHE_USERNAME" --pass "$CACHE_PASSWORD" --no-auth-warning set orders:1 x`;
const stays = ["--command", 'echo "user=$CACHE_USERNAME log=$LOG pid=$$"; exec sleep 600'];

describe("leases of a run", { skip: redisSkip }, () => {
  before(async () => {
    [cli, redis] = await Promise.all([configCli({ dataFolder }), startRedis({ password })]);
    const { host, port } = redis;
    await cli.set({ LOG: "debug", CACHE_NOTE: "lasting" });
    await cli.native("integrations/create", {
      name: "cache",
      type: "redis",
      data: { host, port, username: "default", password, ssl: false },
    });
    const settings = { keys: ["orders:*"], commands: ["+@all"] };
    const place = { project: "shop", config: "dev", integration: "cache", settings };
    await cli.native("dynamic-secrets/create", { ...place, name: "CACHE" });
    await cli.native("dynamic-secrets/create", {
      ...place,
      config: "stg",
      name: "CACHE",
      defaultTtlSeconds: 60,
      maxTtlSeconds: 60,
    });
  });
  after(async () => {
    await cli[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
    rmSync(dataFolder, { recursive: true });
  });

  test("they work in the program, and are ended when it exits, however that comes", async () => {
    const used = await cli.rekey(["run", "--command", `echo user=$CACHE_USERNAME; ${asksRedis}; exit 4`]);
    assert.deepEqual([used.code, /\nOK\n/.test(used.out)], [4, true], used.err + used.out);
    assert.deepEqual([await users(), used.err], [[], ""]);
    assert.equal((await cli.rekey(["run", "--", "no-such-program"])).code, 127);
    assert.deepEqual(await users(), []);
    for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"] as const) {
      const child = cli.begin(["run", ...stays]);
      await until("it has its user", () => user(child.shown()) !== "");
      assert.deepEqual(await users(), [user(child.shown())]);
      child.kill(signal);
      await child.closed;
      assert.deepEqual(await users(), [], `${signal}: ${child.shown()}`);
    }
  });

  test("none is taken when they are not wanted, or not among the secrets that are named", async () => {
    for (const flags of [["--no-leases"], ["--only-secrets", "LOG"]]) {
      const child = cli.begin(["run", ...flags, ...stays]);
      await until("it is up", () => child.shown().includes("log=debug"));
      assert.deepEqual([user(child.shown()), await users()], ["", []]);
      child.kill();
      await child.closed;
    }
  });

  test("a service token, bound to its config, is enough", async () => {
    const token = await cli.serviceToken();
    const env = { REKEY_TOKEN: token, REKEY_PROJECT: "", REKEY_CONFIG: "" };
    const ran = await cli.rekey(["run", "--ttl", "5m", "--command", `${asksRedis}; echo $REKEY_CONFIG`], { env });
    assert.deepEqual([ran.code, ran.out, ran.err], [0, "OK\ndev\n", ""]);
    assert.deepEqual(await users(), []);
  });

  test("who may read the values and lease nothing is told how to go without", async () => {
    await cli.native("users/create", { userName: "reader" });
    const statement = { Effect: "Allow", Action: "rekey:GetConfigSecrets", Resource: "*" };
    const policyDocument = JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
    const { arn } = await cli.native("policies/create", { policyName: "reads", policyDocument });
    await cli.native("policies/attach", { policyArn: arn, userName: "reader" });
    const { token } = await cli.native("tokens/create", { name: "reader", userName: "reader" });
    const env = { REKEY_TOKEN: String(token) };
    assert.equal((await cli.rekey(["run", "--no-leases", "--", "true"], { env })).code, 0);
    const refused = await cli.rekey(["run", "--", "true"], { env });
    assert.deepEqual([refused.code, /rekey:IssueLease[\s\S]*--no-leases goes without/.test(refused.err)], [1, true], refused.err);
    const offline = await cli.rekey(["run", "--no-leases", "--fallback-only", "--command", "echo $LOG"], { env });
    assert.deepEqual([offline.code, offline.out], [0, "debug\n"], offline.err); // the copy is still there
  });

  test("a changed secret takes no new lease", async () => {
    const child = cli.begin(["run", "--watch", ...stays]);
    await until("it is up", () => child.shown().includes("log=debug"));
    const first = user(child.shown());
    await cli.set({ LOG: "warn" });
    await until("it is up anew", () => child.shown().includes("log=warn"));
    assert.equal(child.shown().match(new RegExp(`user=${first} `, "g"))?.length, 2, child.shown());
    assert.deepEqual(await users(), [first]);
    child.kill();
    await child.closed;
    assert.deepEqual(await users(), []);
    await cli.set({ LOG: "debug" });
  });

  // The shortest lease lives for a minute.
  test("they are renewed while the program lives; one that can live no longer is replaced, or that is told", async () => {
    const stg = { REKEY_CONFIG: "stg" };
    const renewed = cli.begin(["run", "--ttl", "60s", ...stays]);
    const replaced = cli.begin(["run", "--watch", ...stays], stg);
    const told = cli.begin(["run", ...stays], stg);
    for (const child of [renewed, replaced, told]) await until("it has its user", () => user(child.shown()) !== "");
    const [first, other] = [user(renewed.shown()), user(told.shown())];
    const endOf = async (name: string): Promise<number> => {
      const { leases } = (await cli.native("leases/list", { user: name })) as { leases: { expiresAt: string }[] };
      return Date.parse(leases[0]?.expiresAt ?? "");
    };
    const before = await endOf(first);
    await until("it is renewed", async () => (await endOf(first)) > before + 10_000);
    // What nobody can end any more ends by its TTL.
    renewed.kill("SIGKILL");
    process.kill(Number(/pid=(\d+)/.exec(renewed.shown())?.[1]), "SIGKILL"); // which goes on alone
    assert.ok((await endOf(first)) < Date.now() + 61_000);
    await shows(told, /warning: lease \S+ of CACHE ends at .* cannot live longer/);
    await shows(replaced, /user=[\s\S]*user=/);
    const [old, fresh = ""] = [...replaced.shown().matchAll(/user=(\S+)/g)].map(([, name]) => name);
    await until("the old one is ended", async () => (await users()).sort().join() === [fresh, other, first].sort().join());
    assert.notEqual(old, fresh);
    for (const child of [replaced, told]) {
      child.kill();
      await child.closed;
    }
    assert.deepEqual([await users(), renewed.shown().includes("warning")], [[first], false]);
    await noUsers();
  });

  test("offline there are none: the copy has none, and that is told", async () => {
    const { token } = cli.server.credentials;
    const copy = join(cli.folder, "copy");
    const made = await cli.rekey(["run", "--fallback", copy, "--command", "true"]);
    assert.deepEqual([made.code, made.err], [0, ""]);
    const kept = await new CopySealer(token).open(readFileSync(copy, "utf8"));
    assert.deepEqual(Object.keys(kept?.values ?? {}), [
      "CACHE_NOTE",
      "DOPPLER_CONFIG",
      "DOPPLER_ENVIRONMENT",
      "DOPPLER_PROJECT",
      "LOG",
    ]);
    const missing = ["HOST", "LEASE_EXPIRATION", "LEASE_ID", "PASSWORD", "PORT", "USERNAME"].map((field) => `CACHE_${field}`);
    assert.deepEqual([...(kept?.leasedNames ?? [])].sort(), missing);

    const child = cli.begin(["run", "--ttl", "60s", ...stays]);
    await until("it has its user", () => user(child.shown()) !== "");
    const listen = new URL(cli.server.endpoint).host;
    await cli.server.stop();

    const refused = await cli.rekey(["run", "--fallback", copy, "--command", "echo started"]);
    assert.deepEqual([refused.code, refused.out], [3, ""]);
    assert.match(
      refused.err,
      /does not answer.*the offline copy holds no leased credentials.*CACHE_PASSWORD.*--allow-missing-leases/,
    );
    const allowed = await cli.rekey([
      "run",
      "--fallback",
      copy,
      "--allow-missing-leases",
      "--command",
      "echo $LOG,$CACHE_USERNAME",
    ]);
    assert.deepEqual([allowed.code, allowed.out], [0, "debug,\n"]);
    assert.match(allowed.err, /warning: leased credentials are missing: CACHE_/);
    const asked = await cli.rekey(["run", "--fallback", copy, "--no-leases", "--command", "echo $LOG"]);
    assert.deepEqual([asked.code, asked.out], [0, "debug\n"]);
    const old = await cli.rekey(["run", "--fallback", copy, "--no-leases", "--fallback-max-age", "0s", "--command", "echo $LOG"]);
    assert.deepEqual([old.code, /--fallback-max-age allows 0 s/.test(old.err)], [3, true]);
    const none = await cli.rekey(["run", "--no-fallback", "--command", "echo $LOG"]);
    assert.deepEqual([none.code, none.out], [3, ""]);
    writeFileSync(join(cli.folder, "damaged"), readFileSync(copy, "utf8").replace(/A/g, "B"), { mode: 0o600 });
    const damaged = await cli.rekey(["run", "--fallback", "damaged", "--fallback-only", "--command", "echo $LOG"]);
    assert.deepEqual([damaged.code, /no offline copy that this token opens/.test(damaged.err)], [3, true]);

    await shows(child, /could not be renewed yet/);
    await using _again = await startRekey({ dataFolder, flags: ["--listen", listen] });
    child.kill();
    await child.closed;
    await noUsers();
  });
});
