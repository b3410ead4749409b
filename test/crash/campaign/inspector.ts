// What must hold after a kill, and what must hold once it has healed; by the names of the invariants.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Rotation } from "../../../src/core/rotation.ts";
import { type Secret, versionWith } from "../../../src/core/secret.ts";
import { openVersion } from "../../../src/engine/values.ts";
import { listRotations } from "../../../src/store/rotations.ts";
import type { AnyCredential } from "../../../src/targets/index.ts";
import { findByName, type World } from "../../support/engine-world.ts";
import type { Scenario } from "./scenarios.ts";
import { secretOf, type Target } from "./targets.ts";

interface Seen {
  readonly secret: Secret;
  readonly rotations: readonly Rotation[];
  readonly running: readonly Rotation[];
  /** By version. */
  readonly values: ReadonlyMap<string, AnyCredential>;
}

const hourSeconds = 3_600;
/** As long as a login may take. */
const graceMs = 300;

const sides = ["AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"] as const;

export class Inspector {
  readonly violations: string[] = [];
  /** Rotations that have succeeded. */
  rotations = 0;
  readonly #scenario: Scenario;
  readonly #target: Target;
  readonly #generations = new Map<string, number>();
  readonly #counted = new Set<string>();
  readonly #values = new Set<string>();

  constructor(scenario: Scenario, target: Target) {
    this.#scenario = scenario;
    this.#target = target;
  }

  get #hasTwoSlots(): boolean {
    return this.#scenario.strategy === "dual-slot" || this.#scenario.strategy === "alternating-users";
  }

  violated(invariant: string, what: string, where: string): void {
    this.violations.push(`${invariant}: ${what} (after ${where})`);
  }

  /** Before anything is repaired. */
  async afterKill(world: World, names: readonly string[], where: string): Promise<void> {
    for (const name of names) {
      const seen = await this.#see(world, name);
      const found = (invariant: string, what: string) => this.violated(invariant, `${name}: ${what}`, where);
      this.#labels(seen, found);
      await this.#inForce(seen, found);
      await this.#stored(seen, found);
      await this.#grace(world, seen, found);
      await this.#lasts(seen, found);
      this.#history(seen, found);
    }
    await this.#accounts(world, where);
  }

  /** After a start that was left to end its work. */
  async atEnd(world: World, names: readonly string[]): Promise<void> {
    await this.afterKill(world, names, "the last start");
    for (const name of names) {
      const seen = await this.#see(world, name);
      const found = (invariant: string, what: string) => this.violated(invariant, `${name}: ${what}`, "the last start");
      for (const { state, error } of seen.rotations) if (state !== "succeeded") found("I6", `a rotation is ${state}: ${error}`);
      const previous = this.#valueOf(seen, "AWSPREVIOUS");
      if (!previous) continue;
      const answer = await this.#target.logsIn(previous);
      const ended = this.#scenario.strategy === "single-user" || this.#scenario.retireAfterSeconds === 0;
      // One that is kept for some seconds may have ended since, or not yet: `lasts` looks at it.
      const isSure = ended || (this.#scenario.retireAfterSeconds ?? hourSeconds) >= hourSeconds;
      if (isSure) this.#oldOne(answer, ended, found);
      await this.#noOrphans(seen, found, ended);
    }
    await this.#events(world);
  }

  #oldOne(answer: string, ended: boolean, found: (invariant: string, what: string) => void): void {
    if (answer !== (ended ? "refused" : "ok")) found("I10", `the old credential is ${answer}`);
  }

  /** No value that was ever stored is in what a process said, in the server's log, or in the store's files (I14). */
  async leaks(output: string, folder: string): Promise<void> {
    const files = readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map(({ name, parentPath }) => [name, readFileSync(join(parentPath, name), "latin1")] as const);
    const places: (readonly [string, string])[] = [["output", output], ["server's log", await this.#target.log()], ...files];
    for (const [place, text] of places)
      for (const value of this.#values) if (text.includes(value)) this.violated("I14", `a value is in the ${place}`, "the end");
  }

  async #see(world: World, name: string): Promise<Seen> {
    const secret = await findByName(world.sql, name);
    if (!secret) throw new Error(`no secret ${name}`);
    const rotations = await listRotations(world.sql, { secretArn: secret.arn, limit: 1_000 });
    const values = new Map<string, AnyCredential>();
    for (const { id, kind } of secret.versions) {
      const value = kind === undefined ? undefined : await openVersion(world.parts, secret, id);
      if (!value) continue;
      const credential = JSON.parse(value.plaintext.revealText()) as AnyCredential;
      values.set(id, credential);
      const text = secretOf(credential);
      // The first password is made by a statement of ours.
      if (!text.startsWith("first-")) this.#values.add(text);
    }
    for (const { id, state } of rotations) {
      if (state !== "succeeded" || this.#counted.has(id)) continue;
      this.#counted.add(id);
      this.rotations += 1;
    }
    return { secret, rotations, running: rotations.filter(({ state }) => state === "running"), values };
  }

  #valueOf({ secret, values }: Seen, label: string): AnyCredential | undefined {
    const version = versionWith(secret, label);
    return version && values.get(version.id);
  }

  /** I5, and that no secret is without a current value. */
  #labels(seen: Seen, found: (invariant: string, what: string) => void): void {
    const { secret, running } = seen;
    const count = (label: string) => secret.versions.filter(({ stages }) => stages.includes(label)).length;
    if (count("AWSCURRENT") !== 1) found("I5", `${count("AWSCURRENT")} versions are current`);
    if (!this.#valueOf(seen, "AWSCURRENT")) found("I5", "the current version has no value");
    // Functions that are not ours leave the label on the version that they have made current, as AWS's own do.
    const isPending = secret.versions.some(({ stages }) => stages.includes("AWSPENDING") && !stages.includes("AWSCURRENT"));
    if (isPending && running.length === 0) found("I5", "a version is pending and no rotation runs");
    if (running.length > 1) found("I4", `${running.length} rotations run`);
  }

  /** I1 where two credentials are in force, I2 where one is; and I5: what is current without a rotation under way logs in. */
  async #inForce(seen: Seen, found: (invariant: string, what: string) => void): Promise<void> {
    const answers: string[] = [];
    for (const label of sides) {
      const value = this.#valueOf(seen, label);
      if (!value) continue;
      const answer = await this.#target.logsIn(value);
      answers.push(`${label} ${answer}`);
      if (answer !== "ok") continue;
      if (label === "AWSCURRENT") return;
      if (this.#scenario.overlap) return found("I1", `current is not in force: ${answers.join(", ")}`);
      if (seen.running.length === 0) return found("I2", `nothing runs and current is not in force: ${answers.join(", ")}`);
      return;
    }
    found(this.#scenario.overlap ? "I1" : "I2", `no stored value logs in: ${answers.join(", ")}`);
  }

  /** I3: what the target takes is stored, or a rotation that runs will find it. */
  async #stored(seen: Seen, found: (invariant: string, what: string) => void): Promise<void> {
    if (seen.running.length === 0) await this.#noOrphans(seen, found, false);
  }

  /** I10: what waits for its end is in force until its deadline. */
  async #grace({ sql }: World, seen: Seen, found: (invariant: string, what: string) => void): Promise<void> {
    const { secret, values, running } = seen;
    // Of two slots, a rotation overwrites the one that is not in use.
    const isOverwritten = (id: string) => running.length > 0 && id !== versionWith(secret, "AWSCURRENT")?.id;
    const open = await sql.query<{ version_id: string; due_at: number }>(
      "select version_id, due_at from retirements where secret_id = $1 and what = 'credential' and ended_at is null",
      [secret.id],
    );
    for (const { version_id, due_at } of open) {
      const value = values.get(version_id);
      if (this.#hasTwoSlots && isOverwritten(version_id)) continue;
      if (!value) found("I10", "what waits for its end has no value any more");
      else if ((await this.#target.logsIn(value)) !== "ok" && due_at > Date.now() + graceMs)
        found("I10", "an old credential ended before its deadline");
    }
  }

  /** I10, whatever retirements say: the old credential lasts as long as the secret's policy says, after a rotation that ended. */
  async #lasts(seen: Seen, found: (invariant: string, what: string) => void): Promise<void> {
    const { retireAfterSeconds } = this.#scenario;
    const previous = this.#valueOf(seen, "AWSPREVIOUS");
    const last = seen.rotations.find(({ state }) => state === "succeeded");
    if (retireAfterSeconds === undefined || !previous || !last || seen.running.length > 0) return;
    const untilMs = (last.endedAt ?? 0) + 1_000 * retireAfterSeconds;
    if ((await this.#target.logsIn(previous)) !== "ok" && untilMs > Date.now() + graceMs)
      found("I10", "an old credential did not last as long as its policy says");
  }

  async #noOrphans({ secret, values }: Seen, found: (invariant: string, what: string) => void, one: boolean): Promise<void> {
    const current = values.get(versionWith(secret, "AWSCURRENT")?.id ?? "");
    if (!this.#target.live || !current) return;
    const live = await this.#target.live(current);
    const known = new Set([...values.values()].map((value) => this.#target.fingerprint?.(value) ?? ""));
    const strange = live.filter((fingerprint) => !known.has(fingerprint)).length;
    if (strange > 0) found("I3", `the target takes ${strange} that no version holds`);
    if (one && live.length !== 1) found("I3", `the target takes ${live.length}`);
  }

  /** I4: generations rise. */
  #history({ secret }: Seen, found: (invariant: string, what: string) => void): void {
    const before = this.#generations.get(secret.id) ?? 0;
    if (secret.generation < before) found("I4", `generation ${secret.generation} follows ${before}`);
    this.#generations.set(secret.id, secret.generation);
  }

  /** I4: of one account at a target at most one rotation runs. */
  async #accounts({ sql }: World, where: string): Promise<void> {
    const rows = await sql.query(
      "select target_account from rotations where state = 'running' and target_account is not null group by target_account having count(*) > 1",
    );
    if (rows.length > 0) this.violated("I4", "two rotations change one account", where);
  }

  /** I13: each rotation that succeeded told so once, and generations rise with the events. */
  async #events({ sql }: World): Promise<void> {
    const rows = await sql.query<{ resource: string; generation: number; detail: string }>(
      "select resource, generation, detail from events where type = 'rotation.succeeded' order by id",
    );
    const told = rows.map(({ detail }) => String(JSON.parse(detail).rotationId));
    if (new Set(told).size !== told.length) this.violated("I13", "a rotation was told of twice", "the end");
    const [{ count } = { count: 0 }] = await sql.query<{ count: number }>(
      "select count(*) as count from rotations where state = 'succeeded'",
    );
    if (count !== told.length) this.violated("I13", `${count} rotations succeeded, ${told.length} were told of`, "the end");
    const last = new Map<string, number>();
    for (const { resource, generation } of rows) {
      if (generation <= (last.get(resource) ?? 0)) this.violated("I13", "a generation came twice or went back", "the end");
      last.set(resource, generation);
    }
  }
}
