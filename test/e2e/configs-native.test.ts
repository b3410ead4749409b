// Configs by the native API: the server as it runs.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references of configs look like that
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

let server: RekeyServer;
before(async () => {
  server = await startRekey();
});
after(() => server[Symbol.asyncDispose]());

async function post(operation: string, body: object) {
  const response = await fetch(`${server.endpoint}/rekey/v1/${operation}`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.credentials.token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

test("a config is written, read, downloaded and rolled back", async () => {
  assert.equal((await post("projects/create", { name: "app" })).status, 200);
  assert.equal((await post("configs/create", { project: "app", environment: "dev", name: "dev_ci" })).status, 200);
  const dev = { project: "app", config: "dev" };
  const set = await post("config-secrets/set", { ...dev, secrets: { HOST: "db", PLAIN_name: "x" } });
  assert.deepEqual([set.status, set.body.code], [400, "ValidationException"]);
  assert.match(String(set.body.detail), /"PLAIN_name" may only contain uppercase letters, numbers, and underscores/);
  await post("config-secrets/set", { ...dev, secrets: { HOST: "db", URL: "pg://${HOST}", OLD: "1" } });
  await post("config-secrets/set", { ...dev, secrets: { OLD: null } });
  const { body } = await post("config-secrets/list", { project: "app", config: "dev_ci", includeManagedSecrets: false });
  const shown = (body.secrets as { name: string; raw: string; computed: string }[]).map(({ name, raw, computed }) => [
    name,
    raw,
    computed,
  ]);
  assert.deepEqual(shown, [
    ["HOST", "db", "db"],
    ["URL", "pg://${HOST}", "pg://db"],
  ]);
  const first = await post("config-secrets/download", { ...dev, format: "env", names: ["URL"] });
  assert.equal(first.body.body, 'URL="pg://db"\n');
  const again = await post("config-secrets/download", { ...dev, format: "env", names: ["URL"], ifNoneMatch: first.body.eTag });
  assert.deepEqual(again.body, { notModified: true, eTag: first.body.eTag });
  const logs = await post("configs/logs", dev);
  const [removed] = logs.body.logs as { id: string; text: string }[];
  assert.equal(removed?.text, "Changed config dev: removed OLD");
  const log = await post("configs/log", { ...dev, logId: removed?.id });
  assert.deepEqual((log.body.log as { diff: object }).diff, [{ name: "OLD", removed: "1" }]);
  assert.equal((await post("configs/rollback", { ...dev, logId: removed?.id })).status, 200);
  assert.equal(((await post("config-secrets/get", { ...dev, name: "OLD" })).body.secret as { raw: string }).raw, "1");
  const absent = await post("config-secrets/list", { project: "app", config: "nope" });
  assert.deepEqual([absent.status, absent.body.detail], [404, "Could not find config nope of project app."]);
  const unnamed = await post("config-secrets/list", { project: "app" });
  assert.deepEqual([unnamed.status, unnamed.body.code], [400, "ValidationException"]);
});

test("a config holds 500 KiB of names and values, and not a byte more", async () => {
  assert.equal((await post("projects/create", { name: "large" })).status, 200);
  const dev = { project: "large", config: "dev" };
  const value = "x".repeat(50 * 1024);
  const names = Array.from({ length: 10 }, (_, index) => `N${index}`);
  const bytes = names.join("").length;
  const full = { ...Object.fromEntries(names.map((name) => [name, value])), N9: value.slice(bytes) };
  for (const more of [{ N9: value.slice(bytes - 1) }, { X: "" }]) {
    const { status, body } = await post("config-secrets/set", { ...dev, secrets: { ...full, ...more } });
    assert.deepEqual([status, body.code], [409, "LimitExceededException"]);
    assert.match(String(body.detail), /can't be longer than 500 KiB together/);
  }
  assert.equal((await post("config-secrets/set", { ...dev, secrets: full })).status, 200);
  const later = await post("config-secrets/set", { ...dev, secrets: { N9: value.slice(bytes - 1) } });
  assert.deepEqual([later.status, later.body.code], [409, "LimitExceededException"]);
  const { body } = await post("config-secrets/download", { ...dev, format: "json", names });
  assert.deepEqual(JSON.parse(String(body.body)), full);
});
