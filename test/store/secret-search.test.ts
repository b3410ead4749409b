import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { compileFilters, type SecretFilter } from "../../src/core/secret-filter.ts";
import { migrate } from "../../src/store/migrate.ts";
import { createSearchThread, searchThreadOf } from "../../src/store/search-thread.ts";
import { type SearchRequest, type SortColumn, searchSecrets } from "../../src/store/secret-search.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { forEachStore } from "../support/stores.ts";

const region = "us-east-1";

interface Made {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly tags: Record<string, string>;
  readonly created_at: number;
  readonly last_changed_at: number;
  readonly last_accessed_at: number;
  readonly deleted: boolean;
}

/** Many equal dates, so that pages end between them. */
function make(n: number): Made {
  return {
    id: `id-${String((n * 7919) % 10_007).padStart(5, "0")}`,
    name: `${n % 3 === 0 ? "prod" : "test"}/${n % 50}/${n}`,
    description: n % 11 === 0 ? "The rare one" : "An application",
    tags: { team: `t${n % 4}` },
    created_at: 1000 + Math.floor(n / 300),
    last_changed_at: 5000 - (n % 7),
    last_accessed_at: n % 2 === 0 ? 0 : 100 + (n % 3),
    deleted: n % 5 === 0,
  };
}

async function fill(sql: Sql, count: number): Promise<Made[]> {
  const all = Array.from({ length: count }, (_, n) => make(n));
  await sql.transaction(async (tx) => {
    for (const one of all)
      await tx.query(
        `insert into secrets (id, region, name, arn, description, tags, created_at, last_changed_at, last_accessed_at, deleted_at, generation, row_version)
           values ($1, $2, $3, $1, $4, $5, $6, $7, $8, $9, 1, 1)`,
        [
          one.id,
          region,
          one.name,
          one.description,
          JSON.stringify(one.tags),
          one.created_at,
          one.last_changed_at,
          one.last_accessed_at || null,
          one.deleted ? 1 : null,
        ],
      );
    await tx.query(
      `insert into secrets (id, region, name, arn, created_at, last_changed_at, generation, row_version)
         values ('elsewhere', 'eu-west-1', 'prod/0/0', 'elsewhere', 1, 1, 1, 1)`,
    );
  });
  return all;
}

/** What a search must find, by the plainest way there is. */
function expected(all: readonly Made[], { sortBy, descending, includeDeleted, filters }: SearchRequest): string[] {
  const matches = compileFilters(filters);
  const wanted = all.filter((one) => (includeDeleted || !one.deleted) && matches(one));
  wanted.sort((a, b) => (a[sortBy] < b[sortBy] ? -1 : a[sortBy] > b[sortBy] ? 1 : a.id < b.id ? -1 : 1));
  return (descending ? wanted.reverse() : wanted).map(({ id }) => id);
}

async function allPages(sql: Sql, request: SearchRequest): Promise<string[]> {
  const ids: string[] = [];
  let after = request.after;
  do {
    const page = await searchSecrets(sql, { ...request, after });
    assert.ok(page.ids.length === request.limit || page.next === undefined, "only the last page is short");
    ids.push(...page.ids);
    after = page.next;
  } while (after);
  return ids;
}

const prefix = (value: string): Partial<SearchRequest> => ({ namePrefix: value, filters: [{ key: "name", values: [value] }] });
const filter = (key: SecretFilter["key"], ...values: string[]): Partial<SearchRequest> => ({ filters: [{ key, values }] });
const sorts: SortColumn[] = ["created_at", "last_accessed_at", "last_changed_at", "name"];
const lookedFor: Partial<SearchRequest>[] = [
  {},
  prefix("prod/1"),
  prefix("prod"),
  prefix("nothing"),
  filter("description", "rare"),
  filter("description", "absent"),
  filter("tag-value", "t1", "!t2"),
];

forEachStore((_dialect, open) => {
  test("every order, filter and page size finds what plain sorting and filtering finds", async () => {
    const sql = await open();
    const all = await fill(sql, 2500);
    const requests = fc.record({
      sortBy: fc.constantFrom(...sorts),
      descending: fc.boolean(),
      includeDeleted: fc.boolean(),
      limit: fc.constantFrom(20, 100),
      what: fc.constantFrom(...lookedFor),
    });
    await fc.assert(
      fc.asyncProperty(requests, async ({ what, ...how }) => {
        const request: SearchRequest = { region, filters: [], ...how, ...what };
        assert.deepEqual(await allPages(sql, request), expected(all, request));
      }),
      { numRuns: process.env.SLOW ? 300 : 30 },
    );
  });
});

describe("the search thread", () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-search-"));
  after(() => rmSync(folder, { recursive: true }));
  let count = 0;
  const newPath = () => join(folder, `store-${++count}.db`);
  const rare: SearchRequest = {
    region,
    includeDeleted: true,
    sortBy: "created_at",
    descending: false,
    limit: 10,
    filters: [{ key: "name", values: ["absent"] }],
  };
  const begin = { found: [], after: undefined, done: false };

  test("it answers long searches, and what was committed before is found", async () => {
    const sql = openSqlite(newPath());
    await migrate(sql);
    const all = await fill(sql, 1000);
    const thread = searchThreadOf(sql);
    assert.ok(thread);
    const found = await thread.ask("secrets", { ...rare, limit: 1000, filters: [] }, begin);
    assert.equal((found as { found: unknown[] }).found.length, all.length);
    const request = { ...rare, filters: [{ key: "description", values: ["rare"] } as const] };
    assert.deepEqual(await allPages(sql, request), expected(all, request));
    await assert.rejects(thread.ask("nonsense"), /no search nonsense/);
    await sql.close();
    await assert.rejects(async () => thread.ask("secrets", rare, begin), /closed/);
  });

  test("too many searches at once are refused, the others answered", async () => {
    const sql = openSqlite(newPath());
    await migrate(sql);
    await fill(sql, 1000);
    const results = await Promise.allSettled(Array.from({ length: 100 }, async () => searchSecrets(sql, rare)));
    const refused = results.filter((result) => result.status === "rejected");
    assert.ok(refused.length > 0 && refused.length < 100, `${refused.length} refused`);
    for (const { reason } of refused) assert.equal(reason.code, "ThrottlingException");
    assert.deepEqual(await searchSecrets(sql, rare), { ids: [] });
    await sql.close();
  });

  test("a thread that ended is begun again by the next search", async () => {
    const path = newPath();
    const thread = createSearchThread(path);
    await assert.rejects(thread.ask("secrets", rare, begin), /cut off/); // there is no store yet
    const sql = openSqlite(path);
    await migrate(sql);
    assert.deepEqual(await thread.ask("secrets", rare, begin), { found: [], done: true, after: undefined });
    await thread.close();
    await sql.close();
  });

  test("a store may be closed while a search runs", async () => {
    const sql = openSqlite(newPath());
    await migrate(sql);
    await fill(sql, 1000);
    const search = assert.rejects(searchSecrets(sql, rare), /cut off/);
    await new Promise((resolve) => setImmediate(resolve));
    await sql.close();
    await search;
  });
});
