import assert from "node:assert/strict";
import { createSecretKey } from "node:crypto";
import { test } from "node:test";
import type { AuditQuery, AuditRecord } from "../../src/core/audit.ts";
import { type AuditLog, openAudit } from "../../src/store/audit.ts";
import { verifyAudit } from "../../src/store/audit-verify.ts";
import { auditRecord, dataFolder, auditKey as key } from "../support/audit.ts";
import { forEachStore } from "../support/stores.ts";

const many = (count: number, from = 0): number[] => Array.from({ length: count }, (_, index) => from + index);

forEachStore((_, open) => {
  test("what is appended and what changes report is in one chain, each once", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    const log = await openAudit({ sql, key, dir });
    await Promise.all(many(150).map((id) => log.append(auditRecord(id))));
    await sql.transaction(async (tx) => {
      await log.inTransaction(tx, auditRecord("change", { action: "secretsmanager:PutSecretValue" }));
      await log.inTransaction(tx, auditRecord("change", { action: "secretsmanager:PutSecretValue" }));
    });
    await assert.rejects(
      sql.transaction(async (tx) => {
        await log.inTransaction(tx, auditRecord("undone"));
        throw new Error("undone");
      }),
    );
    await log.settle();
    const page = await log.search({ limit: 1000 });
    assert.equal(page.records.length, 153); // and the opening record
    assert.deepEqual(
      page.records.filter((record) => record.requestId === "change").map((record) => record.change),
      [2, 1],
    );
    assert.ok(!page.records.some((record) => record.requestId === "undone"));
    await log.close();
    const verdict = await verifyAudit({ sql, key, dir });
    assert.deepEqual(
      { ...verdict, windowSeconds: 0 },
      { ok: true, records: 153, writers: 1, problems: [], more: 0, notes: [], windowSeconds: 0 },
    );
    await assert.rejects(log.append(auditRecord("late")), { code: "InternalServiceError" });
  });

  test("the record of a change joins the trail by itself", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    await using log = await openAudit({ sql, key, dir });
    await sql.transaction((tx) => log.inTransaction(tx, auditRecord("change")));
    while ((await sql.query("select id from audit_outbox")).length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
    const { records } = await log.search({ action: "secretsmanager:GetSecretValue" });
    assert.deepEqual(
      records.map((record) => record.requestId),
      ["change"],
    );
  });

  test("the trail goes on under the next writer, which names where the one before ended", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    for (const run of many(3)) {
      await using log = await openAudit({ sql, key, dir, writer: `w-${run}-x` });
      await log.append(auditRecord(run));
      const [opening] = (await log.search({ action: "rekey:OpenAuditSegment", limit: 1 })).records;
      const { previous } = (opening?.parameters ?? {}) as { previous: { writer: string; sequence: number }[] };
      assert.deepEqual(
        previous.map(({ writer, sequence }) => ({ writer, sequence })),
        run === 0 ? [] : [{ writer: `w-${run - 1}-x`, sequence: 2 }],
      );
    }
    const verdict = await verifyAudit({ sql, key, dir });
    assert.deepEqual([verdict.ok, verdict.records, verdict.writers], [true, 6, 3]);
  });

  test("verify may run beside appending and shipping", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    await using log = await openAudit({ sql, key, dir, maxSegmentBytes: 4096 });
    let running = true;
    const appending = (async () => {
      for (let id = 0; running; id += 8) {
        await Promise.all(many(8, id).map((one) => log.append(auditRecord(one))));
        if (id % 80 === 0) await Promise.all([log.settle(), log.ship(50)]);
      }
    })();
    try {
      for (const _ of many(8)) {
        const verdict = await verifyAudit({ sql, key, dir });
        assert.deepEqual(verdict.problems, []);
      }
    } finally {
      running = false;
      await appending;
    }
  });

  test("a wrong key and a made-up anchor are found", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    await using log = await openAudit({ sql, key, dir });
    await log.append(auditRecord(1));
    await log.close();
    assert.equal((await verifyAudit({ sql, key: createSecretKey(Buffer.alloc(32, 1)), dir })).ok, false);
    await sql.query("update audit_anchors set sequence = 1");
    assert.match((await verifyAudit({ sql, key, dir })).problems[0]?.what ?? "", /anchor/);
  });

  test("search filters, pages newest first, and finds shipped and unshipped records alike", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    await using log = await openAudit({ sql, key, dir, maxSegmentBytes: 8192 });
    const all = many(120).map((id) =>
      auditRecord(id, {
        at: 1_760_000_000_000 + Math.floor(((id * 7919) % 120) / 2),
        principal: `user/${id % 3}`,
        action: `a:${id % 2}`,
        resource: `r/${id % 5}`,
        outcome: id % 10 === 0 ? "AccessDeniedException" : "ok",
      }),
    );
    for (const [index, record] of all.entries()) {
      await log.append(record);
      if (index === 70) await log.settle();
      if (index === 71) assert.ok((await log.ship(40)) >= 0);
    }
    const queries: AuditQuery[] = [
      {},
      { principal: "user/1" },
      { action: "a:0", resource: "r/2" },
      { outcome: "AccessDeniedException" },
      { from: 1_760_000_000_010, to: 1_760_000_000_020 },
      { principal: "nobody" },
    ];
    for (const query of queries) {
      const wanted = all.filter((record) => matches(record, query));
      const found = await pages(log, query);
      const kept = found.filter((record) => record.action !== "rekey:OpenAuditSegment");
      assert.deepEqual(new Set(kept.map((record) => record.requestId)), new Set(wanted.map((record) => record.requestId)));
      assert.equal(kept.length, wanted.length);
      assert.deepEqual(
        found,
        found.toSorted((a, b) => b.at - a.at),
      );
    }
    for (const cursor of ["", "x", Buffer.from('[1,2,"a"]').toString("base64url"), "W10"])
      await assert.rejects(log.search({ cursor }), { code: "InvalidNextTokenException" });
  });
});

async function pages(log: AuditLog, query: AuditQuery): Promise<AuditRecord[]> {
  const found: AuditRecord[] = [];
  let cursor: string | undefined;
  do {
    const page = await log.search({ ...query, cursor, limit: 7 });
    found.push(...page.records);
    cursor = page.cursor;
    assert.ok(page.complete && page.records.length <= 7);
  } while (cursor !== undefined);
  return found;
}

function matches(record: AuditRecord, { principal, action, resource, outcome, from, to }: AuditQuery): boolean {
  const given = Object.entries({ principal, action, resource, outcome }).filter(([, value]) => value !== undefined);
  const same = given.every(([member, value]) => record[member as keyof AuditRecord] === value);
  return same && record.at >= (from ?? 0) && record.at < (to ?? Number.POSITIVE_INFINITY);
}
