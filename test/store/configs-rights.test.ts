// Detours by which rights could be widened with what configs offer, on both databases.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references of configs look like that
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Principal } from "../../src/core/principal.ts";
import { configWorldOn, refused, set, userWith, values } from "../support/config-world.ts";
import { account } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

const arnOf = (resource: string) => `arn:aws:rekey:*:${account}:${resource}`;

/** Somebody who may do all but some things. */
function userWithout(denied: Readonly<Record<string, string>>): Principal {
  const user = userWith({ "rekey:*": ["*"] });
  const Statement = Object.entries(denied).map(([Action, resource]) => ({ Effect: "Deny", Action, Resource: arnOf(resource) }));
  return {
    ...user,
    policies: [...user.policies, { name: "not", document: JSON.stringify({ Version: "2012-10-17", Statement }) }],
  };
}

forEachStore((_name, open) => {
  const withWorld = configWorldOn(open);
  const inDev = { Project: "app", Config: "dev" };
  const denied = (call: Promise<unknown>) => assert.rejects(call, refused("AccessDeniedException"));

  test("whoever may write a branch and read its root does not have the branch's values promoted to there", () =>
    withWorld(async ({ call, as }) => {
      await call("CreateProject", { Name: "app" });
      await call("CreateConfig", { Project: "app", Environment: "dev", Name: "dev_ops" });
      await set(call, "app", "dev_ops", { KEY: "s3cret" });
      const writer = as(
        userWith({
          "rekey:SetConfigSecrets": ["config/app/dev", "config/app/dev_ops"],
          "rekey:GetConfigSecrets": ["config/app/dev"],
        }),
      );
      const promote = (request: object) =>
        writer("SetConfigSecrets", { Project: "app", Config: "dev_ops", ChangeRequests: [{ ShouldPromote: true, ...request }] });
      await denied(promote({ Name: "KEY" }));
      await denied(promote({ Name: "SEEN", OriginalName: "KEY" }));
      await denied(promote({ Name: "KEY", Visibility: "unmasked" }));
      assert.deepEqual(await values(writer, "app", "dev"), {});
      await promote({ Name: "KEY", Value: "my own" });
      assert.deepEqual(await values(writer, "app", "dev"), { KEY: "my own" });
    }));

  test("no type that a value is said to be of tells whoever may not read it what it looks like", () =>
    withWorld(async ({ call, as }) => {
      await call("CreateProject", { Name: "app" });
      await call("SetConfigSecrets", {
        ...inDev,
        ChangeRequests: [{ Name: "PIN", Value: "1234", Visibility: "restricted" }],
      });
      await set(call, "app", "dev", { PLAIN: "1234" });
      const ask = (caller: typeof call, Name: string, ValueType: string) =>
        caller("SetConfigSecrets", { ...inDev, ChangeRequests: [{ Name, ValueType }] });
      const writer = as(userWith({ "rekey:SetConfigSecrets": ["config/app/dev"] }));
      for (const type of ["integer", "uuidv4"]) {
        await denied(ask(writer, "PLAIN", type));
        await denied(ask(call, "PIN", type)); // a person, whoever it is
      }
      await ask(call, "PLAIN", "integer");
    }));

  test("whoever may make integrations does not have the server speak to its own machine by AWS's endpoints", () =>
    withWorld(async ({ as }) => {
      const key = { accessKeyId: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "x".repeat(40) };
      const maker = as(userWith({ "rekey:CreateIntegration": ["*"] }));
      for (const name of ["endpoint", "stsEndpoint"])
        for (const url of ["http://127.0.0.1:1", "http://localhost:1", "https://[::1]:1"])
          await assert.rejects(
            maker("CreateIntegration", { Name: "aws", Type: "aws-iam", Data: { ...key, [name]: url } }),
            refused("AccessDeniedException", /AllowFunctionAddresses/),
          );
    }));

  test("nobody makes a token with a right that is denied to its maker, be it to one dynamic secret", () =>
    withWorld(async ({ call, as, services: { sql } }) => {
      await call("CreateProject", { Name: "app" });
      const { Config } = (await call("GetConfig", inDev)) as { Config: { Id: string } };
      await sql.query(
        "insert into integrations (id, name, type, version, created_at, updated_at) values ('i', 'db', 'postgres', 1, 0, 0)",
      );
      await sql.query(
        `insert into dynamic_secrets (id, config_id, project, config, name, integration_id, settings, default_ttl_seconds,
           max_ttl_seconds, max_leases, max_leases_per_principal, share_seconds, created_at, updated_at)
         values ('d', $1, 'app', 'dev', 'ADMIN', 'i', '{}', 1, 1, 1, 1, 0, 0, 0)`,
        [Config.Id],
      );
      const make = (of: Readonly<Record<string, string>>, Access = "read") =>
        as(userWithout(of))("CreateServiceToken", { ...inDev, Name: "x", Access });
      await make({ "rekey:IssueLease": "dynamic-secret/app/dev/OTHER" });
      await denied(make({ "rekey:IssueLease": "dynamic-secret/app/dev/ADMIN" }));
      await denied(make({ "rekey:RevokeLease": "lease/app/dev/*" }));
      await denied(make({ "rekey:RenewLease": "lease/*" }));
      await denied(make({ "rekey:SetConfigSecrets": "config/app/dev" }, "read/write"));
      await denied(make({ "rekey:SetSecretNote": "config/app/dev" }, "read/write"));
    }));

  test("a config has so many dynamic secrets that one download does not make users without end", () =>
    withWorld(async ({ call, services: { sql } }) => {
      await call("CreateProject", { Name: "app" });
      const { Config } = (await call("GetConfig", inDev)) as { Config: { Id: string } };
      await sql.query(
        "insert into integrations (id, name, type, version, created_at, updated_at) values ('i', 'db', 'postgres', 1, 0, 0)",
      );
      for (let n = 0; n < 49; n++)
        await sql.query(
          `insert into dynamic_secrets (id, config_id, project, config, name, integration_id, settings, default_ttl_seconds,
             max_ttl_seconds, max_leases, max_leases_per_principal, share_seconds, created_at, updated_at)
           values ($1, $2, 'app', 'dev', $3, 'i', '{}', 1, 1, 1, 1, 0, 0, 0)`,
          [`d${n}`, Config.Id, `DB${n}`],
        );
      const make = (Name: string) =>
        call("CreateDynamicSecret", { ...inDev, Name, Integration: "db", Settings: { roles: ["readers"] }, SkipCheck: true });
      await make("LAST");
      await assert.rejects(make("BEYOND"), refused("LimitExceededException", /50/));
    }));
});
