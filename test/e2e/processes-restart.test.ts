// A process of `rekey server --processes N` whose start fails after the one before it was killed.
import assert from "node:assert/strict";
import { renameSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { CreateSecretCommand } from "@aws-sdk/client-secrets-manager";
import { newName, secretsClient } from "../support/aws.ts";
import { until } from "../support/config-cli.ts";
import { awaitLog, endProcess, workersOf } from "../support/processes.ts";
import { startRekey } from "../support/rekey-server.ts";

test("one that cannot be started again and ends late takes nothing from the others, and SIGTERM still ends all", async () => {
  // Its end is told when the next one has begun.
  const late = `process.once("disconnect", () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_000))`;
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(late)}` };
  await using server = await startRekey({ flags: ["--processes", "2"], env });
  const [key, away] = [join(server.dataFolder, "root.key"), join(server.dataFolder, "away")];
  renameSync(key, away);
  const [reader = 0] = workersOf(server, "reader");
  endProcess(reader, "SIGKILL");
  await awaitLog(server, ({ msg }) => msg === "a process could not be started again");
  renameSync(away, key);
  await until("the reader serves", () => workersOf(server, "reader").some((pid) => pid !== reader));
  // Connections are dealt out in turn.
  for (const client of [secretsClient(server), secretsClient(server)])
    await client.send(new CreateSecretCommand({ Name: newName(), SecretString: "one" }));
  assert.equal(await server.stop(), 0);
});
