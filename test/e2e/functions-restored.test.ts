// A function's sealed variables and policies across all that happens to keys, and across a restore.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { nativeOk } from "../support/aws.ts";
import { run } from "../support/cli.ts";
import { functionTools } from "../support/function-world.ts";
import { startRekey } from "../support/rekey-server.ts";

const home = mkdtempSync(join(tmpdir(), "rekey-function-keys-"));
after(() => rmSync(home, { recursive: true, force: true }));
const files = mkdtempSync(join(home, "functions-"));
const flags = ["--functions-dir", files, "--functions-users", "same"];
const handler = `
import { createHash } from "node:crypto";
export const handler = async () => createHash("sha256").update(process.env.PEPPER ?? "").digest("hex");`;

test("a function's variables open after its key, and the root key, were rotated, and in a restored store", async () => {
  const [data, restored] = [join(home, "data"), join(home, "restored")];
  const rootKey = `file:${join(home, "new.key")}`;
  const pepper = "what-only-the-function-knows";
  const wanted = JSON.stringify(createHash("sha256").update(pepper).digest("hex"));
  const ok = async (args: string[]) => {
    const { code, err } = await run(args, { cwd: home });
    assert.equal(code, 0, err);
  };
  let name = "";
  let policy: unknown;
  {
    await using server = await startRekey({ dataFolder: data, flags });
    const world = functionTools(server, files);
    world.write("pepper.mjs", handler);
    ({ name } = await world.create({ file: "pepper.mjs", environment: { PEPPER: pepper } }));
    ({ policy } = await nativeOk(server, "functions/get", { functionName: name }));
    assert.equal((await world.invoke(name, {})).payload, wanted);
    const { keys } = await nativeOk(server, "keys/list", {});
    for (const { keyId } of keys as { keyId: string }[]) await nativeOk(server, "keys/rotate", { keyId });
    assert.equal((await world.invoke(name, {})).payload, wanted);
  }
  await ok(["root-key", "rotate", "--data", data, "--new-root-key", rootKey]);
  await ok(["backup", "--to", "snapshot", "--data", data, "--root-key", rootKey]);
  await ok(["restore", "--from", "snapshot", "--data", restored, "--root-key", rootKey]);
  copyFileSync(join(data, "root-credentials.json"), join(restored, "root-credentials.json"));
  await using server = await startRekey({ dataFolder: restored, flags: [...flags, "--root-key", rootKey] });
  const world = functionTools(server, files);
  assert.deepEqual((await nativeOk(server, "functions/get", { functionName: name })).policy, policy);
  assert.notEqual(policy, undefined);
  await nativeOk(server, "quarantine/release", {});
  assert.equal((await world.invoke(name, {})).payload, wanted);
});
