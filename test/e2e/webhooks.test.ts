// Webhooks of a real server: told of changes, also when it dies between sending and noting that.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { commandLine } from "../support/cli.ts";
import { startRekey } from "../support/rekey-server.ts";
import { startReceiver } from "../support/webhook-receiver.ts";

test("a change is told; after a kill between send and record it is told again, and never lost", async () => {
  const dataFolder = mkdtempSync(join(tmpdir(), "rekey-webhooks-"));
  await using receiver = await startReceiver();
  const first = await startRekey({ dataFolder });
  const { token } = first.credentials;
  const cli = commandLine(first.endpoint, token, dataFolder);
  await cli.askJson("projects create shop");
  const url = receiver.url;
  const made = await cli.askJson(["webhook", "create", url, "--project", "shop", "--only", "dev", "--secret"], "s3cret\n");
  const { id } = made.webhook as { id: string };
  const change = (endpoint: string, config: string, secrets: object) =>
    fetch(`${endpoint}/rekey/v1/config-secrets/set`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify({ project: "shop", config, secrets }),
    });
  assert.equal((await change(first.endpoint, "prd", { OTHER: "v4lue" })).status, 200);
  assert.equal((await change(first.endpoint, "dev", { COLOUR: "v4lue" })).status, 200);
  const [told] = await receiver.told(1);
  assert.ok(told);
  assert.deepEqual(JSON.parse(told.body).diff, { added: ["COLOUR"], removed: [], updated: [] });
  assert.equal(told.headers["x-doppler-signature"], `sha256=${createHmac("sha256", "s3cret").update(told.body).digest("hex")}`);
  assert.equal(told.body.includes("v4lue"), false);
  const killed = new Promise<void>((done) => {
    receiver.answer = () => void first.stop("SIGKILL").then(() => done());
  });
  assert.equal((await change(first.endpoint, "dev", { COLOUR: "an0ther" })).status, 200);
  await killed;
  receiver.answer = (_received, response) => response.writeHead(204).end();
  await using second = await startRekey({ dataFolder });
  const [, lost, again] = await receiver.told(3);
  assert.equal(again?.body, lost?.body);
  assert.equal(again?.headers["x-rekey-delivery"], lost?.headers["x-rekey-delivery"]);
  const deliveries = await commandLine(second.endpoint, token, dataFolder).ask(`webhook deliveries ${id} --project shop`);
  assert.match(deliveries, /delivered\s+2/);
  await second.stop();
  rmSync(dataFolder, { recursive: true });
});
