// The first start of a server on an empty folder, killed at every step of it and at odd moments: the next start completes it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadConfig } from "../../src/config.ts";
import { startServer } from "../../src/server.ts";
import { seeded } from "../support/random.ts";
import { sampleSeed, share } from "../support/sample.ts";

/** Of the steps, each run tries so many apart, another part of them each time. */
const stride = share === 1 ? 1 : 3;
const firstStart = fileURLToPath(new URL("first-start-process.ts", import.meta.url));

/** A first start that is killed at its `step`-th change of a file or of the store; false when it had fewer. */
async function startAndKill(data: string, step: number): Promise<boolean> {
  const child = spawn(process.execPath, [firstStart, data, String(step)], { stdio: ["ignore", "ignore", "pipe"] });
  let err = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  await once(child, "close");
  assert.ok(child.signalCode === "SIGKILL" || child.exitCode === 0, `${step}: ${err}`);
  return child.signalCode === "SIGKILL";
}

/** A start that nothing cuts off, in this process: only the starts before it were killed. */
async function start(data: string) {
  const server = await startServer(loadConfig("server", {}, { data, listen: "127.0.0.1:0", logLevel: "fatal" }));
  return { endpoint: server.endpoint, [Symbol.asyncDispose]: () => server.close() };
}

/** What every first start must end in, however often it was cut off before. */
async function completed(data: string, about: string): Promise<void> {
  {
    await using server = await start(data);
    const { token } = JSON.parse(readFileSync(join(data, "root-credentials.json"), "utf8"));
    const post = async (operation: string) => {
      const headers = { authorization: `Bearer ${token}` };
      const response = await fetch(`${server.endpoint}/rekey/v1/${operation}`, { method: "POST", headers });
      assert.equal(response.status, 200, `${about}: ${operation}`);
      return (await response.json()) as Record<string, unknown[]>;
    };
    assert.deepEqual((await post("secrets/list")).secretList, [], about);
    assert.equal(
      (await post("access-keys/list")).accessKeys?.length,
      1,
      `${about}: credentials of an attempt that came to nothing`,
    );
    assert.equal((await post("tokens/list")).tokens?.length, 1, about);
  }
  const wanted = { "": 0o700, "rekey.db": 0o600, "root.key": 0o600, "root-credentials.json": 0o600 };
  for (const [name, mode] of Object.entries(wanted))
    assert.equal(statSync(join(data, name)).mode & 0o777, mode, `${about}: ${name}`);
  const key = readFileSync(join(data, "root.key"), "utf8");
  for (const name of readdirSync(data))
    if (name !== "root.key" && statSync(join(data, name)).isFile())
      assert.notEqual(readFileSync(join(data, name), "utf8"), key, `${about}: ${name} is a copy of the root key`);
  const credentials = JSON.parse(readFileSync(join(data, "root-credentials.json"), "utf8"));
  {
    await using _again = await start(data);
  }
  assert.deepEqual(JSON.parse(readFileSync(join(data, "root-credentials.json"), "utf8")), credentials, `${about}: written once`);
}

test("killed at each step of its first start", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-first-"));
  try {
    let step = Math.ceil(seeded(`${sampleSeed} first start`)() * stride);
    for (let kills = 1; ; kills += 1, step += stride) {
      const data = join(folder, String(step));
      if (!(await startAndKill(data, step))) break;
      // Cut off a second time, a little later.
      if (kills % 3 === 0) await startAndKill(data, 2);
      await completed(data, `step ${step}`);
      rmSync(data, { recursive: true });
    }
    context.diagnostic(`fewer than ${step} steps`);
    assert.ok(step > 8, `not even ${step} steps were seen`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("killed at odd moments, again and again", async () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-first-"));
  try {
    for (const [round, delaysMs] of [
      [60, 180, 240],
      [300, 120],
      [420, 90],
    ].entries()) {
      const data = join(folder, String(round));
      for (const delayMs of delaysMs) {
        const args = [join(import.meta.dirname, "../../src/cli.ts"), "server", "--data", data, "--listen", "127.0.0.1:0"];
        const child = spawn(process.execPath, args, { stdio: "ignore" });
        const timer = setTimeout(() => child.kill("SIGKILL"), delayMs);
        await once(child, "exit");
        clearTimeout(timer);
        assert.equal(child.signalCode, "SIGKILL");
      }
      await completed(data, `round ${round}`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  assert.ok(!existsSync(folder));
});
