// An engine whose secrets are keys and passwords of the key service, with a clock that tests move.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Retirement } from "../../src/core/retirement.ts";
import type { Rotation } from "../../src/core/rotation.ts";
import type { RotationPolicy } from "../../src/core/rotation-policy.ts";
import { type Secret, versionWith } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import type { EngineParts } from "../../src/engine/parts.ts";
import { listRetirements } from "../../src/store/retirements.ts";
import { changeSecret } from "../../src/store/secrets.ts";
import type { Sql } from "../../src/store/sql.ts";
import type { Strategy } from "../../src/targets/target.ts";
import { openWorld, type World } from "./engine-world.ts";
import { type Features, type KeyService, keyRotator, startKeyService } from "./key-service.ts";

interface KeyValue {
  readonly url: string;
  readonly account: string;
  readonly id: string;
  readonly key: string;
}

export class KeyWorld implements AsyncDisposable {
  readonly world: World;
  readonly service: KeyService;
  readonly #clock: { ahead: number };
  readonly #parts: EngineParts;
  #engine: Engine;

  constructor(world: World, service: KeyService, features: Features, strategy: Strategy) {
    this.world = world;
    this.service = service;
    const rotator = keyRotator(features);
    const clock = { ahead: 0 };
    this.#clock = clock;
    this.#parts = {
      ...world.parts,
      now: () => Date.now() + clock.ahead,
      random: () => 0,
      findFunction: async () => ({ kind: "keys", strategy }),
      findRotator: async () => rotator,
    };
    this.#engine = startEngine(this.#parts);
  }

  /** How far the engine's clock is ahead. */
  set aheadMs(ms: number) {
    this.#clock.ahead = ms;
    this.#engine.wake();
  }
  get aheadMs(): number {
    return this.#clock.ahead;
  }

  async stopEngine(): Promise<void> {
    await this.#engine.stop();
  }
  startEngine(more: Partial<EngineParts> = {}): void {
    this.#engine = startEngine({ ...this.#parts, ...more });
  }

  /** A secret whose value is a key of an account of its own. */
  async newSecret(more: object = {}, rotationPolicy: RotationPolicy = {}): Promise<Secret> {
    const account = `user-${randomUUID().slice(0, 8)}`;
    const credential = { url: this.service.url, account, ...this.service.addKey(account), ...more };
    return this.world.newSecret(account, credential, { rotationPolicy });
  }
  /** One whose value is an account's password. */
  async newPassword(rotationPolicy: RotationPolicy = {}): Promise<Secret> {
    const secret = await this.newSecret({ key: "first-password" }, rotationPolicy);
    for (const id of this.live(secret)) this.service.keys.delete(id);
    this.service.passwords.set(secret.name, { primary: "first-password", secondary: undefined });
    return secret;
  }
  /** What names the superuser's secret. */
  async superuser(): Promise<{ masterarn: string }> {
    const { arn } = await this.world.newSecret(`master-${randomUUID()}`, { masterKey: this.service.masterKey });
    return { masterarn: arn };
  }

  async begin(secret: Secret, windowMs = 60_000): Promise<string> {
    const id = await this.world.begin(secret, { functionName: "Keys", windowMs });
    this.#engine.wake();
    return id;
  }
  async rotate(secret: Secret, windowMs?: number): Promise<Rotation> {
    return this.world.ended(await this.begin(secret, windowMs));
  }
  /** Looks until it holds. */
  async until(holds: () => boolean | Promise<boolean>): Promise<void> {
    for (const giveUpAt = Date.now() + 120_000; !(await holds()); ) {
      assert.ok(Date.now() < giveUpAt, "it never came to be so");
      this.#engine.wake();
      await sleep(10);
    }
  }
  /** The engine has had time to do what it should not do. */
  async settle(): Promise<void> {
    this.#engine.wake();
    await sleep(100);
  }

  async value(secret: Secret, label = "AWSCURRENT"): Promise<KeyValue> {
    const value = await this.world.credential(secret, label);
    assert.ok(value, `no value labelled ${label}`);
    return value as unknown as KeyValue;
  }
  async versionId(secret: Secret, label: string): Promise<string> {
    const version = versionWith(await this.world.reload(secret), label);
    assert.ok(version, `no version labelled ${label}`);
    return version.id;
  }
  live({ name }: Secret): string[] {
    return this.service.liveOf(name).sort();
  }
  /** Ids that AWSCURRENT and AWSPREVIOUS name. */
  async known(secret: Secret): Promise<string[]> {
    return [(await this.value(secret)).id, (await this.value(secret, "AWSPREVIOUS")).id].sort();
  }
  password({ name }: Secret): { primary: string; secondary: string | undefined } {
    const found = this.service.passwords.get(name);
    assert.ok(found);
    return found;
  }
  /** How often a new key was asked for. */
  get asked(): number {
    return this.service.seen.filter((each) => each.startsWith("POST")).length;
  }

  retirements({ arn }: Secret): Promise<Retirement[]> {
    return listRetirements(this.world.sql, { secretArn: arn, limit: 100 });
  }
  async states(secret: Secret): Promise<string[]> {
    return (await this.retirements(secret)).map(({ state }) => state).sort();
  }
  async events({ arn }: Secret): Promise<{ type: string; detail: Record<string, unknown> }[]> {
    const text = "select type, detail from events where resource = $1 order by id";
    const rows = await this.world.sql.query<{ type: string; detail: string }>(text, [arn]);
    return rows.map(({ type, detail }) => ({ type, detail: JSON.parse(detail) }));
  }
  async change(secret: Secret, decide: (before: Secret) => Secret): Promise<void> {
    await this.world.sql.transaction((tx) => changeSecret(tx, secret.id, decide));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine.stop();
    await this.service[Symbol.asyncDispose]();
  }
}

export async function openKeyWorld(sql: Sql, strategy: Strategy, features: Features = {}): Promise<KeyWorld> {
  const world = await openWorld(sql, { settings: { callMs: 400, claimMs: 4_000, concurrency: 4 } });
  return new KeyWorld(world, await startKeyService(), features, strategy);
}
