// What nobody may see or do with configs, and what is kept from being lost with them, on both databases.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references of configs look like that
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Call, configWorldOn, refused, set, userWith, values } from "../support/config-world.ts";
import { forEachStore } from "../support/stores.ts";

forEachStore((_name, open) => {
  const withWorld = configWorldOn(open);

  test("values for machines only are not shown to people, not by detours either", () =>
    withWorld(async ({ call, as }) => {
      await call("CreateProject", { Name: "app" });
      const change = (request: object) => call("SetConfigSecrets", { Project: "app", Config: "dev", ChangeRequests: [request] });
      await change({ Name: "KEY", Value: "s3cret", Visibility: "restricted" });
      await set(call, "app", "dev", { OPEN: "1", DETOUR: "is ${KEY}" });
      assert.deepEqual(await values(call, "app", "dev"), { KEY: null, OPEN: "1", DETOUR: null });
      await set(call, "app", "stg", { FAR: "${dev.DETOUR}" });
      assert.deepEqual(await values(call, "app", "stg"), { FAR: null });
      const machine = as(userWith({ "rekey:*": ["*"] }, "token"));
      assert.deepEqual(await values(machine, "app", "stg"), { FAR: "is s3cret" });
      const download = (caller: Call, Names?: string[]) =>
        caller("DownloadConfigSecrets", { Project: "app", Config: "dev", Names });
      await download(machine);
      await assert.rejects(download(call), refused("AccessDeniedException", /KEY/));
      assert.equal((await download(call, ["OPEN"])).Body, '{"OPEN":"1"}');
      await assert.rejects(change({ Name: "KEY", Visibility: "masked" }), refused("AccessDeniedException"));
      await assert.rejects(change({ Name: "SEEN", OriginalName: "KEY", Visibility: "masked" }), refused("AccessDeniedException"));
      await assert.rejects(change({ Name: "KEY", OriginalValue: "s3cret", Value: "x" }), refused("AccessDeniedException"));
      const { Logs } = (await call("ListConfigLogs", { Project: "app", Config: "dev" })) as { Logs: { Id: string }[] };
      for (const { Id: LogId } of Logs)
        assert.doesNotMatch(JSON.stringify(await call("GetConfigLog", { Project: "app", Config: "dev", LogId })), /s3cret/);
      await change({ Name: "KEY", Value: "other", Visibility: "masked" });
      assert.equal((await values(call, "app", "dev")).KEY, "other");
    }));

  test("whoever may write one config does not read another by it", () =>
    withWorld(async ({ call, as, services }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateProject", { Name: "evil" });
      await set(call, "app", "prd", { KEY: "s3cret" });
      await call("SetConfigInheritable", { Project: "app", Config: "prd", Inheritable: true });
      const own = ["project/evil", "environment/evil/*", "config/evil/*", "config/app/dev_*"];
      const attacker = as(
        userWith({ "rekey:*": own, "rekey:ListProjects rekey:ImportTemplate": ["*"], "rekey:CloneConfig": ["config/app/prd"] }),
      );
      const denied = (input: Promise<unknown>) => assert.rejects(input, refused("AccessDeniedException"));
      const write = (Secrets: Record<string, string>) => set(attacker, "evil", "dev", Secrets);
      await denied(write({ A: "${app.prd.KEY}" }));
      await denied(write({ A: "x${app.nowhere.KEY}" }));
      await denied(attacker("UploadConfigSecrets", { Project: "evil", Config: "dev", File: "A=${app.prd.KEY}" }));
      await denied(
        attacker("SetConfigSecrets", {
          Project: "evil",
          Config: "dev",
          ChangeRequests: [{ Name: "A", Value: "${app.prd.KEY}" }],
        }),
      );
      await denied(
        attacker("SetConfigInherits", { Project: "evil", Config: "dev", Inherits: [{ Project: "app", Config: "prd" }] }),
      );
      await denied(attacker("CreateConfig", { Project: "app", Environment: "prd", Name: "prd_x" }));
      await denied(attacker("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_x" })); // shows the root's
      await denied(attacker("CloneConfig", { Project: "app", Config: "prd", Name: "prd_x" }));
      await denied(
        attacker("ImportTemplate", {
          Template: "projects:\n- name: evil\n  secrets:\n    dev:\n      A: ${app.prd.KEY}\n",
        }),
      );
      // Somebody who may has it refer there, then takes it back: it is not the attacker who brings it back.
      await set(call, "evil", "dev", { A: "${app.prd.KEY}", B: "1" });
      await set(call, "evil", "dev", { A: "gone" });
      const { Logs } = (await attacker("ListConfigLogs", { Project: "evil", Config: "dev" })) as { Logs: { Id: string }[] };
      await denied(attacker("RollbackConfig", { Project: "evil", Config: "dev", LogId: Logs[0]?.Id }));
      // Nor takes it along to where it may read.
      await set(call, "evil", "dev", { A: "${app.prd.KEY}" });
      await denied(attacker("CloneConfig", { Project: "evil", Config: "dev", Name: "dev_x" }));
      const { Projects } = (await attacker("ListProjects", {})) as { Projects: { Id: string }[] };
      assert.deepEqual(
        Projects.map(({ Id }) => Id),
        ["evil"],
      );
      assert.equal((await services.sql.query("select 1 as found from configs where name like '%_x'")).length, 0);
    }));

  test("a rename gives nobody what could not be read before", () =>
    withWorld(async ({ call, as }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_hidden" });
      await set(call, "app", "dev_hidden", { KEY: "s3cret" });
      const manager = as(
        userWith({
          "rekey:UpdateConfig rekey:UpdateEnvironment": ["*"],
          "rekey:GetConfigSecrets": ["config/app/dev_open", "config/app/open*"],
        }),
      );
      await assert.rejects(
        manager("UpdateConfig", { Project: "app", Config: "dev_hidden", Name: "dev_open" }),
        refused("AccessDeniedException"),
      );
      await assert.rejects(
        manager("UpdateEnvironment", { Project: "app", Environment: "dev", Slug: "open" }),
        refused("AccessDeniedException"),
      );
      await manager("UpdateConfig", { Project: "app", Config: "dev_hidden", Name: "dev_other" });
    }));

  test("writing is not reading: no values in the answer, no guesses by guards, none in the audit trail", () =>
    withWorld(async ({ call, as, services, settleAudit }) => {
      await call("CreateProject", { Name: "app" });
      await set(call, "app", "dev", { KEY: "s3cret" });
      const writer = as(userWith({ "rekey:SetConfigSecrets": ["config/app/dev"] }));
      assert.deepEqual(await set(writer, "app", "dev", { OTHER: "v4lue" }), { Names: ["OTHER"] });
      await assert.rejects(
        writer("SetConfigSecrets", {
          Project: "app",
          Config: "dev",
          ChangeRequests: [{ Name: "KEY", OriginalValue: "guess", Value: "x" }],
        }),
        refused("AccessDeniedException"),
      );
      await assert.rejects(values(writer, "app", "dev"), refused("AccessDeniedException"));
      await settleAudit();
      for (const table of ["audit_records", "events", "activity_logs", "configs"])
        assert.doesNotMatch(JSON.stringify(await services.sql.query(`select * from ${table}`)), /s3cret|v4lue|guess/);
      const [row] = await services.sql.query<{ sealed: Uint8Array }>("select sealed from config_versions order by number desc");
      assert.equal(Buffer.from(row?.sealed ?? []).includes("v4lue"), false);
    }));

  test("a config with what lives at a target is kept until that is deleted", () =>
    withWorld(async ({ call, services }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_ci" });
      const { Config } = (await call("GetConfig", { Project: "app", Config: "dev_ci" })) as { Config: { Id: string } };
      const { sql } = services;
      await sql.query(
        "insert into integrations (id, name, type, version, created_at, updated_at) values ('i', 'db', 'postgres', 1, 0, 0)",
      );
      await sql.query(
        `insert into dynamic_secrets (id, config_id, project, config, name, integration_id, settings, default_ttl_seconds,
           max_ttl_seconds, max_leases, max_leases_per_principal, share_seconds, created_at, updated_at)
         values ('d', $1, 'app', 'dev_ci', 'DB', 'i', '{}', 1, 1, 1, 1, 0, 0, 0)`,
        [Config.Id],
      );
      const why = refused("InvalidRequestException", /dynamic secret DB/);
      await assert.rejects(call("DeleteConfig", { Project: "app", Config: "dev_ci" }), why);
      await assert.rejects(call("DeleteEnvironment", { Project: "app", Environment: "dev" }), why);
      await assert.rejects(call("DeleteProject", { Project: "app" }), why);
      await assert.rejects(call("SetConfigInheritable", { Project: "app", Config: "dev_ci", Inheritable: true }), why);
      await call("UpdateConfig", { Project: "app", Config: "dev_ci", Name: "dev_cd" });
      assert.deepEqual(await sql.query("select config from dynamic_secrets"), [{ config: "dev_cd" }]);
      await sql.query("update dynamic_secrets set deleted_at = 1");
      await call("LockConfig", { Project: "app", Config: "dev_cd" });
      await assert.rejects(
        call("DeleteConfig", { Project: "app", Config: "dev_cd" }),
        refused("InvalidRequestException", /locked/),
      );
      await call("UnlockConfig", { Project: "app", Config: "dev_cd" });
      await call("DeleteConfig", { Project: "app", Config: "dev_cd" });
    }));

  test("a config shows its rotated secrets' current values, as they are", () =>
    withWorld(async ({ call, services }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_ci" });
      const { Config } = (await call("GetConfig", { Project: "app", Config: "dev" })) as { Config: { Id: string } };
      const SecretString = JSON.stringify({
        username: "u",
        password: "p${A}",
        host: "h",
        port: 5432,
        dbname: "d",
        engine: "postgres",
      });
      await call("CreateSecret", { Name: "db", SecretString, ClientRequestToken: "12345678-1234-1234-1234-123456789012" });
      const { sql } = services;
      await sql.query(
        "insert into integrations (id, name, type, version, created_at, updated_at) values ('i', 'db', 'postgres', 1, 0, 0)",
      );
      await sql.query(
        `insert into rotated_secrets (id, config_id, name, integration_id, secret_id, rotation_period_seconds, created_at)
         select 'r', $1, 'DB', 'i', id, 3600, 0 from secrets`,
        [Config.Id],
      );
      await set(call, "app", "dev", { A: "1", URL: "${DB_USERNAME}:${DB_PASSWORD}@${DB_HOST}" });
      const shown = { A: "1", DB_DATABASE: "d", DB_HOST: "h", DB_PASSWORD: "p${A}", DB_PORT: "5432", DB_USERNAME: "u" };
      for (const config of ["dev", "dev_ci"]) assert.deepEqual(await values(call, "app", config), { ...shown, URL: "u:p${A}@h" });
      await assert.rejects(
        set(call, "app", "dev", { DB_PASSWORD: "x" }),
        refused("InvalidRequestException", /rotated secret DB/),
      );
    }));
});
