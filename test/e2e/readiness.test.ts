import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { rawCall } from "../support/aws.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { logLines, runRekey } from "../support/processes.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

interface Readiness {
  readonly status: number;
  readonly body: { status: string; store: string; key: string; reason?: string };
}

async function readiness(server: RekeyServer): Promise<Readiness> {
  const response = await fetch(`${server.endpoint}/readyz`);
  return { status: response.status, body: (await response.json()) as Readiness["body"] };
}

/** Asked until it is so: an answer is kept for a short time, and a pool has to notice. */
async function becomes(server: RekeyServer, status: number): Promise<Readiness["body"]> {
  for (;;) {
    const now = await readiness(server);
    if (now.status === status) return now.body;
    await sleep(50);
  }
}

test("a server is ready while its PostgreSQL is there, and alive without it", { skip: postgresSkip }, async () => {
  await using postgres = await startPostgres();
  const folder = mkdtempSync(join(tmpdir(), "rekey-ready-"));
  const store = ["--database-url", await postgres.newDatabase(), "--root-key", `file:${join(folder, "root.key")}`];
  const made = await runRekey(["init", ...store, "--json"]);
  assert.equal(made.code, 0, made.err);
  writeFileSync(join(folder, "root-credentials.json"), made.out);
  {
    await using server = await startRekey({ dataFolder: folder, flags: store });
    const ready = { status: 200, body: { status: "ready", store: "ok", key: "ok" } };
    assert.deepEqual(await readiness(server), ready);
    assert.equal((await rawCall(server, "ListSecrets", {})).status, 200);
    await postgres.stop("SIGQUIT");
    const body = await becomes(server, 503);
    assert.deepEqual([body.status, body.store, body.key], ["not ready", "failed", "ok"]);
    assert.match(body.reason ?? "", /^The store (cannot be read; the server's log says why|did not answer within 2 seconds)\.$/);
    assert.equal((await fetch(`${server.endpoint}/healthz`)).status, 200);
    const refused = await rawCall(server, "ListSecrets", {});
    assert.deepEqual([refused.status, refused.json?.__type], [500, "InternalServiceError"]);
    assert.match(refused.headers.get("x-amzn-requestid") ?? "", /^[0-9a-f-]{36}$/);
    assert.equal((await fetch(`${server.endpoint}/metrics`)).status, 200);
    await postgres.restart();
    assert.deepEqual(await becomes(server, 200), ready.body);
    assert.equal((await rawCall(server, "ListSecrets", {})).status, 200);
    assert.ok(logLines(server).some(({ msg, part }) => msg === "not ready" && part === "store"));
  }
  rmSync(folder, { recursive: true });
});
