import assert from "node:assert/strict";
import { test } from "node:test";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { serviceTokenPolicy } from "../../src/core/service-token.ts";
import { raiseIdentityVersion } from "../../src/store/identity.ts";
import { deleteServiceTokensOf } from "../../src/store/service-tokens.ts";
import { newConfig } from "../support/config-rows.ts";
import { type IdentityWorld, identityWorld } from "../support/identity-world.ts";
import { account, region } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

const arnOf = (kind: string, path: string) => `arn:aws:rekey:${region}:${account}:${kind}/${path}`;

forEachStore((_name, open) => {
  async function setUp() {
    const sql = await open();
    const w: IdentityWorld = await identityWorld(sql);
    const ids = { dev: await newConfig(sql, "shop", "dev", "dev"), other: await newConfig(sql, "shop", "prd", "prd") };
    const create = async (input: object = {}) => {
      const { Token } = await w.call("service-tokens create", { Project: "shop", Config: "dev", Name: "ci", ...input });
      return Token as { Id: string; Key: string; Access: string };
    };
    const authorize = createAuthorizer();
    const may = async (token: string, action: string, arn: string, policy?: string) => {
      const { principal, region } = await w.authenticator.bearer(token, "127.0.0.1");
      const facts = { sourceIp: "127.0.0.1", userAgent: "", secure: true, region, now: w.clock.now };
      return authorize(principal, action, { arn, context: {}, policy }, facts) === undefined;
    };
    return { sql, w, ids, create, may };
  }
  const refused = (code: string) => ({ name: "ServiceError", code });

  test("a token reads, or reads and writes, its one config, and is listed without itself", async () => {
    const { w, create, may } = await setUp();
    const reads = await create();
    w.clock.now += 1;
    const writes = await create({ Name: "cd", Access: "read/write" });
    assert.match(reads.Key, /^dp\.st\.dev\.[A-Za-z0-9]{40}$/);
    assert.equal(await may(reads.Key, "rekey:GetConfigSecrets", arnOf("config", "shop/dev")), true);
    assert.equal(await may(reads.Key, "rekey:SetConfigSecrets", arnOf("config", "shop/dev")), false);
    assert.equal(await may(writes.Key, "rekey:SetConfigSecrets", arnOf("config", "shop/dev")), true);
    assert.equal(await may(reads.Key, "rekey:IssueLease", arnOf("dynamic-secret", "shop/dev/DB")), true);
    const listed = await w.call("service-tokens list", { Project: "shop", Config: "dev" });
    assert.deepEqual(
      (listed.Tokens as { Name: string }[]).map(({ Name }) => Name),
      ["ci", "cd"],
    );
    assert.equal(JSON.stringify([listed, w.records]).includes(reads.Key), false);
    const { principal } = await w.authenticator.bearer(reads.Key, "127.0.0.1");
    assert.deepEqual(principal.boundConfig?.config, "dev");
  });

  test("a token reaches no other config, project, secret or role, whatever their policies say of everyone", async () => {
    const { w, create, may } = await setUp();
    const { Key } = await create({ Access: "read/write" });
    for (const action of ["GetConfigSecrets", "SetConfigSecrets", "GetConfig"]) {
      assert.equal(await may(Key, `rekey:${action}`, arnOf("config", "shop/prd")), false);
      assert.equal(await may(Key, `rekey:${action}`, arnOf("config", "shop/dev_2")), false);
      assert.equal(await may(Key, `rekey:${action}`, arnOf("config", "shop/dev/../prd")), false);
    }
    assert.equal(await may(Key, "rekey:IssueLease", arnOf("dynamic-secret", "shop/prd/DB")), false);
    assert.equal(await may(Key, "rekey:RevokeLease", arnOf("lease", "shop/dev_2/DB/1")), false);
    const everyone = JSON.stringify({
      Version: "2012-10-17",
      Statement: [{ Effect: "Allow", Principal: "*", Action: "secretsmanager:*", Resource: "*" }],
    });
    const secret = `arn:aws:secretsmanager:${region}:${account}:secret:a-AAAAAA`;
    assert.equal(await may(Key, "secretsmanager:GetSecretValue", secret, everyone), false);
    const role = await w.newRole("open", { Effect: "Allow", Principal: { AWS: "*" }, Action: "sts:AssumeRole" });
    const assume = w.bearer(Key, "sts assume-role", { RoleArn: role, RoleSessionName: "me" });
    await assert.rejects(assume, refused("AccessDeniedException"));
  });

  test("a token makes no token, not of its config either, and no user or key", async () => {
    const { w, create } = await setUp();
    const { Key, Id } = await create({ Access: "read/write" });
    const tries: [string, object][] = [
      ["service-tokens create", { Name: "more" }],
      ["service-tokens list", {}],
      ["service-tokens delete", { Id }],
      ["trusted-ips add", { Ip: "0.0.0.0/0" }],
      ["trusted-ips list", {}],
      ["tokens create", { Name: "x", UserName: "root" }],
      ["users create", { UserName: "x" }],
      ["access-keys create", { UserName: "x" }],
    ];
    for (const [name, input] of tries) {
      await assert.rejects(w.bearer(Key, name, input), refused("AccessDeniedException"), name);
    }
    await assert.rejects(w.bearer(Key, "tokens create", { Name: "x" }), refused("ValidationException"));
  });

  test("an ended, expired or deleted config's token is refused from the next request on", async () => {
    const { sql, w, ids, create } = await setUp();
    const ask = (Key: string) => w.bearer(Key, "sts get-caller-identity", {});
    const [byId, byToken, expiring, orphan] = [
      await create(),
      await create(),
      await create({ ExpiresAt: new Date(w.clock.now + 60_000).toISOString() }),
      await create({ Config: "prd" }),
    ];
    await ask(byId.Key);
    await w.call("service-tokens delete", { Project: "shop", Config: "dev", Id: byId.Id });
    await assert.rejects(ask(byId.Key), refused("UnrecognizedClientException"));
    const elsewhere = w.call("service-tokens delete", { Project: "shop", Config: "prd", Token: byToken.Key });
    await assert.rejects(elsewhere, refused("ResourceNotFoundException"));
    await ask(byToken.Key);
    await w.call("service-tokens delete", { Project: "shop", Config: "dev", Token: byToken.Key });
    await assert.rejects(ask(byToken.Key), refused("UnrecognizedClientException"));
    await ask(expiring.Key);
    w.clock.now += 61_000;
    await assert.rejects(ask(expiring.Key), refused("ExpiredTokenException"));
    await ask(orphan.Key);
    await sql.transaction(async (tx) => {
      await deleteServiceTokensOf(tx, ids.other);
      await tx.query("delete from configs where id = $1", [ids.other]);
    });
    await assert.rejects(ask(orphan.Key), refused("UnrecognizedClientException"));
    assert.equal(JSON.stringify(w.records).includes(byToken.Key), false);
  });

  test("a token follows its config's new name, and has no right under the old one", async () => {
    const { sql, ids, create, may } = await setUp();
    const { Key } = await create();
    assert.equal(await may(Key, "rekey:GetConfigSecrets", arnOf("config", "shop/dev")), true);
    await sql.transaction(async (tx) => {
      await raiseIdentityVersion(tx);
      await tx.query("update configs set name = 'development' where id = $1", [ids.dev]);
    });
    assert.equal(await may(Key, "rekey:GetConfigSecrets", arnOf("config", "shop/dev")), false);
    assert.equal(await may(Key, "rekey:GetConfigSecrets", arnOf("config", "shop/development")), true);
  });

  test("nobody makes a token that may do more than its maker", async () => {
    const { w } = await setUp();
    const alice = await w.newUser("alice");
    const attach = async (name: string, Action: string[]) => {
      const PolicyArn = await w.newPolicy(name, { Effect: "Allow", Action, Resource: "*" });
      await w.call("policies attach", { PolicyArn, UserName: "alice" });
    };
    const make = (Access: string) =>
      w.call("service-tokens create", { Project: "shop", Config: "dev", Name: "x", Access }, alice);
    await attach("makes", ["rekey:CreateServiceToken"]);
    await assert.rejects(make("read"), refused("AccessDeniedException"));
    await attach("reads", ["rekey:GetConfigSecrets", "rekey:IssueLease"]);
    await assert.rejects(make("read"), refused("AccessDeniedException"));
    await attach("ends", ["rekey:RenewLease", "rekey:RevokeLease"]);
    await make("read");
    await assert.rejects(make("read/write"), refused("AccessDeniedException"));
    const past = { Project: "shop", Config: "dev", Name: "x", ExpiresAt: new Date(w.clock.now).toISOString() };
    await assert.rejects(w.call("service-tokens create", past), refused("ValidationException"));
  });
});

test("the rights of a token of the longest names are a session policy still", () => {
  const bound = { configId: "1", project: "p".repeat(64), environment: "e".repeat(60), config: "c".repeat(60) };
  const arn = arnOf("service-token", "0".repeat(36));
  assert.ok(serviceTokenPolicy(arn, account, bound, "read/write").length <= 2048);
});
