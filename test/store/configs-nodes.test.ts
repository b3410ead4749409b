// Configs that several nodes read and write at once, and what of them is kept how long.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references of configs look like that
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { raiseGenerations } from "../../src/store/config-generations.ts";
import { addVersion } from "../../src/store/config-versions.ts";
import { findConfig } from "../../src/store/configs.ts";
import { removeHistory } from "../../src/store/due.ts";
import type { Sql } from "../../src/store/sql.ts";
import {
  type ConfigWorld,
  configWorld,
  configWorldOn,
  generation,
  newFolder,
  refused,
  set,
  values,
} from "../support/config-world.ts";
import { randomRootKey } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

/** Two nodes on PostgreSQL; the embedded store has one that writes. */
async function nodesOn(sql: Sql): Promise<ConfigWorld[]> {
  const rootKey = await randomRootKey();
  const first = await configWorld(sql, newFolder(), rootKey);
  return sql.dialect === "sqlite" ? [first] : [first, await configWorld(sql, newFolder(), rootKey)];
}

const download = async ({ call }: ConfigWorld, Config: string) =>
  (await call("DownloadConfigSecrets", { Project: "app", Config })) as { Body: string; ETag: string };

forEachStore((_name, open) => {
  const withWorld = configWorldOn(open);

  test("what nodes keep of downloads is never older than what they are made of", async () => {
    const nodes = await nodesOn(await open());
    const [one, other = one] = nodes;
    assert.ok(one && other);
    await one.call("CreateProject", { Name: "app" });
    await one.call("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_ci" });
    const configs = ["dev", "dev_ci", "stg", "prd"];
    const writes = [
      (n: number) => set(one.call, "app", "prd", { C: `c${n}` }),
      (n: number) => set(other.call, "app", "stg", n % 2 === 0 ? { B: `b${n} \${prd.C}` } : { B: "plain" }),
      (n: number) => set(one.call, "app", "dev", n % 3 === 0 ? { A: "${stg.B}" } : { A: `a${n} \${prd.C}` }),
      (n: number) => set(other.call, "app", "dev_ci", n % 2 === 0 ? { A: null } : { D: "${A}" }),
    ];
    for (let round = 0; round < 12; round++) {
      const reads = nodes.flatMap((node) => configs.map((config) => download(node, config)));
      await Promise.all([...writes.map((write) => write(round)), ...reads]);
      for (const node of nodes)
        for (const config of configs) {
          const { DOPPLER_CONFIG, DOPPLER_ENVIRONMENT, DOPPLER_PROJECT, ...shown } = JSON.parse(
            (await download(node, config)).Body,
          );
          assert.deepEqual(shown, await values(node.call, "app", config), `${config} in round ${round}`);
        }
    }
    for (const config of configs) {
      const [first, second = first] = await Promise.all(nodes.map((node) => download(node, config)));
      assert.equal(first?.ETag, second?.ETag);
    }
    for (const node of nodes) await node[Symbol.asyncDispose]();
  });

  test("a config begins to refer to another one before a change of that, or after it is through", () =>
    withWorld(async ({ call, services: { sql } }) => {
      await call("CreateProject", { Name: "app" });
      await set(call, "app", "stg", { B: "1" });
      const id = (await findConfig(sql, "app", "stg"))?.id ?? "";
      const changing = Promise.withResolvers<void>();
      const through = Promise.withResolvers<void>();
      const change = sql.transaction(async (tx) => {
        await raiseGenerations(tx, [id]);
        changing.resolve();
        await through.promise;
      });
      await changing.promise;
      const before = await generation(call, "app", "dev");
      const written = set(call, "app", "dev", { A: "${stg.B}" });
      const met = await Promise.race([written.then(() => "written"), sleep(300, "waits")]);
      const meanwhile = await generation(call, "app", "dev");
      through.resolve();
      await Promise.all([change, written]);
      assert.deepEqual([met, meanwhile], ["waits", before]);
    }));

  test("writers at two nodes lose nothing", async () => {
    const nodes = await nodesOn(await open());
    await nodes[0]?.call("CreateProject", { Name: "app" });
    const names = Array.from({ length: 20 }, (_, index) => `NAME_${index}`);
    await Promise.all(nodes.flatMap(({ call }, at) => names.map((name) => set(call, "app", "dev", { [`${name}_${at}`]: "1" }))));
    for (const { call } of nodes) assert.equal(Object.keys(await values(call, "app", "dev")).length, 20 * nodes.length);
    for (const node of nodes) await node[Symbol.asyncDispose]();
  });

  test("old versions go, the newest of a config never", () =>
    withWorld(async ({ call, clock, services: { sql } }) => {
      await call("CreateProject", { Name: "app" });
      const start = clock.now;
      for (const day of [0, 10, 20]) {
        clock.now = start + day * 86_400_000;
        await set(call, "app", "dev", { A: `on day ${day}` });
      }
      await set(call, "app", "stg", { B: "once" });
      const { Logs } = (await call("ListConfigLogs", { Project: "app", Config: "dev" })) as { Logs: { Id: string }[] };
      await removeHistory(sql, start + 15 * 86_400_000, 100);
      const kept = await sql.query(
        "select number from config_versions v join configs c on c.id = v.config_id where c.name = 'dev' order by number",
      );
      assert.deepEqual(kept, [{ number: 2 }, { number: 3 }]);
      await removeHistory(sql, start + 1000 * 86_400_000, 100);
      assert.equal((await sql.query("select 1 as found from config_versions")).length, 2);
      assert.deepEqual(await values(call, "app", "dev"), { A: "on day 20" });
      assert.deepEqual(await values(call, "app", "stg"), { B: "once" });
      await assert.rejects(
        call("RollbackConfig", { Project: "app", Config: "dev", LogId: Logs[0]?.Id }),
        refused("ResourceNotFoundException"),
      );
    }));

  test("of many versions the newest thousand are kept", () =>
    withWorld(async ({ call, services: { sql } }) => {
      await call("CreateProject", { Name: "app" });
      const configId = (await findConfig(sql, "app", "dev"))?.id ?? "";
      const document = { sealed: Buffer.of(1), wrappedDataKey: Buffer.of(2), keyId: "key", keyVersion: 1 };
      await sql.transaction(async (tx) => {
        for (let number = 1; number <= 1003; number++) await addVersion(tx, { configId, number, createdAt: number }, document);
      });
      const [kept] = await sql.query("select count(*) as count, min(number) as least from config_versions");
      assert.deepEqual([Number(kept?.count), Number(kept?.least)], [1000, 4]);
      assert.equal((await findConfig(sql, "app", "dev"))?.version, 1003);
    }));
});
