// Projects, environments, configs and their values, on both databases.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references of configs look like that
import assert from "node:assert/strict";
import { test } from "node:test";
import { configWorldOn, generation, refused, set, userWith, values } from "../support/config-world.ts";
import { forEachStore } from "../support/stores.ts";

forEachStore((_name, open) => {
  const withWorld = configWorldOn(open);

  test("a project comes with three environments and their root configs", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app", Description: "shop" });
      const { Environments } = (await call("ListEnvironments", { Project: "app" })) as { Environments: { Slug: string }[] };
      assert.deepEqual(
        Environments.map(({ Slug }) => Slug),
        ["dev", "stg", "prd"],
      );
      const { Configs } = (await call("ListConfigs", { Project: "app" })) as { Configs: { Name: string; Root: boolean }[] };
      assert.deepEqual(
        Configs.map(({ Name, Root }) => [Name, Root]),
        [
          ["dev", true],
          ["prd", true],
          ["stg", true],
        ],
      );
      await assert.rejects(call("CreateProject", { Name: "app" }), refused("ResourceExistsException"));
      await call("UpdateProject", { Project: "app", Name: "shop" });
      await assert.rejects(call("CreateProject", { Name: "shop" }), refused("ResourceExistsException"));
      const { Project } = (await call("GetProject", { Project: "shop" })) as { Project: { Id: string; Name: string } };
      assert.deepEqual([Project.Id, Project.Name], ["app", "shop"]);
      await call("DeleteProject", { Project: "shop" });
      await assert.rejects(call("GetProject", { Project: "app" }), refused("ResourceNotFoundException", /project app/));
      const { Logs } = (await call("ListActivityLogs", {})) as { Logs: { Text: string }[] };
      assert.deepEqual(
        Logs.map(({ Text }) => Text),
        ["Deleted project app", "Renamed project app from app to shop", "Created project app"],
      );
    }));

  test("branches read through to their root, and raise when it changes", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_ci" });
      await set(call, "app", "dev", { HOST: "root", URL: "https://${HOST}/${DOPPLER_CONFIG}" });
      assert.deepEqual(await values(call, "app", "dev_ci"), { HOST: "root", URL: "https://root/dev_ci" });
      const before = await generation(call, "app", "dev_ci");
      await set(call, "app", "dev_ci", { HOST: "branch" });
      assert.deepEqual(await values(call, "app", "dev_ci"), { HOST: "branch", URL: "https://branch/dev_ci" });
      assert.deepEqual(await values(call, "app", "dev"), { HOST: "root", URL: "https://root/dev" });
      await set(call, "app", "dev", { NEW: "1" });
      assert.equal(await generation(call, "app", "dev_ci"), before + 2);
      assert.equal(await generation(call, "app", "stg"), 1);
      await call("DeleteConfigSecret", { Project: "app", Config: "dev_ci", Name: "HOST" });
      assert.equal((await values(call, "app", "dev_ci")).HOST, "root");
      await assert.rejects(
        call("DeleteConfigSecret", { Project: "app", Config: "dev_ci", Name: "HOST" }),
        refused("InvalidRequestException", /comes from another config/),
      );
    }));

  test("references lead across configs and projects, and what they lead to raises", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app" });
      await set(call, "app", "dev", { A: "${stg.B}", C: "${infra.prd.D}", LOOP: "${LOOP}" });
      assert.deepEqual(await values(call, "app", "dev"), { A: "${stg.B}", C: "${infra.prd.D}", LOOP: "${LOOP}" });
      await set(call, "app", "stg", { B: "b${infra.prd.D}" });
      const before = await generation(call, "app", "dev");
      await call("CreateProject", { Name: "infra" });
      assert.ok((await generation(call, "app", "dev")) > before, "a config that was referred to came to be");
      const then = await generation(call, "app", "dev");
      await set(call, "infra", "prd", { D: "d" });
      assert.ok((await generation(call, "app", "dev")) > then);
      assert.deepEqual(await values(call, "app", "dev"), { A: "bd", C: "d", LOOP: "${LOOP}" });
    }));

  test("twenty writers at once lose nothing", () =>
    withWorld(async ({ call, services }) => {
      await call("CreateProject", { Name: "app" });
      const names = Array.from({ length: 20 }, (_, index) => `NAME_${index}`);
      await Promise.all(names.map((name) => set(call, "app", "dev", { [name]: name })));
      assert.deepEqual(Object.keys(await values(call, "app", "dev")).sort(), names.toSorted());
      const { Config } = (await call("GetConfig", { Project: "app", Config: "dev" })) as { Config: { Version: number } };
      assert.equal(Config.Version, 20);
      const guarded = (Value: string) =>
        call("SetConfigSecrets", {
          Project: "app",
          Config: "dev",
          ChangeRequests: [{ Name: "NAME_0", Value, OriginalValue: "NAME_0" }],
        });
      const outcomes = await Promise.allSettled(names.map((name) => guarded(`by ${name}`)));
      assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1, "one guard held");
      assert.equal((await services.sql.query("select 1 as found from activity_logs where to_version is not null")).length, 21);
    }));

  test("a promoted value goes to the root, a converged one to where it came from", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_ci" });
      const change = (request: object) =>
        call("SetConfigSecrets", { Project: "app", Config: "dev_ci", ChangeRequests: [request] });
      await change({ Name: "A", Value: "1", ShouldPromote: true });
      assert.deepEqual(await values(call, "app", "dev"), { A: "1" });
      await set(call, "app", "dev_ci", { A: "2" });
      await change({ Name: "A", ShouldConverge: true });
      assert.deepEqual(await values(call, "app", "dev_ci"), { A: "1" });
    }));

  test("a change is rolled back by a new version, unless the config is locked", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app" });
      await set(call, "app", "dev", { A: "1", B: "1" });
      await set(call, "app", "dev", { A: "2" });
      await set(call, "app", "dev", { C: "3" });
      const { Logs } = (await call("ListConfigLogs", { Project: "app", Config: "dev" })) as {
        Logs: { Id: string; Text: string }[];
      };
      assert.deepEqual(
        Logs.map(({ Text }) => Text),
        ["Changed config dev: added C", "Changed config dev: changed A", "Changed config dev: added A, B"],
      );
      const LogId = Logs[1]?.Id;
      const { Log } = (await call("GetConfigLog", { Project: "app", Config: "dev", LogId })) as { Log: { Diff: object[] } };
      assert.deepEqual(Log.Diff, [{ Name: "A", Added: "2", Removed: "1" }]);
      await call("LockConfig", { Project: "app", Config: "dev" });
      await assert.rejects(
        call("RollbackConfig", { Project: "app", Config: "dev", LogId }),
        refused("InvalidRequestException", /locked/),
      );
      await call("UnlockConfig", { Project: "app", Config: "dev" });
      const rolled = (await call("RollbackConfig", { Project: "app", Config: "dev", LogId })) as { Log: { Rollback: boolean } };
      assert.equal(rolled.Log.Rollback, true);
      await assert.rejects(
        call("RollbackConfig", { Project: "app", Config: "dev", LogId }),
        refused("InvalidRequestException", /nothing to roll back/),
      );
      assert.deepEqual(await values(call, "app", "dev"), { A: "1", B: "1", C: "3" });
    }));

  test("downloads have an ETag that holds as long as nothing they show changes", () =>
    withWorld(async ({ call, flushReads }) => {
      await call("CreateProject", { Name: "app" });
      await set(call, "app", "dev", { B: "2", A: '1"' });
      const download = (more: object = {}) =>
        call("DownloadConfigSecrets", { Project: "app", Config: "dev", ...more }) as Promise<Record<string, string>>;
      const first = await download();
      assert.equal(first.Body, '{"A":"1\\"","B":"2","DOPPLER_CONFIG":"dev","DOPPLER_ENVIRONMENT":"dev","DOPPLER_PROJECT":"app"}');
      assert.match(first.ETag ?? "", /^W\/"[0-9a-f]{64}"$/);
      assert.deepEqual(await download({ IfNoneMatch: first.ETag }), { NotModified: true, ETag: first.ETag });
      assert.deepEqual(await download(), first);
      assert.equal((await download({ Format: "env", Names: ["A"] })).Body, 'A="1\\""\n');
      await set(call, "app", "dev", { B: "3" });
      assert.notEqual((await download({ IfNoneMatch: first.ETag })).ETag, first.ETag);
      await flushReads();
      const { Config } = (await call("GetConfig", { Project: "app", Config: "dev" })) as { Config: Record<string, unknown> };
      assert.ok(Config.InitialFetchAt instanceof Date && Config.LastFetchAt instanceof Date);
    }));

  test("inherited values lie beneath a config's own, and cycles are refused", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateProject", { Name: "shared" });
      await set(call, "shared", "prd", { HOST: "h", URL: "u://${HOST}", OWN: "parent" });
      const inherit = (Project: string, Config: string, from: object[]) =>
        call("SetConfigInherits", { Project, Config, Inherits: from });
      const parent = { Project: "shared", Config: "prd" };
      await assert.rejects(inherit("app", "prd", [parent]), refused("InvalidRequestException", /not inheritable/));
      await call("SetConfigInheritable", { ...parent, Inheritable: true });
      await set(call, "app", "prd", { OWN: "child", HOST: "mine" });
      await inherit("app", "prd", [parent]);
      assert.deepEqual(await values(call, "app", "prd"), { HOST: "mine", OWN: "child", URL: "u://h" });
      const before = await generation(call, "app", "prd");
      await set(call, "shared", "prd", { HOST: "h2" });
      assert.ok((await generation(call, "app", "prd")) > before);
      assert.equal((await values(call, "app", "prd")).URL, "u://h2");
      await call("SetConfigInheritable", { Project: "app", Config: "prd", Inheritable: true });
      await assert.rejects(
        inherit("shared", "prd", [{ Project: "app", Config: "prd" }]),
        refused("InvalidRequestException", /inherit each other/),
      );
      await assert.rejects(
        call("DeleteProject", { Project: "shared" }),
        refused("InvalidRequestException", /inherited by config prd of project app/),
      );
      await assert.rejects(call("SetConfigInheritable", { ...parent, Inheritable: false }), refused("InvalidRequestException"));
      await inherit("app", "prd", []);
      await call("DeleteProject", { Project: "shared" });
    }));

  test("a renamed environment takes its configs along", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_dev" });
      await set(call, "app", "dev", { A: "1" });
      await set(call, "app", "stg", { B: "${dev.A}" });
      await call("UpdateEnvironment", { Project: "app", Environment: "dev", Slug: "dev_dev" });
      const { Configs } = (await call("ListConfigs", { Project: "app", Environment: "dev_dev" })) as {
        Configs: { Name: string }[];
      };
      assert.deepEqual(
        Configs.map(({ Name }) => Name),
        ["dev_dev", "dev_dev_dev"],
      );
      assert.deepEqual(await values(call, "app", "dev_dev_dev"), { A: "1" });
      assert.deepEqual(await values(call, "app", "stg"), { B: "${dev.A}" });
    }));

  test("a template makes what is not there yet, and nothing twice", () =>
    withWorld(async ({ call }) => {
      const Template = [
        "projects:",
        "  - name: app",
        "    environments:",
        "      - slug: dev",
        "        name: Development",
        "        configs:",
        "          - slug: dev_ci",
        "    secrets:",
        "      dev:",
        "        A: one",
        "      dev_ci:",
        "        B: ${A}",
      ].join("\n");
      for (let times = 0; times < 2; times++) {
        await call("ImportTemplate", { Template });
        assert.deepEqual(await values(call, "app", "dev_ci"), { A: "one", B: "one" });
        const { Config } = (await call("GetConfig", { Project: "app", Config: "dev_ci" })) as { Config: { Version: number } };
        assert.equal(Config.Version, 1);
      }
    }));

  test("branches that promote and writers of the root make each other try again, and lose nothing", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app" });
      const numbers = Array.from({ length: 8 }, (_, index) => index);
      for (const number of numbers) await call("CreateConfig", { Project: "app", Environment: "dev", Name: `dev_${number}` });
      /** As its answer says, where a slow machine gets nowhere in one call's time. */
      const tryAgain = (error: { code?: string }, change: () => Promise<unknown>): Promise<unknown> =>
        error.code === "ThrottlingException" ? persist(change) : Promise.reject(error);
      const persist = (change: () => Promise<unknown>): Promise<unknown> => change().catch((error) => tryAgain(error, change));
      const promote = (number: number) =>
        call("SetConfigSecrets", {
          Project: "app",
          Config: `dev_${number}`,
          ChangeRequests: [{ Name: `P_${number}`, Value: "1", ShouldPromote: true }],
        });
      await Promise.all(
        numbers.flatMap((number) => [
          persist(() => promote(number)),
          persist(() => set(call, "app", "dev", { [`R_${number}`]: "1" })),
        ]),
      );
      assert.equal(Object.keys(await values(call, "app", "dev")).length, 16);
    }));

  test("lists come by pages, with a token or by number", () =>
    withWorld(async ({ call, as }) => {
      for (let number = 1; number <= 7; number++) await call("CreateProject", { Name: `app-${number}` });
      const names = (answer: object) => (answer as { Projects: { Name: string }[] }).Projects.map(({ Name }) => Name);
      const seen: string[] = [];
      let NextToken: unknown;
      do {
        const page: Record<string, unknown> = await call("ListProjects", { MaxResults: 3, ...(NextToken ? { NextToken } : {}) });
        seen.push(...names(page));
        NextToken = page.NextToken;
      } while (NextToken);
      assert.deepEqual(
        seen,
        [1, 2, 3, 4, 5, 6, 7].map((number) => `app-${number}`),
      );
      assert.deepEqual(names(await call("ListProjects", { Page: 3, PerPage: 3 })), ["app-7"]);
      const some = as(userWith({ "rekey:ListProjects": ["*"], "rekey:GetProject": ["project/app-2", "project/app-5"] }));
      assert.deepEqual(names(await some("ListProjects", { MaxResults: 1 })), ["app-2"]);
      assert.deepEqual(names(await some("ListProjects", { Page: 2, PerPage: 1 })), ["app-5"]);
      const { Logs } = (await call("ListActivityLogs", { Page: 2, PerPage: 5 })) as { Logs: { Text: string }[] };
      assert.deepEqual(
        Logs.map(({ Text }) => Text),
        ["Created project app-2", "Created project app-1"],
      );
      await assert.rejects(call("ListConfigs", { Project: "app-1", NextToken: "x" }), refused("InvalidNextTokenException"));
    }));

  test("a copy has its own values, and goes its own way", () =>
    withWorld(async ({ call }) => {
      await call("CreateProject", { Name: "app" });
      await set(call, "app", "dev", { A: "1", B: "${A}" });
      await call("CloneConfig", { Project: "app", Config: "dev", Name: "dev_copy" });
      await set(call, "app", "dev", { A: "2", C: "3" });
      assert.deepEqual(await values(call, "app", "dev_copy"), { A: "1", B: "1", C: "3" });
      await assert.rejects(
        call("CloneConfig", { Project: "app", Config: "dev", Name: "dev_copy" }),
        refused("ResourceExistsException"),
      );
      await assert.rejects(
        call("CloneConfig", { Project: "app", Config: "dev", Name: "stg_copy" }),
        refused("ValidationException", /must start with/),
      );
    }));
});
