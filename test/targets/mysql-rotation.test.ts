// The engine rotates users of MySQL 8, over a wire fake of ours: see test/support/mysql-wire.ts.
import assert from "node:assert/strict";
import { randomInt, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { generatePassword, rotationPasswordOptions } from "../../src/core/password.ts";
import { type Secret, versionWith } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { listRotations } from "../../src/store/rotations.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { mysql } from "../../src/targets/mysql.ts";
import { openWorld, type World } from "../support/engine-world.ts";
import { type MySqlWire, startMySqlWire } from "../support/mysql-wire.ts";
import { tools } from "./contract.ts";

const functionName = "SecretsManagerRDSMySQLRotationSingleUser";
const good = () => generatePassword(rotationPasswordOptions(), randomInt);

describe("the engine over a wire fake of MySQL 8", () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-mysql-"));
  let wire: MySqlWire;
  let world: World;
  let engine: Engine;
  /** Given out before good ones. */
  let weak: string[] = [];
  before(async () => {
    wire = await startMySqlWire({ validatePassword: true });
    const sql = openSqlite(join(folder, "rekey.db"));
    await migrate(sql);
    world = await openWorld(sql);
    engine = startEngine({ ...world.parts, generatePassword: () => weak.shift() ?? good() });
  });
  after(async () => {
    await engine.stop();
    await world.sql.close();
    await wire.stop();
    rmSync(folder, { recursive: true });
  });

  const newUser = async (...grants: string[]) => {
    const username = `user_${randomUUID().slice(0, 8)}`;
    const made = wire.accounts.add(username, "%", "Aa1-first");
    for (const grant of grants) made.grants.set(grant, false);
    return { username, password: "Aa1-first" };
  };
  const newSecret = async (...grants: string[]): Promise<Secret> => {
    const user = await newUser(...grants);
    return world.newSecret(`db/${user.username}`, { host: wire.host, port: wire.port, ...user });
  };
  const logsIn = async (secret: Secret, label: string) => {
    const credential = await world.credential(secret, label);
    return credential && mysql.probe(credential, tools());
  };
  const begin = async (secret: Secret, windowMs = 60_000) => {
    const id = await world.begin(secret, { functionName, windowMs });
    engine.wake();
    return world.ended(id);
  };
  /** Also those that took the place of the first. */
  const allEnded = async (secret: Secret) => {
    for (;;) {
      const rotations = (await listRotations(world.sql, { limit: 1_000 })).filter(({ secretId }) => secretId === secret.id);
      if (rotations.every(({ state }) => state !== "running")) return rotations.sort((a, b) => a.startedAt - b.startedAt);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };

  test("a single user that may have two passwords gets them, and never is without one", async () => {
    const secret = await newSecret("APPLICATION_PASSWORD_ADMIN ON *.*");
    for (let turn = 0; turn < 3; turn++) {
      const { state, strategy, error } = await begin(secret);
      assert.deepEqual([state, strategy], ["succeeded", "dual-slot"], error);
      for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) assert.equal(await logsIn(secret, label), "ok");
    }
    const plain = await newSecret();
    assert.equal((await begin(plain)).strategy, "single-user");
    assert.equal(await logsIn(plain, "AWSPREVIOUS"), "refused");
  });

  test("a superuser's right does for it from the first rotation on, of a user whose password the secret has", async () => {
    const place = { host: wire.host, port: wire.port };
    const master = await world.newSecret("db/admin", { ...place, username: wire.user, password: wire.password });
    const { username, ...user } = await newUser();
    const secret = await world.newSecret(`db/${username}`, { ...place, username, ...user, masterarn: master.arn });
    const { state, strategy, error } = await begin(secret);
    assert.deepEqual([state, strategy], ["succeeded", "dual-slot"], error);
    for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) assert.equal(await logsIn(secret, label), "ok");

    const victim = await newUser();
    const planted = { ...place, username: victim.username, password: "a guess", masterarn: master.arn };
    const attack = await begin(await world.newSecret("db/planted", planted), 0);
    assert.notEqual(attack.state, "succeeded");
    assert.equal(await mysql.probe({ ...place, ...victim }, tools()), "ok");
  });

  test("a pre-flight says when only one password is kept, and whose right is missing", async () => {
    const place = { host: wire.host, port: wire.port };
    const admin = mysql.credential.parse({ ...place, username: wire.user, password: wire.password });
    const found = async (by: "user" | "superuser" | "nobody") => {
      const user = await newUser(...(by === "user" ? ["APPLICATION_PASSWORD_ADMIN ON *.*"] : []));
      const access = { current: mysql.credential.parse({ ...place, ...user }), admin: by === "superuser" ? admin : undefined };
      const findings = (await mysql.check?.(access, "single-user", tools())) ?? assert.fail();
      return findings.filter(({ problem }) => /keeps one password/.test(problem));
    };
    assert.deepEqual([await found("user"), await found("superuser")], [[], []]);
    const [finding] = await found("nobody");
    assert.deepEqual([finding?.step, finding?.warning], ["setSecret", true]);
    assert.match(finding?.remedy ?? "", /^Grant it APPLICATION_PASSWORD_ADMIN on \*\.\*, or name a superuser/);
  });

  test("a password that the policy refuses is given up for another one at once", async () => {
    for (const grants of [[], ["APPLICATION_PASSWORD_ADMIN ON *.*"]]) {
      const secret = await newSecret(...grants);
      weak = ["too-simple", "too-simple-as-well"];
      const first = await begin(secret);
      assert.deepEqual([first.state, first.outcome], ["abandoned", "invalid"]);
      assert.match(first.error ?? "", /password policy refuses the new password/);
      const rotations = await allEnded(secret);
      assert.deepEqual(
        rotations.map(({ state }) => state),
        ["abandoned", "abandoned", "succeeded"],
      );
      const ids = rotations.map(({ versionId }) => versionId);
      assert.deepEqual(
        rotations.map(({ follows, followedBy }) => [follows, followedBy]),
        [
          [undefined, ids[1]],
          [ids[0], ids[2]],
          [ids[1], undefined],
        ],
        "who waits for a version learns what became of it",
      );
      const now = await world.reload(secret);
      assert.equal(versionWith(now, "AWSCURRENT")?.id, ids[2]);
      assert.equal(versionWith(now, "AWSPENDING"), undefined);
      assert.equal(now.switchingUntil, undefined);
      assert.equal(await logsIn(secret, "AWSCURRENT"), "ok");
    }
  });

  test("but not for ever: then it fails, AWSCURRENT stays, and the next rotation begins with another", async () => {
    const secret = await newSecret();
    weak = Array.from({ length: 10 }, () => "too-simple");
    await begin(secret, 3_000);
    const rotations = await allEnded(secret);
    assert.deepEqual(
      rotations.map(({ state }) => state),
      ["abandoned", "abandoned", "failed"],
    );
    assert.equal(versionWith(await world.reload(secret), "AWSPENDING"), undefined);
    assert.equal(await logsIn(secret, "AWSCURRENT"), "ok");
    weak = [];
    assert.equal((await begin(secret)).state, "succeeded");
    assert.equal(await logsIn(secret, "AWSCURRENT"), "ok");
  });
});
