// What a config shows of leases, which live in a real PostgreSQL.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { newFolder, refused, userWith } from "../support/config-world.ts";
import { leasedUsers, leaseWorld, onServer, place } from "../support/lease-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { forEachStore } from "../support/stores.ts";

let server: PostgresServer;
before(async () => {
  if (postgresSkip === false) server = await startPostgres();
});
after(async () => server?.[Symbol.asyncDispose]());

forEachStore((_name, open) => {
  test("leases come along when they are asked for, by those who may have one", { skip: postgresSkip }, async () => {
    await using world = await leaseWorld(await open(), newFolder());
    const { call } = world;
    await onServer(server, "drop role if exists readers");
    await world.setUp(server);
    world.engine();
    await call("SetConfigSecrets", { ...place, Secrets: { OWN: "1" } });
    const users = await leasedUsers(server);
    const plain = await call("DownloadConfigSecrets", place);
    assert.ok(plain.ETag);
    const include = { ...place, IncludeDynamicSecrets: true };
    const leased = await call("DownloadConfigSecrets", { ...include, DynamicSecretsTtlSeconds: 600, IfNoneMatch: plain.ETag });
    assert.equal(leased.ETag, undefined, "what is leased is not to be shown again");
    const values = JSON.parse(String(leased.Body)) as Record<string, string>;
    assert.deepEqual(
      ["OWN", "DB_USERNAME", "DB_PASSWORD", "DB_LEASE_ID", "DB_LEASE_EXPIRATION"].filter((name) => !values[name]),
      [],
    );
    const { Secrets } = (await call("ListConfigSecrets", { ...include, Names: ["DB_USERNAME"] })) as {
      Secrets: { Name: string }[];
    };
    assert.ok(Secrets.some(({ Name }) => Name === "DB_USERNAME"));
    assert.equal((await leasedUsers(server)).length, users.length + 2);
    await call("DownloadConfigSecrets", { ...include, Names: ["OWN"] });
    const reader = userWith({ "rekey:GetConfigSecrets": ["config/shop/dev"] });
    await assert.rejects(call("DownloadConfigSecrets", include, reader), refused("AccessDeniedException", /IssueLease/));
    // Values that cannot be rendered cost no lease.
    await call("SetConfigSecrets", { ...place, Secrets: { A_B: "1", A__B: "2" } });
    await assert.rejects(
      call("DownloadConfigSecrets", { ...include, NameTransformer: "camel" }),
      refused("ValidationException", /A_B and A__B/),
    );
    assert.equal((await leasedUsers(server)).length, users.length + 2);
  });

  test("dynamic secrets and inheritance do not go together", { skip: postgresSkip }, async () => {
    await using world = await leaseWorld(await open(), newFolder());
    const { call } = world;
    await onServer(server, "drop role if exists readers");
    await world.setUp(server);
    const why = refused("InvalidRequestException", /do not go together/);
    await assert.rejects(call("SetConfigInheritable", { ...place, Inheritable: true }), why);
    await call("SetConfigInheritable", { Project: "shop", Config: "prd", Inheritable: true });
    const Inherits = [{ Project: "shop", Config: "prd" }];
    await assert.rejects(call("SetConfigInherits", { ...place, Inherits }), why);
    await call("SetConfigInherits", { Project: "shop", Config: "stg", Inherits });
    const recipe = { Project: "shop", Name: "DB", Integration: "main", Settings: { roles: ["readers"] } };
    for (const Config of ["stg", "prd"]) await assert.rejects(call("CreateDynamicSecret", { ...recipe, Config }), why);
  });

  test("what is leased and what is written do not hide each other", { skip: postgresSkip }, async () => {
    await using world = await leaseWorld(await open(), newFolder());
    const { call } = world;
    await onServer(server, "drop role if exists readers");
    await world.setUp(server);
    const set = (Config: string, Secrets: object) => call("SetConfigSecrets", { Project: "shop", Config, Secrets });
    for (const name of ["DB_PASSWORD", "DB_LEASE_ID"])
      await assert.rejects(set("dev", { [name]: "x" }), refused("InvalidRequestException", /dynamic secret DB/));
    await set("dev", { DB_NAME: "x" });
    await set("stg", { DB_PASSWORD: "x" });
    const recipe = { Project: "shop", Config: "stg", Name: "DB", Integration: "main", Settings: { roles: ["readers"] } };
    await assert.rejects(call("CreateDynamicSecret", recipe), refused("InvalidRequestException", /DB_PASSWORD already/));
  });
});
