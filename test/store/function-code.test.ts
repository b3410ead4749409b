// What is known of the code of Rekey's own functions at AWS, and who looks at it, on both databases.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type FunctionRecord, functionArn } from "../../src/core/function.ts";
import {
  type CodeClaim,
  claimDueCode,
  codeOfFunctions,
  forgetFarFunction,
  keepCodeClaim,
  noteFarFunction,
  releaseCodeClaims,
  saveCode,
} from "../../src/store/function-code.ts";
import { deleteFunction, insertFunction } from "../../src/store/functions.ts";
import type { Sql } from "../../src/store/sql.ts";
import { account, region } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

const record = (name: string): FunctionRecord => ({
  kind: "lambda",
  lambda: { targetArn: "arn", protocol: "rekey" },
  region,
  name,
  arn: functionArn(region, account, name),
  timeoutSeconds: 30,
  memoryMiB: 256,
  concurrency: 10,
  environmentNames: [],
  createdAt: 1,
  updatedAt: 1,
});

forEachStore((_dialect, open) => {
  const claim = (sql: Sql, nowMs: number, untilMs: number) => sql.transaction((tx) => claimDueCode(tx, nowMs, untilMs));
  const save = (sql: Sql, ...given: Parameters<typeof saveCode> extends [Sql, ...infer Rest] ? Rest : never) =>
    sql.transaction((tx) => saveCode(tx, ...given));

  test("a function's code is looked at by one at a time, the longest due first, and whoever was overtaken changes nothing", async () => {
    const sql = await open();
    const [first, second] = [record("first"), record("second")];
    for (const [index, one] of [second, first].entries())
      await sql.transaction(async (tx) => {
        await insertFunction(tx, one);
        await noteFarFunction(tx, one.arn, 20 - index);
      });
    assert.equal(await claim(sql, 10, 50), undefined, "nothing is due");
    const taken = (await claim(sql, 30, 100)) ?? assert.fail();
    assert.deepEqual([taken.functionArn, taken.state, taken.until, taken.former], [first.arn, "unknown", 100, undefined]);
    assert.equal((await claim(sql, 30, 101))?.functionArn, second.arn);
    assert.equal(await claim(sql, 99, 200), undefined, "both are taken");

    const former = Buffer.from("a zip");
    assert.equal(await save(sql, taken, { state: "updating", runs: "a", wanted: "b", lookedAt: 31, former }), true);
    // Its process died.
    const again = (await claim(sql, 100, 300)) ?? assert.fail();
    assert.deepEqual([again.functionArn, again.state, again.wanted], [first.arn, "updating", "b"]);
    assert.deepEqual(Buffer.from(again.former ?? []), former);
    assert.equal(await save(sql, taken, { state: "current" }, 500), false, "overtaken");
    assert.equal(await save(sql, again, { state: "current", runs: "b", wanted: "b", lookedAt: 101 }, 500), true);
    const shown = (await codeOfFunctions(sql, [first.arn, second.arn])).get(first.arn);
    assert.deepEqual([shown?.state, shown?.runs, shown?.lookedAt], ["current", "b", 101]);
    assert.equal((await claim(sql, 499, 600))?.functionArn, second.arn);
    assert.equal((await claim(sql, 500, 600))?.former, undefined, "what went back is forgotten");
  });

  test("a look's claim is kept as long as nobody else has it; that of a process that is gone ends at once", async () => {
    const sql = await open();
    const { arn } = record("kept");
    const keep = (of: CodeClaim, untilMs: number) => sql.transaction((tx) => keepCodeClaim(tx, of, untilMs));
    const release = (nowMs: number) => sql.transaction((tx) => releaseCodeClaims(tx, nowMs));
    await sql.transaction(async (tx) => {
      await insertFunction(tx, record("kept"));
      await noteFarFunction(tx, arn, 1);
    });
    const taken = (await claim(sql, 1, 30)) ?? assert.fail();
    const kept = (await keep(taken, 60)) ?? assert.fail();
    assert.equal(await claim(sql, 59, 90), undefined);
    assert.equal(await save(sql, taken, { state: "current" }), false, "it is known by its end");
    assert.equal(await save(sql, kept, { state: "updating", wanted: "b" }), true);
    const other = (await claim(sql, 60, 90)) ?? assert.fail();
    assert.equal(await keep(kept, 120), undefined);
    await release(61);
    assert.equal((await claim(sql, 61, 100))?.state, "updating");
    assert.equal(await save(sql, other, { state: "current" }, 500), false);
  });

  test("a change of the function has its code looked at now, but does not disturb an update", async () => {
    const sql = await open();
    const { arn } = record("changed");
    const note = (nowMs: number) => sql.transaction((tx) => noteFarFunction(tx, arn, nowMs));
    await sql.transaction((tx) => insertFunction(tx, record("changed")));
    await note(1);
    const taken = (await claim(sql, 1, 100)) ?? assert.fail();
    await save(sql, taken, { state: "updating", wanted: "b" });
    await note(2);
    assert.equal(await claim(sql, 50, 200), undefined);
    await save(sql, taken, { state: "failed", wanted: "b" }, 1_000);
    await note(60);
    assert.equal((await claim(sql, 60, 200))?.state, "unknown", "what failed may be tried again");
    await sql.transaction((tx) => forgetFarFunction(tx, arn));
    assert.equal((await codeOfFunctions(sql, [arn])).size, 0);
    await note(70);
    await sql.transaction((tx) => deleteFunction(tx, arn));
    assert.equal((await codeOfFunctions(sql, [arn])).size, 0, "it goes with its function");
    assert.equal((await codeOfFunctions(sql, [])).size, 0);
  });
});
