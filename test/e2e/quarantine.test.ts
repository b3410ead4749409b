// I18: a store that was put back does nothing outside before somebody allows it.
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type CommandLine, commandLine, run } from "../support/cli.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const single = "SecretsManagerRDSPostgreSQLRotationSingleUser";
const count = 10;
/** Of these the superuser may set the password anew. */
const withSuperuser = 5;

describe("quarantine", { skip: postgresSkip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-quarantine-"));
  const data = join(folder, "data");
  const restored = join(folder, "restored");
  let target: PostgresServer;
  let admin: pg.Client;
  let server: RekeyServer;
  let token: string;

  before(async () => {
    target = await startPostgres({ settings: ["log_connections=on"] });
    admin = new pg.Client(target.url);
    await admin.connect();
    server = await startRekey({ dataFolder: data, flags: ["--extended-schedules"] });
    ({ token } = server.credentials);
  });
  after(async () => {
    await server.stop();
    await admin.end();
    await target[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const cli = (): CommandLine => commandLine(server.endpoint, token, folder);
  const names = Array.from({ length: count }, (_, number) => `user_${number}`);
  const connections = () =>
    readFileSync(target.logFile, "utf8").split("connection authorized").length +
    readFileSync(target.logFile, "utf8").split("connection received").length;

  async function call(operation: string, body: object) {
    const response = await fetch(`${server.endpoint}/rekey/v1/${operation}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
      body: JSON.stringify(body),
    });
    // biome-ignore lint/suspicious/noExplicitAny: an answer of any shape
    return { status: response.status, body: (await response.json()) as any };
  }

  async function ended(name: string): Promise<{ state: string; reason?: string; remedy?: string }> {
    for (;;) {
      const { rotations } = (await call("rotations/list", { secretId: name, limit: 1 })).body;
      if (rotations[0] && rotations[0].state !== "running") return rotations[0];
      await sleep(50);
    }
  }

  async function rotateAll(): Promise<void> {
    for (const name of names) assert.equal((await call("secrets/rotate", { secretId: name })).status, 200);
    for (const name of names) assert.equal((await ended(name)).state, "succeeded");
  }

  async function logsIn(name: string): Promise<boolean> {
    const { secretString } = (await call("secrets/get-value", { secretId: name })).body;
    const { host, port, username: user, password } = JSON.parse(secretString);
    const client = new pg.Client({ host, port, user, password, database: "postgres" });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return true;
    } catch {
      return false;
    } finally {
      await client.end();
    }
  }

  test("secrets are rotated, backed up, and rotated again", async () => {
    const place = { engine: "postgres", host: target.host, port: target.port };
    const superuser = { ...place, username: target.user, password: target.password };
    await call("secrets/create", { name: "superuser", secretString: JSON.stringify(superuser) });
    const { arn: masterarn } = (await call("secrets/describe", { secretId: "superuser" })).body;
    const { account, region } = server.credentials;
    const rotationLambdaArn = `arn:aws:lambda:${region}:${account}:function:${single}`;
    for (const [number, username] of names.entries()) {
      await admin.query(`create role ${username} login password 'first'`);
      const credential = { ...place, username, password: "first", ...(number < withSuperuser && { masterarn }) };
      await call("secrets/create", { name: username, secretString: JSON.stringify(credential) });
      await call("secrets/rotate", { secretId: username, rotationLambdaArn, rotateImmediately: false });
      assert.equal((await ended(username)).state, "succeeded");
    }
    await rotateAll();
    // One falls due by its schedule, too.
    await admin.query("create role scheduled login password 'first'");
    await call("secrets/create", {
      name: "scheduled",
      secretString: JSON.stringify({ ...place, username: "scheduled", password: "first" }),
    });
    await call("secrets/rotate", {
      secretId: "scheduled",
      rotationLambdaArn,
      rotationRules: { scheduleExpression: "rate(1 second)" },
    });
    assert.equal((await ended("scheduled")).state, "succeeded");
    const made = await run(["backup", "--to", "snapshot", "--data", data], { cwd: folder });
    assert.equal(made.code, 0, made.err);
    await rotateAll();
    for (const name of names) assert.ok(await logsIn(name));
  });

  test("a restored store touches no target, says so everywhere, and its secrets can be read", async () => {
    await server.stop();
    const { code, out, err } = await run(["restore", "--from", "snapshot", "--data", restored], { cwd: folder });
    assert.equal(code, 0, err);
    assert.match(out, /leaves all targets alone until rekey quarantine release/);
    for (const file of ["root.key", "root-credentials.json"]) copyFileSync(join(data, file), join(restored, file));
    server = await startRekey({ dataFolder: restored, flags: ["--extended-schedules"] });
    const before = connections();
    for (const name of names) assert.equal((await call("secrets/rotate", { secretId: name })).status, 200);
    assert.ok((await call("secrets/get-value", { secretId: names[0] })).body.secretString.includes(names[0]));
    await sleep(3_000);
    assert.equal(connections(), before, "not one connection");
    const { rotations, quarantine } = (await call("rotations/list", { state: "running" })).body;
    assert.equal(rotations.length, count);
    assert.match(quarantine.reason, /a backup was restored/);
    assert.match(await cli().ask("rotation status"), /^Quarantined: a backup was restored .*rekey quarantine release/);
    assert.match(
      await cli().ask("quarantine status"),
      /^Quarantined +yes\nSince +\d{4}-.*\nWhy +a backup was restored into this store\n$/,
    );
    const plan = await cli().ask("quarantine plan");
    assert.match(
      plan,
      /\nuser_0 +rotation +\d{4}.* +goes on at createSecret, after finding out which credential the target takes\n/,
    );
    assert.match(plan, /\nscheduled +schedule +\d{4}.* +rotated, or recorded as missed/);
    assert.match(server.log(), /"level":40.*quarantined: nothing is done at any target before rekey quarantine release/);
    const check = await cli().run("rotation check user_1");
    assert.match(check.err, /InvalidRequestException: This store is quarantined after a restore/);
    assert.equal(connections(), before);
    const doctor = await run(["doctor", "--data", restored], { cwd: folder });
    assert.equal(doctor.code, 0, doctor.out);
    assert.match(doctor.out, /advice +store +quarantined: a backup was restored/);
  });

  test("it stays so through a restart, and without an answer", async () => {
    await server.stop();
    server = await startRekey({ dataFolder: restored, flags: ["--extended-schedules"] });
    const before = connections();
    const { code, err } = await cli().run("quarantine release");
    assert.equal(code, 1);
    assert.match(err, /nothing was changed; --yes ends the quarantine without asking/);
    await sleep(1_500);
    assert.equal(connections(), before);
  });

  test("who may not, cannot end it", async () => {
    await cli().ask("user create reader");
    const { token: other } = (await cli().askJson("token create t --user reader")) as { token: string };
    const reader = commandLine(server.endpoint, other, folder);
    for (const verb of ["status", "plan", "release --yes"]) {
      const { code, err } = await reader.run(`quarantine ${verb}`);
      assert.equal(code, 1);
      assert.match(err, /AccessDeniedException: .* rekey:\w+Quarantine/);
    }
  });

  test("once it is over, values that died are found: set anew by the superuser, else blocked with what would help", async () => {
    for (const name of names) assert.equal(await logsIn(name), false, "changed after the backup");
    assert.match(await cli().ask("quarantine release --yes"), /^the quarantine is over; /);
    for (const [number, name] of names.entries()) {
      const { state, reason, remedy } = await ended(name);
      if (number < withSuperuser) {
        assert.equal(state, "succeeded", `${name}: ${reason}`);
        assert.ok(await logsIn(name));
      } else {
        assert.equal(state, "blocked");
        assert.match(reason ?? "", /none of the secret's passwords is accepted/);
        assert.match(remedy ?? "", /put the one that is in force as a new value, or name a superuser's secret/);
      }
    }
    assert.match(await cli().ask("quarantine status"), /^Quarantined +no\n$/);
    const again = await cli().run("quarantine release --yes");
    assert.match(again.err, /There is no quarantine/);
    const { records } = (await call("audit/search", { action: "rekey:ReleaseQuarantine" })).body;
    assert.deepEqual(records.map(({ outcome }: { outcome: string }) => outcome).sort(), [
      "AccessDeniedException",
      "InvalidRequestException",
      "ok",
    ]);
    await server.stop();
    server = await startRekey({ dataFolder: restored });
    assert.match(await cli().ask("quarantine status"), /^Quarantined +no\n$/);
  });

  test("a store that was put back by copying its file is found out", async () => {
    await server.stop();
    const kept = join(folder, "kept");
    mkdirSync(kept);
    copyFileSync(join(restored, "rekey.db"), join(kept, "rekey.db"));
    server = await startRekey({ dataFolder: restored });
    assert.match(await cli().ask("quarantine status"), /^Quarantined +no\n$/, "a stop and a start is none");
    await call("secrets/create", { name: "later", secretString: "x" });
    await server.stop();
    for (const end of ["", "-wal", "-shm"]) rmSync(join(restored, `rekey.db${end}`), { force: true });
    copyFileSync(join(kept, "rekey.db"), join(restored, "rekey.db"));
    server = await startRekey({ dataFolder: restored });
    const before = connections();
    assert.equal((await call("secrets/rotate", { secretId: "user_0" })).status, 200);
    await sleep(1_500);
    assert.equal(connections(), before);
    assert.match(
      await cli().ask("quarantine status"),
      /older than what was done with it \(epoch \d+ of \d+\): it was put back without rekey restore/,
    );
    await cli().ask("quarantine release --yes");
    assert.equal((await ended("user_0")).state, "succeeded");
    await server.stop();
    server = await startRekey({ dataFolder: restored });
    assert.match(await cli().ask("quarantine status"), /^Quarantined +no\n$/);
  });
});
