// The engine rotates keys that their target makes: of AWS IAM, and of an HTTP API that is declared in JSON.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ServiceError } from "../../src/core/error.ts";
import type { Secret } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { builtinFunction } from "../../src/functions/builtin.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { openWorld, type World } from "../support/engine-world.ts";
import { declarationAt, httpApiWorld, routes } from "../support/http-api-world.ts";
import { startIamEndpoint } from "../support/iam-endpoint.ts";

const http = httpApiWorld();

describe("rotation of keys through the engine", () => {
  let world: World;
  let engine: Engine;
  let declaration: unknown;
  let refused: ServiceError | undefined;
  before(async () => {
    const sql = openSqlite(":memory:");
    await migrate(sql);
    world = await openWorld(sql, { settings: { callMs: 2_000 } });
    const findFunction = async (arn: string) =>
      arn.endsWith(":api-keys")
        ? ({ kind: "http-api", strategy: "issuer", declaration, refusal: async () => refused } as const)
        : builtinFunction(arn);
    engine = startEngine({ ...world.parts, findFunction });
    declaration = declarationAt(http.api.url);
  });
  after(async () => {
    await engine.stop();
    await world.sql.close();
  });

  async function rotate(secret: Secret, functionName: string): Promise<string> {
    const id = await world.begin(secret, { functionName });
    engine.wake();
    const { state, error } = await world.ended(id);
    assert.equal(state, "succeeded", error);
    return id;
  }

  /** The engine ends what is due by itself. */
  async function until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      engine.wake();
      await sleep(10);
    }
  }

  const iam = "RekeyIAMAccessKeyRotation";
  const atOnce = { rotationPolicy: { retireAfterSeconds: 0 } };

  test("IAM: the old key lives through its grace period, a lost key does not, and no key is deleted to make room", async () => {
    await using aws = await startIamEndpoint();
    aws.delay = 1;
    const { id, secret: secretAccessKey } = aws.addUser("deploy");
    const first = { engine: "aws-iam", username: "deploy", accessKeyId: id, secretAccessKey, endpoint: aws.url };
    const secret = await world.newSecret("iam/deploy", first, { rotationPolicy: { retireAfterSeconds: 3_600 } });
    aws.faults.set("CreateAccessKey", ["lost"]);
    await rotate(secret, iam);
    const current = await world.credential(secret, "AWSCURRENT");
    assert.deepEqual(
      aws
        .keysOf("deploy")
        .map((key) => key.id)
        .sort(),
      [id, String(current?.accessKeyId)].sort(),
    );
    const again = await world.begin(secret, { functionName: iam });
    engine.wake();
    const { state, error, remedy } = await world.ended(again);
    assert.equal(state, "blocked");
    assert.match(`${error} ${remedy}`, new RegExp(`${id} is in its grace period .* rekey rotation retire`));
    assert.equal(aws.keysOf("deploy").length, 2);
  });

  test("IAM: by a superuser, from key to key, each old one deleted", async () => {
    await using aws = await startIamEndpoint();
    const boss = aws.addUser("boss", { on: "everybody" });
    const admin = { accessKeyId: boss.id, secretAccessKey: boss.secret, endpoint: aws.url };
    const master = await world.newSecret("iam/boss", admin);
    const { id, secret: secretAccessKey } = aws.addUser("app", { actions: [] });
    const place = { engine: "aws-iam", username: "app", endpoint: aws.url, masterarn: master.arn };
    const secret = await world.newSecret("iam/app", { ...place, accessKeyId: id, secretAccessKey }, atOnce);
    for (const _ of ["first", "second", "third"]) {
      await rotate(secret, iam);
      const current = await world.credential(secret, "AWSCURRENT");
      await until(() => aws.keysOf("app").length === 1);
      assert.equal(aws.keysOf("app")[0]?.id, current?.accessKeyId);
    }
  });

  test("IAM: a lost key that is not listed at first takes the second place, until it is listed and deleted", async () => {
    await using aws = await startIamEndpoint();
    const { id, secret: secretAccessKey } = aws.addUser("late");
    const first = { engine: "aws-iam", username: "late", accessKeyId: id, secretAccessKey, endpoint: aws.url };
    const secret = await world.newSecret("iam/late", first);
    aws.faults.set("CreateAccessKey", ["lost"]);
    aws.listDelay = 2;
    await rotate(secret, iam);
    const current = await world.credential(secret, "AWSCURRENT");
    const live = aws.keysOf("late").map((key) => key.id);
    assert.deepEqual(live.sort(), [id, String(current?.accessKeyId)].sort());
    assert.ok(aws.calls.filter(({ action }) => action === "CreateAccessKey").length >= 3);
  });

  test("HTTP API: a lost key is found by its mark and deleted; the old one after its grace period; the master key too", async () => {
    const { user, current, admin } = http.newAccess();
    const master = await world.newSecret("api/master", { engine: "http-api", ...admin });
    const secret = await world.newSecret("api/app", { ...current, masterarn: master.arn }, atOnce);
    http.trick(routes.create, (request, _response, run) => {
      run();
      request.socket.destroy();
    });
    http.api.delay = 1;
    await rotate(secret, "api-keys");
    http.api.delay = 0;
    const made = await world.credential(secret, "AWSCURRENT");
    await until(() => http.keysOf(user).length === 1);
    assert.deepEqual(http.keysOf(user), [made?.keyId]);

    await world.put(master, { engine: "http-api", ...admin, masterarn: master.arn });
    declaration = {
      ...declarationAt(http.api.url),
      create: { ...declarationAt(http.api.url).create, json: { name: "rekey-{{rotationId}}", admin: true } },
    };
    await rotate(await world.reload(master), "api-keys");
    declaration = declarationAt(http.api.url);
    const newMaster = await world.credential(master, "AWSCURRENT");
    assert.notEqual(newMaster?.apiKey, admin?.apiKey);
    await rotate(secret, "api-keys");
    await until(() => http.keysOf(user).length === 1);
  });

  test("attack: an id that no login proves deletes no key that somebody made by hand", async () => {
    const victim = http.newAccess();
    const { user, current, admin } = http.newAccess();
    const master = await world.newSecret("api/unproven-master", { engine: "http-api", ...admin });
    const claims = { ...current, keyId: victim.current.keyId, masterarn: master.arn };
    const secret = await world.newSecret("api/unproven", claims, atOnce);
    const proven = declarationAt(http.api.url);
    declaration = { ...proven, test: { ...proven.test, expect: { json: { user: "{{current.user}}" } } } };
    await rotate(secret, "api-keys");
    const second = await world.credential(secret, "AWSCURRENT");
    await rotate(secret, "api-keys");
    const third = await world.credential(secret, "AWSCURRENT");
    await until(() => !http.keysOf(user).includes(String(second?.keyId)));
    declaration = proven;
    assert.deepEqual(http.keysOf(user).sort(), [String(current.keyId), String(third?.keyId)].sort());
    assert.deepEqual(http.keysOf(victim.user), [victim.current.keyId]);
  });

  test("a function that the service may not invoke any more rotates nothing", async () => {
    const { user, current, admin } = http.newAccess();
    const master = await world.newSecret("api/refused-master", { engine: "http-api", ...admin });
    const secret = await world.newSecret("api/refused", { ...current, masterarn: master.arn });
    refused = new ServiceError("AccessDeniedException", "the function's policy does not allow this");
    const id = await world.begin(secret, { functionName: "api-keys", windowMs: 500 });
    engine.wake();
    const { state, outcome } = await world.ended(id);
    refused = undefined;
    assert.deepEqual([state, outcome], ["failed", "denied"]);
    assert.deepEqual(http.keysOf(user), [current.keyId]);
  });
});
