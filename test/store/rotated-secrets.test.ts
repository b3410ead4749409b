// Rotated secrets over each store: who may make them, and what meets what.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import pg from "pg";
import { periodRules } from "../../src/core/rotated-secret.ts";
import { loadConfig } from "../../src/store/configs.ts";
import { type ConfigWorld, configWorld, newFolder, refused, userWith } from "../support/config-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { forEachStore } from "../support/stores.ts";

let server: PostgresServer;
let admin: pg.Client;
before(async () => {
  if (postgresSkip !== false) return;
  server = await startPostgres();
  admin = new pg.Client(server.url);
  await admin.connect();
  await admin.query("create role manager superuser login password 'manager'");
});
after(async () => {
  await admin?.end();
  await server?.[Symbol.asyncDispose]();
});

const place = { Project: "shop", Config: "dev" };
const skip = postgresSkip;

test("a period is a schedule of whole units, and what is no schedule is refused", () => {
  assert.deepEqual(periodRules(2_592_000, false), { scheduleExpression: "rate(30 days)" });
  assert.deepEqual(periodRules(86_400, false), { scheduleExpression: "rate(1 day)" });
  assert.deepEqual(periodRules(43_200, false), { scheduleExpression: "rate(12 hours)" });
  assert.deepEqual(periodRules(5_400, true), { scheduleExpression: "rate(90 minutes)" });
  for (const seconds of [3_600, 90_001, 5_400, 1]) {
    assert.throws(() => periodRules(seconds, false), /RotationPeriodSeconds must be whole hours, 4 at least/);
  }
});

forEachStore((_name, open) => {
  async function newWorld(): Promise<ConfigWorld> {
    const world = await configWorld(await open(), newFolder());
    const { host, port } = server;
    await world.call("CreateProject", { Name: "shop" });
    const Data = { host, port, username: "manager", password: "manager" };
    await world.call("CreateIntegration", { Name: "main", Type: "postgres", Data });
    return world;
  }
  async function newInput(more: object = {}) {
    const users = ["1", "2"].map((end) => `u_${randomUUID().slice(0, 8)}_${end}`);
    for (const user of users) await admin.query(`create role ${user} login password 'first'`);
    const Credentials = users.map((USERNAME) => ({ USERNAME, PASSWORD: "first" }));
    return { ...place, Name: "DB", Integration: "main", RotationPeriodSeconds: 86_400, Credentials, ...more };
  }
  const generation = async ({ services }: ConfigWorld, name: string): Promise<number> => {
    const [row] = await services.sql.query<{ id: string }>("select id from configs where name = $1", [name]);
    return (await loadConfig(services.sql, row?.id ?? ""))?.generation ?? 0;
  };

  test("whoever makes one needs leave to use the integration, too", { skip }, async () => {
    await using world = await newWorld();
    const input = await newInput();
    const maker = userWith({ "rekey:CreateRotatedSecret": ["rotated-secret/shop/dev/*"] });
    await assert.rejects(world.as(maker)("CreateRotatedSecret", input), refused("AccessDeniedException", /rekey:UseIntegration/));
    const both = userWith({
      "rekey:CreateRotatedSecret rekey:RotateNow": ["rotated-secret/shop/dev/*"],
      "rekey:UseIntegration": ["integration/*"],
    });
    await assert.rejects(world.as(both)("CreateRotatedSecret", { ...input, Config: "prd" }), refused("AccessDeniedException"));
    const { RotatedSecret } = (await world.as(both)("CreateRotatedSecret", input)) as { RotatedSecret: { Id: string } };
    await world.as(both)("RotateNow", { ...place, Id: RotatedSecret.Id });
    await assert.rejects(world.as(both)("DeleteRotatedSecret", { ...place, Id: "DB" }), refused("AccessDeniedException"));
    const stranger = userWith({ "rekey:GetRotatedSecret": ["rotated-secret/shop/prd/*"] });
    await assert.rejects(
      world.as(stranger)("GetRotatedSecret", { ...place, Id: RotatedSecret.Id }),
      refused("AccessDeniedException"),
    );
  });

  test("configs that read it know of each change; those that do not, do not", { skip }, async () => {
    await using world = await newWorld();
    await world.call("CreateConfig", { Project: "shop", Environment: "dev", Name: "dev_mine" });
    const before = await Promise.all(["dev", "dev_mine", "prd"].map((name) => generation(world, name)));
    await world.call("CreateRotatedSecret", await newInput());
    const afterwards = await Promise.all(["dev", "dev_mine", "prd"].map((name) => generation(world, name)));
    assert.deepEqual(
      afterwards.map((value, index) => value > (before[index] ?? 0)),
      [true, true, false],
    );
    const { Body } = (await world.call("DownloadConfigSecrets", { ...place, Config: "dev_mine" })) as { Body: string };
    assert.ok((JSON.parse(Body) as Record<string, string>).DB_PASSWORD);
  });

  test("of two that are made at once under one name, one is", { skip }, async () => {
    await using world = await newWorld();
    const inputs = [await newInput(), await newInput()];
    const ends = await Promise.allSettled(inputs.map((input) => world.call("CreateRotatedSecret", input)));
    assert.deepEqual(ends.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    const secrets = await world.services.sql.query("select id from secrets where owning_service = 'rekey'");
    assert.equal(secrets.length, 1, "of the other nothing is left");
    const { RotatedSecrets } = (await world.call("ListRotatedSecrets", place)) as { RotatedSecrets: unknown[] };
    assert.equal(RotatedSecrets.length, 1);
  });

  test("what is used is not deleted, and names are used once", { skip }, async () => {
    await using world = await newWorld();
    await world.call("CreateConfig", { Project: "shop", Environment: "dev", Name: "dev_own" });
    const own = { ...place, Config: "dev_own" };
    await world.call("CreateRotatedSecret", await newInput(own));
    await world.call("CreateRotatedSecret", await newInput({ ...own, Name: "OTHER" }));
    await assert.rejects(world.call("DeleteConfig", own), refused("InvalidRequestException", /rotated secret/));
    await assert.rejects(
      world.call("DeleteIntegration", { Integration: "main" }),
      refused("InvalidRequestException", /rotated secret/),
    );
    await assert.rejects(
      world.call("UpdateRotatedSecret", { ...own, Id: "DB", Name: "OTHER" }),
      refused("ResourceExistsException"),
    );
    await assert.rejects(world.call("CreateRotatedSecret", await newInput(own)), refused("ResourceExistsException"));
    const taken = world.call("SetConfigSecrets", { ...own, Secrets: { DB_PASSWORD: "mine" } });
    await assert.rejects(taken, refused("InvalidRequestException", /rotated secret DB/));
    for (const Id of ["DB", "OTHER"]) await world.call("DeleteRotatedSecret", { ...own, Id });
    await world.call("DeleteConfig", own);
    await world.call("DeleteIntegration", { Integration: "main" });
  });

  test("what one shows already no other rotates", { skip }, async () => {
    await using world = await newWorld();
    const input = await newInput();
    await world.call("CreateRotatedSecret", input);
    const again = { ...input, Config: "prd", Credentials: [...input.Credentials].reverse() };
    const why = refused(
      "ResourceExistsException",
      /rotated already, as DB of config shop\/dev: refer to that with \$\{shop\.dev\.DB_PASSWORD\}/,
    );
    await assert.rejects(world.call("CreateRotatedSecret", again), why);
    const maker = userWith({ "rekey:CreateRotatedSecret rekey:UseIntegration": ["*"] });
    await assert.rejects(
      world.as(maker)("CreateRotatedSecret", again),
      refused("ResourceExistsException", /in another config\.$/),
    );
    await world.call("DeleteRotatedSecret", { ...place, Id: "DB" });
    await world.call("CreateRotatedSecret", again);
  });

  test("rotations wait for whoever pauses them, and no value is in the audit trail", { skip }, async () => {
    await using world = await newWorld();
    const input = await newInput({ RotateImmediately: true });
    const { RotatedSecret } = (await world.call("CreateRotatedSecret", input)) as {
      RotatedSecret: { Id: string; SecretArn: string };
    };
    await world.services.sql.query("update secrets set rotation_enabled = 0, row_version = row_version + 1 where arn = $1", [
      RotatedSecret.SecretArn,
    ]);
    const one = { ...place, Id: "DB" };
    await assert.rejects(world.call("RotateNow", one), refused("InvalidRequestException", /paused/));
    const shown = (await world.call("GetRotatedSecret", one)) as { RotatedSecret: { State: string } };
    assert.equal(shown.RotatedSecret.State, "paused");
    const resumed = (await world.call("ResumeRotatedSecret", one)) as { RotatedSecret: { State: string; NextRotationAt: Date } };
    assert.equal(resumed.RotatedSecret.State, "active");
    await world.settleAudit();
    const kept = JSON.stringify(await world.services.sql.query("select * from audit_records"));
    assert.match(kept, /CreateRotatedSecret/);
    assert.doesNotMatch(kept, /\\"first\\"|"first"|Credentials/);
  });
});
