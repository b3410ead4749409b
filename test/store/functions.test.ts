// Functions, their logs and the tokens of rotations, on both databases.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { ServiceError } from "../../src/core/error.ts";
import { type FunctionRecord, functionArn } from "../../src/core/function.ts";
import { removeHistory } from "../../src/store/due.ts";
import {
  addFunctionLog,
  deleteFunction,
  findFunction,
  functionLogs,
  insertFunction,
  listFunctions,
  loadEnvironment,
  updateFunction,
} from "../../src/store/functions.ts";
import { isRotationToken, setRotationToken } from "../../src/store/rotation-tokens.ts";
import { openWorld } from "../support/engine-world.ts";
import { account, region } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

const record = (name: string, more: Partial<FunctionRecord> = {}): FunctionRecord =>
  ({
    kind: "process",
    process: { runtime: "node", file: "a.mjs", handler: undefined },
    region,
    name,
    arn: functionArn(region, account, name),
    description: undefined,
    roleArn: `arn:aws:iam::${account}:role/r`,
    policy: undefined,
    timeoutSeconds: 30,
    memoryMiB: 256,
    concurrency: 10,
    environmentNames: [],
    createdAt: 1,
    updatedAt: 1,
    ...more,
  }) as FunctionRecord;
const sealed = { sealed: Buffer.of(1), wrappedDataKey: Buffer.of(2), keyId: "key", keyVersion: 1 };

forEachStore((_dialect, open) => {
  test("functions of all kinds are kept as they were given, listed by name, changed by one at a time", async () => {
    const sql = await open();
    const lambda = record("far", { kind: "lambda", lambda: { targetArn: "arn" }, roleArn: undefined } as Partial<FunctionRecord>);
    const api = record("api", { kind: "http-api", declaration: { any: ["thing"] } } as Partial<FunctionRecord>);
    await sql.transaction((tx) => insertFunction(tx, record("near", { environmentNames: ["A"] }), sealed));
    for (const one of [lambda, api]) await sql.transaction((tx) => insertFunction(tx, one));
    const names = (await listFunctions(sql, region, { after: "", limit: 10 })).map(({ name }) => name);
    assert.deepEqual(names, ["api", "far", "near"]);
    assert.deepEqual(
      (await listFunctions(sql, region, { after: "api", limit: 1 })).map(({ name }) => name),
      ["far"],
    );
    assert.deepEqual(await listFunctions(sql, "eu-west-3", { after: "", limit: 10 }), []);
    const found = await findFunction(sql, api.arn);
    assert.equal(found?.kind, "http-api");
    assert.deepEqual(found.kind === "http-api" && found.declaration, { any: ["thing"] });
    await assert.rejects(
      sql.transaction((tx) => insertFunction(tx, api)),
      (error) => error instanceof ServiceError && error.code === "ResourceExistsException",
    );
    const near = await findFunction(sql, functionArn(region, account, "near"));
    assert.ok(near);
    const changed = { ...near, timeoutSeconds: 60, policy: "{}", updatedAt: 2 };
    assert.equal(await sql.transaction((tx) => updateFunction(tx, changed, 1)), true);
    assert.equal(await sql.transaction((tx) => updateFunction(tx, { ...changed, timeoutSeconds: 90 }, 1)), false);
    assert.deepEqual(await findFunction(sql, near.arn), changed);
    assert.deepEqual(Buffer.from((await loadEnvironment(sql, near.arn))?.sealed ?? []), Buffer.of(1));
    const other = { ...sealed, sealed: Buffer.of(9) };
    assert.equal(await sql.transaction((tx) => updateFunction(tx, { ...changed, updatedAt: 3 }, 2, other)), true);
    assert.deepEqual(Buffer.from((await loadEnvironment(sql, near.arn))?.sealed ?? []), Buffer.of(9));
    assert.equal(await loadEnvironment(sql, lambda.arn), undefined);
  });

  test("of each function the last fifty calls are on record, and they go with it", async () => {
    const sql = await open();
    const { arn } = record("busy");
    await sql.transaction((tx) => insertFunction(tx, record("busy")));
    await sql.transaction((tx) => insertFunction(tx, record("quiet")));
    await addFunctionLog(sql, record("quiet").arn, { requestId: "q", at: 1, failed: true, output: "once" });
    for (let n = 0; n < 60; n++)
      await addFunctionLog(sql, arn, { requestId: `r${n}`, at: n, failed: false, output: `line ${n}` });
    const logs = await functionLogs(sql, arn, 100);
    assert.equal(logs.length, 50);
    assert.deepEqual(logs[0], { requestId: "r59", at: 59, failed: false, output: "line 59" });
    assert.equal((await functionLogs(sql, record("quiet").arn, 10)).length, 1);
    assert.equal(await removeHistory(sql, 12, 2), 2, "old calls go with other history, a page at a time");
    assert.equal(await removeHistory(sql, 12, 2), 2);
    assert.equal(await removeHistory(sql, 12, 2), 0);
    assert.equal((await functionLogs(sql, arn, 100)).at(-1)?.requestId, "r13");
    assert.equal(await sql.transaction((tx) => deleteFunction(tx, arn)), true);
    assert.equal(await sql.transaction((tx) => deleteFunction(tx, arn)), false);
    await addFunctionLog(sql, arn, { requestId: "late", at: 1, failed: false, output: "of a call that ended later" });
    assert.deepEqual(await functionLogs(sql, arn, 10), []);
  });

  test("a rotation's token is known by its hash, while it runs, and the newest only", async () => {
    const sql = await open();
    const world = await openWorld(sql);
    const secret = await world.newSecret("tokens", { password: "x" });
    const id = await world.begin(secret, {});
    const { versionId } = await world.rotationOf(id);
    const [first, second] = [randomUUID(), randomUUID()];
    const known = (token: string, secretId = secret.id, version = versionId) =>
      isRotationToken(sql, { secretId, versionId: version, token });
    assert.equal(await known(first), false);
    await setRotationToken(sql, id, first);
    assert.equal(await known(first), true);
    assert.equal(await known(first, "another"), false);
    assert.equal(await known(first, secret.id, randomUUID()), false);
    await setRotationToken(sql, id, second);
    assert.deepEqual([await known(first), await known(second)], [false, true]);
    const rows = await sql.query("select * from rotations");
    assert.ok(!JSON.stringify(rows).includes(second));
    await sql.query("update rotations set state = 'failed'");
    assert.equal(await known(second), false);
  });
});
