// One fault of the network at every message of every connection of a rotation, each kind of fault: afterwards the rotation
// ends by itself, nothing is lost, and nobody took silence for a refusal. CRASH_SHARE=1 tries all, else it is a sample.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { startEngine } from "../../src/engine/loop.ts";
import type { EngineParts, RotatorFunction } from "../../src/engine/parts.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import type { AnyCredential } from "../../src/targets/index.ts";
import { openWorld, type World } from "../support/engine-world.ts";
import { type FaultProxy, faults, type Plan, startFaultProxy } from "../support/fault-proxy.ts";
import { seeded } from "../support/random.ts";
import { sampleOf, sampleSeed, share } from "../support/sample.ts";
import { type Scenario, scenarios } from "./campaign/scenarios.ts";
import type { Target } from "./campaign/targets.ts";

/** A call that hangs is given up after this long, and after longer on a machine where a login takes long. */
const leastCallMs = 400;
const callLogins = 20;
const names = [
  "postgres/single-user",
  "postgres/alternating-users",
  "mariadb/single-user",
  "redis/dual-slot, retired",
  "aws-iam/issuer",
  "ldap/single-user",
  "mysql, wire fake/dual-slot",
  "http-api/issuer",
];
/** As many connections of a rotation, and messages of each, at most. */
const most = 12;
const random = seeded(`${sampleSeed} faults`);

describe("a network that fails once", { concurrency: 2 }, () => {
  for (const name of sampleOf(names, 3, "targets of faults")) {
    const scenario = scenarios.find((one) => one.name === name);
    assert.ok(scenario, name);
    test(`${name}: at every message, in every way`, { skip: scenario.skip }, async (context) => {
      await using target = await scenario.start();
      await using place = await openPlace(scenario, target);
      let connections = 0;
      while (connections < most && (await place.survives({ fault: "refuse", connection: connections + 1, message: 1 })))
        connections += 1;
      let met = connections;
      for (const connection of upTo(connections))
        met += Number(await place.survives({ fault: "outage", connection, message: 1 }));
      for (const [fault, connection] of others.flatMap((one) => upTo(connections).map((nth) => [one, nth] as const)))
        met += await messagesSurvived(place, fault, connection);
      context.diagnostic(`${met} faults`);
      assert.ok(met >= faults.length, `only ${met} faults were met`);
    });
  }
});

const others = faults.filter((fault) => fault !== "refuse" && fault !== "outage");
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

/** The fault at the messages that a connection sends, or at a sample of them; how many there were. */
async function messagesSurvived(place: Place, fault: Plan["fault"], connection: number): Promise<number> {
  let met = 0;
  for (let message = 1; message <= most; message += 1) {
    if (random() >= share) continue;
    if (!(await place.survives({ fault, connection, message }))) break;
    met += 1;
  }
  return met;
}

interface Place extends AsyncDisposable {
  /** Rotates a new secret with this fault; false when the rotation was over before. */
  survives(plan: Plan): Promise<boolean>;
}

async function openPlace(scenario: Scenario, target: Target): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "rekey-faults-"));
  const sql = openSqlite(join(folder, "rekey.db"));
  await migrate(sql);
  const known = await target.newAccount("measured");
  const startedAt = performance.now();
  assert.equal(await target.logsIn(known), "ok");
  const callMs = Math.max(leastCallMs, Math.ceil(callLogins * (performance.now() - startedAt)));
  const world = await openWorld(sql, { settings: { callMs, claimMs: 4 * callMs + 4_000 } });
  // No pauses between tries.
  let declared: RotatorFunction | undefined;
  const findFunction: EngineParts["findFunction"] = async (arn) => declared ?? world.parts.findFunction(arn);
  const engine = startEngine({ ...world.parts, random: () => 0, findFunction });
  let proxy: FaultProxy | undefined;
  let made = 0;
  return {
    async survives(plan) {
      made += 1;
      const direct = await target.newAccount(`user_${made}`);
      proxy ??= await startFaultProxy(addressOf(direct));
      declared ??= target.declared?.(`http://127.0.0.1:${proxy.port}`);
      const master =
        scenario.strategy !== "single-user" && target.admin
          ? await world.newSecret(`master-${made}`, via(target.admin, proxy.port))
          : undefined;
      // A single user has no superuser: whoever believed that its password is refused would be stuck.
      const value = { ...via(direct, proxy.port), ...(master && { masterarn: master.arn }) };
      const { retireAfterSeconds } = scenario;
      const policy = retireAfterSeconds === undefined ? {} : { rotationPolicy: { retireAfterSeconds } };
      const secret = await world.newSecret(`user-${made}`, value, policy);
      proxy.plan(plan);
      const id = await world.begin(secret, { functionName: scenario.functionName });
      engine.wake();
      const ended = await world.ended(id);
      await retired(world);
      const met = proxy.calm();
      const where = JSON.stringify(plan);
      assert.equal(ended.state, "succeeded", `${where}: ${ended.error}`);
      await check({ scenario, target, world, secret, where });
      return met;
    },
    async [Symbol.asyncDispose]() {
      await engine.stop();
      await sql.close();
      await proxy?.[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface Checked {
  readonly scenario: Scenario;
  readonly target: Target;
  readonly world: World;
  readonly secret: Parameters<World["credential"]>[0];
  readonly where: string;
}

async function check({ scenario, target, world, secret, where }: Checked): Promise<void> {
  const current = (await world.credential(secret, "AWSCURRENT")) as AnyCredential | undefined;
  const previous = (await world.credential(secret, "AWSPREVIOUS")) as AnyCredential | undefined;
  assert.ok(current && previous, where);
  assert.equal(await target.logsIn(current), "ok", `${where}: the new credential`);
  const isOver = scenario.strategy === "single-user" || scenario.retireAfterSeconds === 0;
  assert.equal(await target.logsIn(previous), isOver ? "refused" : "ok", `${where}: the old credential`);
  const live = await target.live?.(current);
  if (live) assert.deepEqual(live, [target.fingerprint?.(current)], `${where}: what the target takes`);
}

async function retired({ sql }: World): Promise<void> {
  for (;;) {
    const [open] = await sql.query("select 1 as open from retirements where ended_at is null and due_at <= $1", [Date.now()]);
    if (!open) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const addresses = ["endpoint", "stsEndpoint", "origin"] as const;

function addressOf(credential: AnyCredential): { host: string; port: number } {
  const url = addresses.map((key) => credential[key]).find((value) => typeof value === "string");
  if (url === undefined) return { host: String(credential.host), port: Number(credential.port) };
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
}

function via(credential: AnyCredential, port: number): AnyCredential {
  const urls = addresses.filter((key) => credential[key] !== undefined);
  if (urls.length === 0) return { ...credential, port };
  return { ...credential, ...Object.fromEntries(urls.map((key) => [key, `http://127.0.0.1:${port}`])) };
}
