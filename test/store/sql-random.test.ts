import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Sql, SqlValue } from "../../src/store/sql.ts";
import { postgresSkip } from "../support/postgres-server.ts";
import { openBoth } from "../support/stores.ts";

/** One statement, or several in one transaction that may fail at its end. */
type Operation = Statement | { statements: Statement[]; fails: boolean };
type Statement = { text: string; values: SqlValue[] };

const id = fc.integer({ min: 1, max: 6 });
const word = fc
  .oneof(fc.constantFrom(null, "", "a", "b", "A", "é", "'\"$1?%\\"), fc.string({ unit: "grapheme", maxLength: 8 }))
  .filter((text) => !text?.includes("\0"));
const number = fc.oneof(fc.constantFrom(null, 0, 1, -1), fc.maxSafeInteger());
const bytes = fc.option(fc.uint8Array({ maxLength: 20 }));
const statement = (text: string, ...values: fc.Arbitrary<SqlValue>[]): fc.Arbitrary<Statement> =>
  fc.tuple(...values).map((made) => ({ text, values: made }));

const parent = "insert into parents (id, name) values ($1, $2)";
const statements: fc.Arbitrary<Statement> = fc.oneof(
  statement(`${parent} returning *`, id, word),
  statement(`${parent} on conflict (id) do update set name = excluded.name returning name`, id, word),
  statement(`${parent} on conflict do nothing returning id`, id, word),
  statement("insert into items (id, parent, n, data) values ($1, $2, $3, $4) returning *", id, id, number, bytes),
  statement(
    "insert into items (id, parent, n) select id + 3, id, $1 from parents where id <= $2 returning id, parent, n",
    number,
    id,
  ),
  statement("update items set n = $2, data = $3 where id = $1 returning *", id, number, bytes),
  statement("update items set n = coalesce(n, 0) % 1000 + 1 where parent = $1 returning id, n", id),
  statement("update parents set name = $2 where id = $1 and (name is null or name <> $2)", id, word),
  statement("delete from parents where id = $1 returning *", id),
  statement("delete from items where n is null or n < $1 returning id", number),
  statement("select * from items where parent = $1 or id = $1 order by id", id),
  statement(
    "select p.id, count(i.id) as n, max(i.n) as top from parents p left join items i on i.parent = p.id group by p.id order by p.id",
  ),
  statement("select id, name from parents where name = $1 order by id limit 2", word),
  statement("with few as (select id, n from items order by n desc nulls last, id limit 3) select * from few order by id"),
  statement("select id from items where (n, id) > ($1, $2) order by n, id limit 2", number, id),
);
const operations: fc.Arbitrary<Operation[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: statements },
    fc.record({ statements: fc.array(statements, { minLength: 1, maxLength: 5 }), fails: fc.boolean() }),
  ),
  { minLength: 5, maxLength: 40 },
);

/** Failures are alike when they are of one kind; their wording is each database's own. */
function kindOf(error: unknown): string {
  const kinds: [RegExp, string][] = [
    [/foreign key/i, "foreign key"],
    [/unique/i, "unique"],
    [/not.null/i, "not null"],
    [/check constraint/i, "check"],
    [/^on purpose$/, "on purpose"],
  ];
  const message = error instanceof Error ? error.message : String(error);
  return kinds.find(([pattern]) => pattern.test(message))?.[1] ?? message;
}

/** `returning` promises no order. */
const sorted = (rows: object[], text: string): object[] =>
  text.startsWith("select") || text.startsWith("with")
    ? rows
    : rows.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

async function perform(sql: Sql, operation: Operation): Promise<unknown> {
  const ask = async (from: Sql, { text, values }: Statement) => sorted(await from.query(text, values), text);
  try {
    if ("text" in operation) return await ask(sql, operation);
    return await sql.transaction(async (tx) => {
      const answers = [];
      for (const each of operation.statements) answers.push(await ask(tx, each));
      if (operation.fails) throw new Error("on purpose");
      return answers;
    });
  } catch (error) {
    return { failed: kindOf(error) };
  }
}

const schema = (bytesType: string) => [
  "create table parents (id bigint primary key, name text check (name <> 'b'))",
  `create table items (id bigint primary key, parent bigint not null references parents (id) on delete cascade, n bigint, data ${bytesType})`,
  "create unique index items_by_n on items (n) where n > 1000",
];

test("random operations have equal answers on both databases", { skip: postgresSkip }, async () => {
  await using both = await openBoth();
  for (const [sql, bytesType] of [
    [both.sqlite, "blob"],
    [both.postgres, "bytea"],
  ] as const) {
    for (const text of schema(bytesType)) await sql.query(text);
  }
  const seen = { rows: 0, failures: new Map<string, number>() };
  await fc.assert(
    fc.asyncProperty(operations, async (list) => {
      for (const sql of [both.sqlite, both.postgres]) await sql.query("delete from parents");
      for (const operation of list) {
        const [ours, theirs] = await Promise.all([perform(both.sqlite, operation), perform(both.postgres, operation)]);
        assert.deepEqual(ours, theirs, JSON.stringify(operation));
        if (Array.isArray(ours)) seen.rows += ours.length;
        else if (ours && typeof ours === "object" && "failed" in ours) {
          const kind = String(ours.failed);
          seen.failures.set(kind, (seen.failures.get(kind) ?? 0) + 1);
        }
      }
      const all = "select * from parents left join items on items.parent = parents.id order by parents.id, items.id";
      assert.deepEqual(await both.sqlite.query(all), await both.postgres.query(all));
    }),
    { numRuns: process.env.SLOW ? 500 : 40 },
  );
  assert.ok(seen.rows > 100, "operations found rows");
  for (const kind of ["foreign key", "unique", "check", "on purpose"])
    assert.ok(seen.failures.has(kind), `some failed by ${kind}`);
});
