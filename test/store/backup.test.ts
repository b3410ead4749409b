import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { ConfigError } from "../../src/core/error.ts";
import { openAudit } from "../../src/store/audit.ts";
import { verifyAudit } from "../../src/store/audit-verify.ts";
import { backupEmbedded, backupPostgres } from "../../src/store/backup-file.ts";
import { addFunctionLog, functionLogs } from "../../src/store/functions.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { restoreEmbedded, restorePostgres } from "../../src/store/restore.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { auditKey, auditRecord } from "../support/audit.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-backup-"));
let server: Promise<PostgresServer> | undefined;
after(async () => {
  await (await server)?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

interface Store {
  readonly sql: Sql;
  readonly dir: string;
  backup(to: string): Promise<void>;
}

async function openNew(kind: Sql["dialect"]): Promise<Store> {
  const dir = mkdtempSync(join(folder, "data-"));
  if (kind === "sqlite") return { sql: openSqlite(join(dir, "rekey.db")), dir, backup: (to) => backupEmbedded(dir, to) };
  server ??= startPostgres();
  const sql = openPostgres(await (await server).newDatabase());
  return { sql, dir, backup: (to) => backupPostgres(sql, to) };
}

const value = Buffer.from([0, 1, 255, 128]);

/** A store with more rows than a page, every kind of column, and an audit trail whose writer still runs. */
async function fill({ sql, dir }: Store) {
  await migrate(sql);
  await sql.transaction(async (tx) => {
    await tx.query("insert into meta (key, value) values ('account', '000000000000')");
    for (let n = 0; n < 450; n++)
      await tx.query(
        `insert into secrets (id, region, name, arn, created_at, last_changed_at, generation, row_version)
           values ($1, 'us-east-1', $2, $3, 1760000000123, 1, 0, 1)`,
        [`s${n}`, `nämé ${n}`, `arn:${n}`],
      );
    await tx.query("insert into versions (secret_id, version_id, created_at, sealed) values ('s7', 'v', 1, $1)", [value]);
    await tx.query("update secrets set rotation_policy = '{\"heartbeatSeconds\":60}', heartbeat_due_at = 9 where id = 's7'");
    await tx.query(
      `insert into functions (arn, region, name, kind, settings, policy, timeout_seconds, memory_mib, concurrency, environment_names,
         sealed, wrapped_data_key, key_id, key_version, created_at, updated_at)
       values ('f', 'us-east-1', 'f', 'process', '{}', '{"Version":"2012-10-17"}', 1, 1, 1, '["A"]', $1, $1, 'key', 1, 1, 1)`,
      [value],
    );
    for (const output of ["first", "second"])
      await tx.query("insert into function_logs (function_arn, request_id, at, failed, output) values ('f', 'r', 1, 0, $1)", [
        output,
      ]);
    await tx.query(
      `insert into retirements (secret_id, version_id, what, strategy, function_arn, state, due_at, run_at, attempt, fence, created_at)
       values ('s7', 'v', 'credential', 'issuer', 'f', 'waiting', 1, 1, 0, 0, 1)`,
    );
    await tx.query(
      `insert into target_jobs (id, secret_id, kind, input, principal, state, run_at, fence, created_at, expires_at)
       values ('j', 's7', 'check', '{}', '{}', 'queued', 1, 0, 1, 2)`,
    );
    await tx.query(
      `insert into rotations (id, secret_id, version_id, generation, origin, test_only, function_arn, principal, step, state, attempt,
         step_attempt, run_at, window_ends_at, fence, started_at)
       values ('r', 's7', 'v', 0, 'request', 0, 'f', 'p', 'createSecret', 'running', 0, 0, 1, 2, 0, 1)`,
    );
    for (const type of ["a", "b"])
      await tx.query("insert into events (at, type, resource, detail) values (1, $1, 'r', '{}')", [type]);
  });
  const audit = await openAudit({ sql, key: auditKey, dir });
  for (let n = 0; n < 30; n++) await audit.append(auditRecord(n));
  await audit.settle();
  return audit;
}

async function check({ sql, dir }: { sql: Sql; dir: string }): Promise<void> {
  const rows = await sql.query("select name, created_at from secrets where id = 's449'");
  assert.deepEqual(rows, [{ name: "nämé 449", created_at: 1760000000123 }]);
  assert.deepEqual(await sql.query("select count(*) as count from secrets"), [{ count: 450 }]);
  const [version] = await sql.query<{ sealed: Uint8Array }>("select sealed from versions");
  assert.ok(version && value.equals(version.sealed));
  const [policy] = await sql.query("select rotation_policy, heartbeat_due_at from secrets where id = 's7'");
  assert.deepEqual(policy, { rotation_policy: '{"heartbeatSeconds":60}', heartbeat_due_at: 9 });
  const [restored] = await sql.query<{ sealed: Uint8Array; policy: string }>("select sealed, policy from functions");
  assert.ok(restored && value.equals(restored.sealed) && restored.policy === '{"Version":"2012-10-17"}');
  await addFunctionLog(sql, "f", { requestId: "r", at: 2, failed: false, output: "third" });
  const outputs = (await functionLogs(sql, "f", 10)).map(({ output }) => output);
  assert.deepEqual(outputs, ["third", "second", "first"]);
  for (const [table, found] of Object.entries({ retirements: "waiting", target_jobs: "queued", rotations: "running" }))
    assert.deepEqual(await sql.query(`select state from ${table}`), [{ state: found }], table);
  assert.deepEqual(await sql.query("select value from meta where key = 'restored_at'"), [{ value: "77" }]);
  const [event] = await sql.transaction((tx) =>
    tx.query<{ id: number }>("insert into events (at, type, resource, detail) values (1, 'c', 'r', '{}') returning id"),
  );
  assert.equal(event?.id, 3);
  await migrate(sql);
  const before = await verifyAudit({ sql, key: auditKey, dir });
  assert.deepEqual(before.problems, []);
  assert.equal(before.records, 31);
  await using audit = await openAudit({ sql, key: auditKey, dir });
  await audit.append(auditRecord("after"));
  await audit.settle();
  const verdict = await verifyAudit({ sql, key: auditKey, dir });
  assert.deepEqual(verdict.problems, []);
  assert.equal(verdict.records, 33);
}

for (const from of ["sqlite", "postgres"] as const) {
  for (const to of ["sqlite", "postgres"] as const) {
    const skip = from === to && from === "sqlite" ? false : postgresSkip;
    test(`a backup of ${from} in use restores into ${to}, audit trail included`, { skip }, async () => {
      const source = await openNew(from);
      const path = join(folder, `${from}-to-${to}.backup`);
      const audit = await fill(source);
      await source.backup(path);
      await audit.close();
      await source.sql.close();
      assert.equal(statSync(path).mode & 0o777, 0o600);
      if (to === "sqlite") {
        const dir = join(folder, `restored-${from}`);
        mkdirSync(dir);
        restoreEmbedded(path, dir, 77);
        assert.equal(statSync(join(dir, "rekey.db")).mode & 0o777, 0o600);
        const sql = openSqlite(join(dir, "rekey.db"));
        await check({ sql, dir });
        await sql.close();
        assert.throws(() => restoreEmbedded(path, dir, 78), /holds a store already/);
      } else {
        const { sql, dir } = await openNew("postgres");
        await restorePostgres(path, sql, { nowMs: 77, scratch: mkdtempSync(join(folder, "scratch-")) });
        await check({ sql, dir });
        await assert.rejects(restorePostgres(path, sql, { nowMs: 78, scratch: folder }), /holds a store already/);
        await sql.close();
      }
    });
  }
}

describe("refusals", () => {
  test("a backup replaces nothing, and leaves nothing behind when it fails", async () => {
    const store = await openNew("sqlite");
    await migrate(store.sql);
    const path = join(store.dir, "there");
    writeFileSync(path, "mine");
    await assert.rejects(store.backup(path), /replaces nothing/);
    assert.equal(readFileSync(path, "utf8"), "mine");
    await assert.rejects(store.backup(join(store.dir, "nowhere", "b")), /does not exist/);
    await store.sql.close();
  });

  test("what is no backup is said to be none", () => {
    const dir = mkdtempSync(join(folder, "other-"));
    const path = join(dir, "file");
    assert.throws(() => restoreEmbedded(path, dir, 1), /there is no backup/);
    writeFileSync(path, "x".repeat(5000));
    assert.throws(() => restoreEmbedded(path, dir, 1), /no backup of Rekey/);
    assert.equal(dirname(path), dir);
  });

  test("any changed, missing or added byte of a backup is noticed, and nothing is restored", async () => {
    const source = await openNew("sqlite");
    await migrate(source.sql);
    await source.sql.query("insert into meta (key, value) values ('k', 'v')");
    const path = join(folder, "to-be-damaged.backup");
    await source.backup(path);
    await source.sql.close();
    const bytes = readFileSync(path);
    const [dir, damaged] = [mkdtempSync(join(folder, "damaged-")), join(folder, "damaged.backup")];
    const refused = (content: Buffer) => {
      writeFileSync(damaged, content);
      assert.throws(() => restoreEmbedded(damaged, dir, 1), ConfigError);
      assert.deepEqual(
        readdirSync(dir).filter((name) => name !== "rekey.lock"),
        [],
      );
    };
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 }), async (at, bits) => {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ bits;
        refused(changed);
      }),
    );
    for (const cut of [1, 100, 5000, bytes.length]) refused(bytes.subarray(0, bytes.length - cut));
    refused(Buffer.concat([bytes, Buffer.of(10)]));
    restoreEmbedded(path, dir, 1);
  });

  test("a backup that is cut off leaves nothing under its name, and a store that cannot be read gives none", async () => {
    const source = await openNew("sqlite");
    await migrate(source.sql);
    await source.sql.close();
    const [database, to] = [join(source.dir, "rekey.db"), join(source.dir, "b")];
    const bytes = readFileSync(database);
    writeFileSync(database, Buffer.concat([bytes.subarray(0, 4096), Buffer.alloc(bytes.length - 4096, 1)]));
    await assert.rejects(source.backup(to));
    assert.deepEqual(
      readdirSync(source.dir).filter((name) => name.startsWith("b")),
      [],
    );
  });

  test("a folder that a server writes in is left alone", async () => {
    const source = await openNew("sqlite");
    await migrate(source.sql);
    const path = join(folder, "for-refusal.backup");
    await source.backup(path);
    await source.sql.close();
    const busy = await openNew("sqlite");
    assert.throws(() => restoreEmbedded(path, busy.dir, 1), /holds a store already/);
    await busy.sql.close();
  });
});
