import assert from "node:assert/strict";
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { openAudit } from "../../src/store/audit.ts";
import { verifyAudit } from "../../src/store/audit-verify.ts";
import { migrate } from "../../src/store/migrate.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { auditRecord, dataFolder, auditKey as key } from "../support/audit.ts";
import { forEachStore } from "../support/stores.ts";

/** Two writers, several segments, all closed and shipped. */
async function finishedTrail(sql: Sql, dir: string): Promise<void> {
  for (const writer of ["a-1-a", "b-2-b"]) {
    await using log = await openAudit({ sql, key, dir, writer, maxSegmentBytes: 2000 });
    for (let id = 0; id < 16; id += 1) await log.append(auditRecord(`${writer} ${id}`));
    await log.settle();
    await log.ship();
  }
}

describe("segments", () => {
  const dir = dataFolder();
  const folder = join(dir, "audit");
  let sql: Sql;
  let files: string[] = [];
  const original = new Map<string, Buffer>();
  before(async () => {
    sql = openSqlite(join(dir, "rekey.db"));
    await migrate(sql);
    await finishedTrail(sql, dir);
    files = readdirSync(folder).sort();
    for (const file of files) original.set(file, readFileSync(join(folder, file)));
    assert.ok(files.length >= 6);
  });
  after(() => sql.close());

  const verify = async () => (await verifyAudit({ sql, key, dir })).problems;
  const contentOf = (file: string) => original.get(file) ?? Buffer.alloc(0);
  const linesOf = (file: string) => contentOf(file).toString().split("\n").slice(0, -1);
  const pick = <T>(from: readonly T[], by: number): T => from[by % from.length] as T;

  async function found(edit: () => void): Promise<void> {
    try {
      edit();
      assert.notDeepEqual(await verify(), []);
    } finally {
      for (const name of readdirSync(folder)) if (!original.has(name)) rmSync(join(folder, name));
      for (const [name, content] of original) writeFileSync(join(folder, name), content);
    }
  }

  const put = (file: string, content: string | Buffer) => writeFileSync(join(folder, file), content);
  const numbers = fc.array(fc.nat(), { minLength: 3, maxLength: 3 });
  const edits: Record<string, (by: readonly number[]) => void> = {
    "a changed byte": ([file = 0, at = 0, bit = 0]) => {
      const bytes = Buffer.from(contentOf(pick(files, file)));
      const index = at % bytes.length;
      bytes[index] = (bytes[index] ?? 0) ^ (1 << (bit % 8));
      put(pick(files, file), bytes);
    },
    "a removed line": ([file = 0, line = 0]) => {
      const lines = linesOf(pick(files, file));
      put(pick(files, file), `${lines.toSpliced(line % lines.length, 1).join("\n")}\n`);
    },
    "a repeated line": ([file = 0, line = 0, to = 0]) => {
      const lines = linesOf(pick(files, file));
      put(pick(files, file), `${lines.toSpliced(to % (lines.length + 1), 0, pick(lines, line)).join("\n")}\n`);
    },
    "two swapped lines": ([file = 0, line = 0]) => {
      const lines = linesOf(pick(files, file));
      const at = line % (lines.length - 1);
      put(pick(files, file), `${lines.toSpliced(at, 2, lines[at + 1] ?? "", lines[at] ?? "").join("\n")}\n`);
    },
    "a cut file": ([file = 0, at = 0]) => {
      const bytes = contentOf(pick(files, file));
      put(pick(files, file), bytes.subarray(0, at % bytes.length));
    },
    "a cut at a line's end": ([file = 0, line = 0]) => {
      const lines = linesOf(pick(files, file));
      put(
        pick(files, file),
        lines
          .slice(0, line % lines.length)
          .map((text) => `${text}\n`)
          .join(""),
      );
    },
    "a foreign line": ([file = 0, line = 0, other = 0]) => {
      const lines = linesOf(pick(files, file));
      const strange = pick(["{}", "", "x", '{"sequence":1,"record":{},"mac":"x"}'], other);
      put(pick(files, file), `${lines.toSpliced(line % (lines.length + 1), 0, strange).join("\n")}\n`);
    },
    "another writer's line of the same number": ([line = 0]) => {
      const [mine, other] = [files[0] ?? "", files.find((name) => name.startsWith("b-")) ?? ""];
      const at = 1 + (line % (Math.min(linesOf(mine).length, linesOf(other).length) - 1));
      put(
        mine,
        `${linesOf(mine)
          .with(at, linesOf(other)[at] ?? "")
          .join("\n")}\n`,
      );
    },
    "more bytes at the end": ([file = 0, byte = 0]) =>
      put(pick(files, file), Buffer.concat([contentOf(pick(files, file)), Buffer.of(byte % 256)])),
    "a missing file": ([file = 0]) => rmSync(join(folder, pick(files, file))),
    "a missing writer": ([file = 0]) => {
      for (const name of files) if (name[0] === pick(files, file)[0]) rmSync(join(folder, name));
    },
    "two swapped files": ([file = 0, other = 0]) => {
      const [from, to] = [pick(files, file), pick(files, file + 1 + (other % (files.length - 1)))];
      put(from, contentOf(to));
      put(to, contentOf(from));
    },
    "a renamed file": ([file = 0]) => renameSync(join(folder, pick(files, file)), join(folder, `z-9-z-${file % 3}.log`)),
    "a foreign file": () => put("notes.txt", "x"),
  };

  test("nothing is wrong with the trail itself", async () => assert.deepEqual(await verify(), []));
  for (const [name, edit] of Object.entries(edits))
    test(`${name} is found`, () =>
      fc.assert(
        fc.asyncProperty(numbers, (by) => found(() => edit(by))),
        { numRuns: 15 },
      ));

  test("a writer that vanished from files and database is missed by the one after it", async () => {
    for (const name of files) if (name.startsWith("a-")) rmSync(join(folder, name));
    await sql.query("delete from audit_anchors where writer = 'a-1-a'");
    await sql.query("delete from audit_records where writer = 'a-1-a'");
    assert.deepEqual(
      (await verify()).map(({ writer, what }) => [writer, what.slice(0, 4)]),
      [["a-1-a", "cut:"]],
    );
  });
});

forEachStore((dialect, open) => {
  test("a cut end is found even when the anchor is moved back to what is left", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    await using log = await openAudit({ sql, key, dir, writer: "a-1-a" });
    for (let id = 0; id < 5; id += 1) await log.append(auditRecord(id));
    await log.close();
    await log.ship();
    const [left] = await sql.query<{ mac: string }>("select mac from audit_records where sequence = 3");
    await sql.query("delete from audit_records where sequence > 3");
    await sql.query("update audit_anchors set sequence = 3, shipped_sequence = 3, mac = $1", [left?.mac ?? ""]);
    if (dialect === "sqlite") {
      const path = join(dir, "audit", "a-1-a-0.log");
      writeFileSync(path, readFileSync(path, "utf8").split("\n").slice(0, 3).concat("").join("\n"));
    }
    const { problems } = await verifyAudit({ sql, key, dir });
    assert.deepEqual(
      problems.map(({ sequence, what }) => [sequence, what.slice(0, 10)]),
      [[3, "the anchor"]],
    );
  });

  test("the end of the last writer cut off together with its anchors is found", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    await finishedTrail(sql, dir);
    const newest = await sql.query<{ segment: number }>(
      "select segment from audit_anchors where writer = 'b-2-b' order by segment",
    );
    const segment = newest.at(-1)?.segment ?? 0;
    await sql.query("delete from audit_anchors where writer = 'b-2-b' and segment = $1", [segment]);
    await sql.query("delete from audit_records where writer = 'b-2-b' and sequence > 14");
    if (dialect === "sqlite") {
      const path = join(dir, "audit", `b-2-b-${segment}.log`);
      const kept = readFileSync(path, "utf8")
        .split("\n")
        .filter((line) => line !== "" && Number(/"sequence":(\d+)/.exec(line)?.[1]) <= 14);
      writeFileSync(path, `${kept.join("\n")}\n`);
    }
    const { problems } = await verifyAudit({ sql, key, dir });
    assert.deepEqual([...new Set(problems.map(({ writer }) => writer))], ["b-2-b"]);
    assert.ok(problems.some(({ what }) => what.startsWith("the anchor of its end was removed")));
  });

  test("all anchors removed is found", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    await finishedTrail(sql, dir);
    await sql.query("delete from audit_anchors");
    assert.ok((await verifyAudit({ sql, key, dir })).problems.length >= 2);
  });

  const rows: [name: string, text: string][] = [
    ["a changed record", "update audit_records set record = replace(record, 'prod/db', 'prod/dc') where sequence = 5"],
    ["a changed principal", "update audit_records set principal = 'other' where sequence = 5 and writer = 'a-1-a'"],
    ["a changed time", "update audit_records set at = at + 1 where sequence = 5 and writer = 'a-1-a'"],
    ["a removed record", "delete from audit_records where sequence = 5 and writer = 'a-1-a'"],
    ["a cut end", "delete from audit_records where sequence > 10 and writer = 'b-2-b'"],
    ["a missing writer", "delete from audit_records where writer = 'a-1-a'"],
    [
      "a repeated record",
      `insert into audit_records (writer, sequence, at, request_id, principal, action, resource, outcome, record, mac)
        select writer, sequence + 100, at, request_id, principal, action, resource, outcome, record, mac from audit_records where sequence = 5`,
    ],
    [
      "a foreign writer",
      `insert into audit_records (writer, sequence, at, request_id, principal, action, resource, outcome, record, mac)
        select 'c-3-c', sequence, at, request_id, principal, action, resource, outcome, record, mac from audit_records where writer = 'a-1-a'`,
    ],
  ];
  for (const [name, text] of rows)
    test(`${name} in audit_records is found`, async () => {
      const [sql, dir] = [await open(), dataFolder()];
      await finishedTrail(sql, dir);
      assert.deepEqual((await verifyAudit({ sql, key, dir })).problems, []);
      await sql.query(text);
      assert.equal((await verifyAudit({ sql, key, dir })).ok, false);
    });

  if (dialect === "sqlite") return; // the same on files: above
  test("a writer that vanished with its anchors is missed by the one after it", async () => {
    const [sql, dir] = [await open(), dataFolder()];
    await finishedTrail(sql, dir);
    await sql.query("delete from audit_records where writer = 'a-1-a'");
    await sql.query("delete from audit_anchors where writer = 'a-1-a'");
    assert.equal((await verifyAudit({ sql, key, dir })).ok, false);
  });
});
