// No request about configs reads a whole table.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references of configs look like that
import assert from "node:assert/strict";
import { test } from "node:test";
import { removeHistory } from "../../src/store/due.ts";
import { type Call, type ConfigWorld, configWorld, newFolder } from "../support/config-world.ts";
import { fullScans, recording, smallTables } from "../support/plans.ts";
import { forEachStore } from "../support/stores.ts";

const dev = { Project: "app", Config: "dev" };
const calls: [name: string, input: object][] = [
  ["CreateProject", { Name: "app" }],
  ["CreateProject", { Name: "other" }],
  ["ListProjects", {}],
  ["ListProjects", { Page: 1 }],
  ["UpdateProject", { Project: "other", Name: "another" }],
  ["GetProject", { Project: "another" }],
  ["CreateEnvironment", { Project: "app", Name: "Test", Slug: "test" }],
  ["ListEnvironments", { Project: "app" }],
  ["CreateConfig", { Project: "app", Environment: "dev", Name: "dev_ci" }],
  ["UpdateEnvironment", { Project: "app", Environment: "test", Slug: "tests" }],
  ["UpdateConfig", { Project: "app", Config: "dev_ci", Name: "dev_cd" }],
  ["ListConfigs", { Project: "app" }],
  ["ListConfigs", { Project: "app", Environment: "dev" }],
  ["SetConfigSecrets", { ...dev, Secrets: { A: "1", B: "${stg.C}${A}" } }],
  ["SetConfigSecrets", { ...dev, Secrets: { A: "2" } }],
  ["SetSecretNote", { ...dev, Secret: "A", Note: "n" }],
  ["ListConfigSecrets", { Project: "app", Config: "dev_cd", IncludeDynamicSecrets: true }],
  ["GetConfigSecret", { ...dev, Name: "A" }],
  ["ListConfigSecretNames", dev],
  ["DownloadConfigSecrets", dev],
  ["SetConfigInheritable", { Project: "app", Config: "prd", Inheritable: true }],
  ["SetConfigInherits", { ...dev, Inherits: [{ Project: "app", Config: "prd" }] }],
  ["CloneConfig", { ...dev, Name: "dev_copy" }],
  ["LockConfig", dev],
  ["UnlockConfig", dev],
  ["ListConfigLogs", dev],
  ["ListActivityLogs", { Page: 2 }],
  ["DeleteConfigSecret", { ...dev, Name: "A" }],
  ["ImportTemplate", { Template: "projects:\n- name: app\n  secrets:\n    dev:\n      NEW: v\n- name: made\n" }],
  ["DeleteConfig", { Project: "app", Config: "dev_copy" }],
  ["DeleteEnvironment", { Project: "app", Environment: "tests" }],
  ["DeleteProject", { Project: "app" }],
];

async function askAll({ call, flushReads }: ConfigWorld): Promise<void> {
  for (const [name, input] of calls) {
    await call(name, input);
    if (name === "DownloadConfigSecrets") await flushReads();
    if (name === "UnlockConfig") await askLog(call);
  }
}

async function askLog(call: Call): Promise<void> {
  const { Logs } = (await call("ListConfigLogs", dev)) as { Logs: { Id: string; Text: string }[] };
  const LogId = Logs.find(({ Text }) => Text.startsWith("Changed"))?.Id;
  await call("GetConfigLog", { ...dev, LogId });
  await call("GetActivityLog", { LogId });
  await call("RollbackConfig", { ...dev, LogId });
}

/** Of tables that hold a bounded number of rows. */
const bounded = (text: string): boolean => smallTables.test(text) || /\bcount\(\*\) as count from projects$/.test(text);

forEachStore((_dialect, open) => {
  test("no request about configs reads a whole table", async () => {
    const store = await open();
    const { sql, statements } = recording(store);
    await using world = await configWorld(sql, newFolder());
    await askAll(world);
    await removeHistory(sql, Date.now() * 2, 10);
    const scans: string[] = [];
    for (const text of statements)
      if (!bounded(text)) for (const step of await fullScans(store, text)) scans.push(`${step}: ${text}`);
    assert.deepEqual(scans, []);
  });
});
