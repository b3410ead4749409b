// Credentials of a config's rotated secrets that somebody changes at real databases: no rotation writes over them unasked.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { native, nativeOk } from "../support/aws.ts";
import { cli } from "../support/doppler.ts";
import { type Login, type PairDatabase, pairDatabases } from "../support/pair-databases.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const config = { project: "shop", config: "dev" };
interface Ended {
  readonly id: string;
  readonly state: string;
  readonly reason?: string;
  readonly remedy?: string;
}

for (const [kind, start, skip] of pairDatabases) {
  describe(`rotated secrets changed by hand on ${kind}`, { skip }, () => {
    let server: RekeyServer;
    let database: PairDatabase;
    before(async () => {
      [server, database] = await Promise.all([startRekey(), start()]);
      await nativeOk(server, "projects/create", { name: config.project });
      await nativeOk(server, "integrations/create", { name: "main", type: database.type, data: database.data() });
    });
    after(async () => {
      await server?.[Symbol.asyncDispose]();
      await database?.dispose();
    });

    async function make(pair: readonly Login[]): Promise<string> {
      const name = `DB_${randomUUID().slice(0, 8).toUpperCase()}`;
      const input = { ...config, name, integration: "main", rotationPeriodSeconds: 30 * 86_400, credentials: pair };
      await nativeOk(server, "rotated-secrets/create", input);
      return name;
    }
    async function rotate(name: string): Promise<Ended> {
      const known = new Set((await history(name)).map(({ id }) => id));
      await nativeOk(server, "rotated-secrets/rotate", { ...config, id: name });
      for (let asked = 0; ; asked++) {
        const [newest] = await history(name);
        if (newest && !known.has(newest.id) && newest.state !== "running") return newest;
        if (asked > 5_000) throw new Error(`waited in vain: ${JSON.stringify(newest)}\n${server.log().slice(-4_000)}`);
        await sleep(20);
      }
    }
    const history = async (name: string): Promise<Ended[]> =>
      (await nativeOk(server, "rotated-secrets/history", { ...config, id: name })).rotations as Ended[];
    const succeed = async (name: string): Promise<Login> => {
      const { state, reason } = await rotate(name);
      assert.equal(state, "succeeded", reason);
      return shown(name);
    };
    async function shown(name: string): Promise<Login> {
      const { token } = server.credentials;
      const place = `project=${config.project}&config=${config.config}`;
      const { json } = await cli(server, `GET /v3/configs/config/secrets/download?${place}&format=json`, { token });
      return { username: json[`${name}_USERNAME`], password: json[`${name}_PASSWORD`] };
    }
    const resume = (name: string, more: object = {}) =>
      native(server, "rotated-secrets/resume", { ...config, id: name, ...more });

    /** The rotation ends with a reason and a remedy, and the secret is paused; nothing is changed anywhere. */
    async function isStopped(name: string, changed: Login, others: readonly Login[]): Promise<void> {
      const before = await shown(name);
      const { state, reason = "", remedy = "" } = await rotate(name);
      assert.equal(state, "blocked", reason);
      assert.match(reason, new RegExp(`refuses the credential of ${changed.username}.*changed outside`));
      assert.match(remedy, new RegExp(`rekey rotated resume ${name} --project shop --config dev`));
      for (const login of [changed, ...others]) assert.ok(await database.logsIn(login), login.username);
      assert.deepEqual(await shown(name), before);
      const { rotatedSecret } = await nativeOk(server, "rotated-secrets/get", { ...config, id: name });
      const { state: now, pausedReason, nextRotationAt } = rotatedSecret as Record<string, string>;
      assert.deepEqual([now, nextRotationAt], ["paused", undefined]);
      assert.match(pausedReason ?? "", /changed outside/);
      const { logs } = await nativeOk(server, "configs/logs", config);
      assert.match(
        (logs as { text: string }[])[0]?.text ?? "",
        new RegExp(`^paused rotated secret ${name}: .*${changed.username}`),
      );
      assert.match((await native(server, "rotated-secrets/rotate", { ...config, id: name })).text, /are paused/);
      assert.ok(!server.log().includes(changed.password));
    }

    test("the one that is shown, before the first rotation: it goes on with the one in force", async () => {
      const [first, second] = await database.newPair();
      const name = await make([first, second]);
      const changed = { ...first, password: "canary-by-hand-1" };
      await database.setPassword(changed);
      await isStopped(name, changed, [second]);
      assert.match((await resume(name)).text, /does not log in: give Credential/);
      assert.equal((await resume(name, { credential: { PASSWORD: changed.password } })).status, 200);
      assert.deepEqual(await shown(name), changed);
      const next = await succeed(name);
      assert.equal(next.username, second.username);
      for (const login of [changed, next]) assert.ok(await database.logsIn(login));
      assert.equal((await succeed(name)).username, first.username);
    });

    test("the other one, before the first rotation: resumed, it is written over, as was asked", async () => {
      const [first, second] = await database.newPair();
      const name = await make([first, second]);
      const changed = { ...second, password: "canary-by-hand-2" };
      await database.setPassword(changed);
      await isStopped(name, changed, [first]);
      assert.equal((await resume(name)).status, 200);
      const next = await succeed(name);
      assert.equal(next.username, second.username);
      assert.equal(await database.logsIn(changed), false);
      assert.ok(await database.logsIn(next));
      assert.equal((await succeed(name)).username, first.username);
    });

    test("after rotations, the one that is shown or the other; set back at the target, it goes on without a word", async () => {
      const [first, second] = await database.newPair();
      const name = await make([first, second]);
      const older = await succeed(name);
      const newer = await succeed(name);
      assert.deepEqual([older.username, newer.username], [second.username, first.username]);
      for (const [one, other] of [
        [newer, older],
        [older, newer],
      ] as const) {
        const changed = { ...one, password: "canary-by-hand-3" };
        await database.setPassword(changed);
        await isStopped(name, changed, [other]);
        await database.setPassword(one);
        assert.equal((await resume(name)).status, 200);
      }
      assert.equal((await succeed(name)).username, second.username);
    });

    test("the other one, changed while the secret was paused for the one that is shown, is told of as well", async () => {
      const [first, second] = await database.newPair();
      const name = await make([first, second]);
      const older = await succeed(name);
      const current = await succeed(name);
      const changed = { ...current, password: "canary-by-hand-4" };
      await database.setPassword(changed);
      await isStopped(name, changed, [older]);
      assert.equal((await resume(name, { credential: { PASSWORD: changed.password } })).status, 200);
      const other = { ...older, password: "canary-by-hand-5" };
      await database.setPassword(other);
      await isStopped(name, other, [changed]);
      assert.equal((await resume(name)).status, 200);
      assert.equal((await succeed(name)).username, second.username);
      assert.equal(await database.logsIn(other), false);
    });
  });
}
