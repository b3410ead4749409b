import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { ErrorCode } from "../../src/core/error.ts";
import { openAudit } from "../../src/store/audit.ts";
import { type AuditFile, type AuditFolder, openAuditFolder } from "../../src/store/audit-file.ts";
import { verifyAudit } from "../../src/store/audit-verify.ts";
import { migrate } from "../../src/store/migrate.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { auditRecord, dataFolder, auditKey as key } from "../support/audit.ts";

const refused: { code: ErrorCode } = { code: "InternalServiceError" };

interface Disk extends AuditFolder {
  writes: number;
  full: boolean;
}

/** The real folder; counts writes, and while `full`, half of a write lands and /dev/full answers for the rest. */
async function diskOf(dir: string): Promise<Disk> {
  const folder = await openAuditFolder(join(dir, "audit"));
  const disk: Disk = {
    writes: 0,
    full: false,
    async create(name) {
      const file = await folder.create(name);
      const wrapped: AuditFile = {
        ...file,
        async write(bytes, position) {
          disk.writes += 1;
          if (!disk.full) return file.write(bytes, position);
          await file.write(bytes.subarray(0, bytes.length / 2), position);
          await using full = await open("/dev/full", "w");
          await full.write(bytes);
        },
      };
      return wrapped;
    },
  };
  return disk;
}

async function newStore(): Promise<{ dir: string; sql: Sql }> {
  const dir = dataFolder();
  const sql = openSqlite(join(dir, "rekey.db"));
  await migrate(sql);
  return { dir, sql };
}

test("concurrent records are made durable together", async () => {
  const { dir, sql } = await newStore();
  const disk = await diskOf(dir);
  await using log = await openAudit({ sql, key, dir, folder: disk });
  const before = disk.writes;
  const order: string[] = [];
  await Promise.all(
    Array.from({ length: 64 }, async (_, id) => {
      await log.append(auditRecord(id));
      order.push(`answer ${id}`);
      if (id === 0) setImmediate(() => order.push("next turn"));
    }),
  );
  assert.equal(disk.writes - before, 1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(order.indexOf("next turn"), 64, "all answers of a batch leave in one turn");
  await Promise.all(
    Array.from({ length: 32 }, async (_, appender) => {
      for (let count = 0; count < 20; count += 1) await log.append(auditRecord(`${appender}-${count}`));
    }),
  );
  assert.ok(disk.writes - before < 100, `${disk.writes - before} writes for 704 records`);
  await log.close();
  await sql.close();
});

test("while the disk is full every call fails; then the trail goes on whole", {
  skip: process.platform !== "linux" && "no /dev/full",
}, async () => {
  const { dir, sql } = await newStore();
  const disk = await diskOf(dir);
  await using log = await openAudit({ sql, key, dir, folder: disk, maxSegmentBytes: 3000 });
  for (let round = 0; round < 6; round += 1) {
    await log.append(auditRecord(`kept ${round}`));
    disk.full = true;
    const answers = await Promise.allSettled(Array.from({ length: 3 }, (_, id) => log.append(auditRecord(`lost ${id}`))));
    assert.ok(answers.every((answer) => answer.status === "rejected" && answer.reason.code === refused.code));
    await assert.rejects(log.append(auditRecord("lost")), refused);
    await sql.transaction((tx) => log.inTransaction(tx, auditRecord(`changed ${round}`)));
    await assert.rejects(log.settle());
    disk.full = false;
    await log.settle();
  }
  await log.close();
  const verdict = await verifyAudit({ sql, key, dir });
  assert.deepEqual([verdict.problems, verdict.notes], [[], []]);
  const ids = (await log.search({ limit: 100, action: "secretsmanager:GetSecretValue" })).records.map(
    (record) => record.requestId,
  );
  const expected = Array.from({ length: 6 }, (_, round) => [`kept ${round}`, `changed ${round}`]).flat();
  assert.deepEqual(ids.toSorted(), expected.toSorted());
  await sql.close();
});

test("a record that was moved but not deleted is not moved again", async () => {
  const { dir, sql } = await newStore();
  let broken = true;
  const failing: Sql = {
    ...sql,
    transaction: (work) => (broken ? Promise.reject(new Error("the store is away")) : sql.transaction(work)),
  };
  const first = await openAudit({ sql, key, dir, writer: "a-1-a" });
  for (let id = 0; id < 5; id += 1) await sql.transaction((tx) => first.inTransaction(tx, auditRecord("same request")));
  await first.close();
  const waiting = await openAudit({ sql, key, dir, writer: "b-2-b", owner: false }); // which moves nothing
  for (let id = 0; id < 5; id += 1) await sql.transaction((tx) => waiting.inTransaction(tx, auditRecord("other request")));
  broken = false;
  const crashing = await openAudit({ sql: failing, key, dir, writer: "c-3-c" });
  broken = true;
  await assert.rejects(crashing.settle()); // appended; the delete failed, and so did the anchor
  await assert.rejects(crashing.settle());
  await using next = await openAudit({ sql, key, dir, writer: "d-4-d" }); // as after a crash of c
  await next.settle();
  const { records } = await next.search({ action: "secretsmanager:GetSecretValue" });
  assert.deepEqual(records.map((record) => `${record.requestId} ${record.change}`).toSorted(), [
    ...[1, 2, 3, 4, 5].map((change) => `other request ${change}`),
    ...[1, 2, 3, 4, 5].map((change) => `same request ${change}`),
  ]);
  assert.deepEqual(await sql.query("select id from audit_outbox"), []);
  await next.close();
  assert.deepEqual((await verifyAudit({ sql, key, dir })).problems, []);
  await sql.close();
});

test("segments are for their owner alone, and a folder that cannot be made stops the start", async () => {
  const { dir, sql } = await newStore();
  await using log = await openAudit({ sql, key, dir });
  await log.append(auditRecord(1));
  assert.equal(statSync(join(dir, "audit")).mode & 0o777, 0o700);
  for (const name of readdirSync(join(dir, "audit"))) assert.equal(statSync(join(dir, "audit", name)).mode & 0o777, 0o600);
  await log.close();
  await assert.rejects(openAudit({ sql, key, dir: join(dir, "rekey.db") }), /ENOTDIR|EEXIST/);
  await sql.close();
});
