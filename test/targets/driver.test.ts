import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

const hide = `
  import { registerHooks } from "node:module";
  registerHooks({
    resolve: (name, context, next) =>
      next(["mongodb", "tedious", "oracledb"].includes(name) ? "no-such-package-at-all" : name, context),
  });`;

for (const [kind, driver] of [
  ["mongodb", "mongodb"],
  ["sqlserver", "tedious"],
  ["oracle", "oracledb"],
] as const) {
  test(`${kind}: a driver that is not installed is named, with the command that installs it`, async () => {
    const program = `
      const { findRotator } = await import(${JSON.stringify(new URL("../../src/targets/index.ts", import.meta.url).href)});
      const rotator = await findRotator(${JSON.stringify(kind)});
      const credential = { host: "127.0.0.1", username: "app", password: "canary-value", dbname: "app", ssl: false };
      const tools = { rotationId: "r", deadlineAt: Date.now() + 120_000, generatePassword: () => "" };
      await rotator.test(credential, tools).catch(({ outcome, message }) => console.log(JSON.stringify({ outcome, message })));`;
    const hook = `data:text/javascript,${encodeURIComponent(hide)}`;
    const { stdout } = await promisify(execFile)(process.execPath, ["--import", hook, "--input-type=module", "--eval", program]);
    const { outcome, message } = JSON.parse(stdout);
    assert.equal(outcome, "invalid");
    assert.ok(message.includes(`npm install ${driver}`), message);
    assert.ok(!message.includes("canary-value"));
  });
}
