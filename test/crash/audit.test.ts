import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { readChainLine } from "../../src/core/audit-chain.ts";
import { openAudit } from "../../src/store/audit.ts";
import { listSegments, readLines } from "../../src/store/audit-file.ts";
import { verifyAudit } from "../../src/store/audit-verify.ts";
import { migrate } from "../../src/store/migrate.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { auditRecord, dataFolder, auditKey as key } from "../support/audit.ts";

const appender = fileURLToPath(new URL("../support/audit-appender.ts", import.meta.url));
const kills = 20;

async function withStore<T>(dir: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = openSqlite(join(dir, "rekey.db"));
  try {
    return await work(sql);
  } finally {
    await sql.close();
  }
}

/** The request ids that the child saw acknowledged before it was killed, `delayMs` after the first one. */
async function appendUntilKilled(dir: string, run: number, delayMs: number): Promise<string[]> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", appender, dir, String(run)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await once(child.stdout, "data");
  await wait(delayMs);
  child.kill("SIGKILL");
  await once(child, "close");
  return text.split("\n").slice(0, -1);
}

/** How often each request id stands in the segments. */
async function idsInSegments(dir: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { path } of (await listSegments(join(dir, "audit"))).segments) {
    for await (const { text, finished } of readLines(path)) {
      const entry = finished ? readChainLine(text) : undefined;
      const id: string = entry ? JSON.parse(entry.record).requestId : "unfinished";
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  return counts;
}

test("what was acknowledged before a SIGKILL is in the trail, once, and the trail is whole", { timeout: 300_000 }, async () => {
  const dir = dataFolder();
  await withStore(dir, migrate);
  const acknowledged: string[] = [];
  for (let run = 0; run < kills; run += 1) {
    acknowledged.push(...(await appendUntilKilled(dir, run, (run * 37) % 120)));
    const verdict = await withStore(dir, (sql) => verifyAudit({ sql, key, dir }));
    assert.deepEqual(verdict.problems, []);
  }
  await withStore(dir, async (sql) => {
    await using log = await openAudit({ sql, key, dir });
    await log.close();
    while ((await log.ship()) > 0);
    const verdict = await verifyAudit({ sql, key, dir });
    assert.deepEqual([verdict.problems, verdict.writers], [[], kills + 1]);
    const [counted] = await sql.query<{ n: number }>("select count(*) as n from audit_records");
    assert.equal(counted?.n, verdict.records);
  });
  const ids = await idsInSegments(dir);
  assert.ok(acknowledged.length > kills);
  assert.deepEqual(
    acknowledged.filter((id) => ids.get(id) !== 1),
    [],
  );
  assert.deepEqual(
    [...ids].filter(([, count]) => count !== 1),
    [],
  );
});

test("an unfinished last line after a crash is noted, and the next writer goes on", async () => {
  const dir = dataFolder();
  await withStore(dir, migrate);
  await appendUntilKilled(dir, 0, 20);
  const last = (await listSegments(join(dir, "audit"))).segments.at(-1);
  assert.ok(last);
  appendFileSync(last.path, '{"sequence":99,"record":{"requ');
  await withStore(dir, async (sql) => {
    const torn = await verifyAudit({ sql, key, dir });
    assert.deepEqual([torn.problems, torn.notes.some((note) => note.what.includes("unfinished line of 30 bytes"))], [[], true]);
    await using log = await openAudit({ sql, key, dir });
    await log.append(auditRecord("next"));
    await log.close();
    assert.deepEqual((await verifyAudit({ sql, key, dir })).problems, []);
  });
});

test("what a crashed writer left cannot be cut once the next one has begun", async () => {
  const dir = dataFolder();
  await withStore(dir, migrate);
  await appendUntilKilled(dir, 0, 20);
  await withStore(dir, async (sql) => {
    await (await openAudit({ sql, key, dir })).close();
    await sql.query("delete from audit_anchors where state = 'ended'");
    const { segments } = await listSegments(join(dir, "audit"));
    const crashed = segments[0]?.writer; // the names begin with the time
    const files = segments.filter((file) => file.writer === crashed);
    const path = files.at(-1)?.path ?? "";
    truncateSync(path, readFileSync(path).lastIndexOf(10, -2) + 1);
    const [problem] = (await verifyAudit({ sql, key, dir })).problems;
    assert.match(problem?.what ?? "", /^cut/);
  });
});
