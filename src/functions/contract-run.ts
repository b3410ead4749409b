import { createHash, randomUUID } from "node:crypto";
import type { ServiceError } from "../core/error.ts";
import { addressIn } from "./contract-address.ts";
import { type Called, ContractCaller, type TestedFunction } from "./contract-caller.ts";
import { type ContractDoor, type ContractStore, type Members, openContractDoor } from "./contract-door.ts";
import { type ContractGate, openContractGate } from "./contract-gate.ts";
import type { contractSteps } from "./contract-points.ts";
import { cutValues, secretTexts } from "./cut-values.ts";

export type ContractStep = (typeof contractSteps)[number];

/** A point is lost; `message` says by what. */
export class Lost extends Error {
  override readonly name = "Lost";
}

/** The secret as it is. */
export interface Labels {
  readonly current: string | undefined;
  readonly previous: string | undefined;
  /** Label AWSPENDING; may be on the current version. */
  readonly pending: string | undefined;
  readonly versions: number;
}

/** What a step took when nothing disturbed it. */
export interface Pace {
  readonly tookMs: number;
  readonly asked: readonly string[];
  /** Pieces of answers from the target. */
  readonly answers: number;
}

/** One rotation of the secret under test, as far as it has come. */
export interface Run {
  readonly token: string;
  readonly before: Labels;
  /** A digest of the value under the token, once there is one. */
  stored?: string | undefined;
}

export interface BenchOptions {
  readonly tested: TestedFunction;
  readonly secret: { readonly arn: string; readonly name: string };
  readonly store: ContractStore;
  /** Whether testSecret can tell a password that works from one that does not. */
  readonly hasTarget: boolean;
}

/** The function on its bench: Secrets Manager and the target before it, each under our hand. */
export class ContractBench implements AsyncDisposable {
  readonly caller: ContractCaller;
  readonly door: ContractDoor;
  readonly paces = new Map<ContractStep, Pace>();
  /** First words that showed a value, without it. */
  leak: string | undefined;
  /** Rotations that left another number of versions than one. */
  strayVersions: string | undefined;
  gate: ContractGate | undefined;
  #seen: { readonly writes: number; readonly labels: Labels } | undefined;
  /** Values of versions never change. */
  readonly #values = new Map<string, string>();
  readonly #options: BenchOptions;

  private constructor(options: BenchOptions, door: ContractDoor) {
    this.#options = options;
    this.door = door;
    this.caller = new ContractCaller(options.tested, door);
  }

  /** @throws ServiceError when the secret cannot be read */
  static async open(options: BenchOptions): Promise<ContractBench> {
    const { store, secret, hasTarget } = options;
    const { SecretString } = await store("GetSecretValue", { SecretId: secret.arn });
    const first = String(SecretString);
    const bench = new ContractBench(options, await openContractDoor(secret, store));
    if (hasTarget) await bench.#putGate(first);
    return bench;
  }

  /** Only where the function goes through it without noticing: what checks the target's name by TLS would. */
  async #putGate(first: string): Promise<void> {
    const address = addressIn(first);
    if (!address) return;
    const gate = await openContractGate(address);
    this.gate = gate;
    const { view } = this.door;
    view.outward = (value) => address.moved(value, gate.address);
    view.inward = (value) => address.restored(value, gate.address);
    if (await this.works("AWSCURRENT")) return;
    view.outward = view.inward = (value) => value;
    this.gate = undefined;
    await gate[Symbol.asyncDispose]();
    this.caller.renew();
  }

  get hasTarget(): boolean {
    return this.#options.hasTarget;
  }

  /** Asked for again only after a change. */
  async labels(): Promise<Labels> {
    const { writes } = this.door;
    if (this.#seen?.writes !== writes) this.#seen = { writes, labels: await this.#readLabels() };
    return this.#seen.labels;
  }

  async #readLabels(): Promise<Labels> {
    const { arn: SecretId } = this.#options.secret;
    const { VersionIdsToStages = {} } = await this.#options.store("DescribeSecret", { SecretId });
    const entries = Object.entries(VersionIdsToStages as Readonly<Record<string, readonly string[]>>);
    const holder = (label: string) => entries.find(([, stages]) => stages.includes(label))?.[0];
    const { Versions = [] } = await this.#options.store("ListSecretVersionIds", { SecretId, IncludeDeprecated: true });
    const versions = (Versions as readonly unknown[]).length;
    return { current: holder("AWSCURRENT"), previous: holder("AWSPREVIOUS"), pending: holder("AWSPENDING"), versions };
  }

  async begin(): Promise<Run> {
    const token = randomUUID();
    this.door.view.pending = token;
    return { token, before: await this.labels() };
  }

  /** One call; what it wrote is looked through for values. */
  async call(token: string, step: string, options: Parameters<ContractCaller["call"]>[1] = {}): Promise<Called> {
    const { arn } = this.#options.secret;
    const event = { Step: step, SecretId: arn, ClientRequestToken: token, RotationToken: randomUUID() + randomUUID() };
    const called = await this.caller.call(event, options);
    this.#lookThrough(step, called);
    return called;
  }

  /** A step that has to be done. @throws Lost */
  async must(run: Run, step: ContractStep, options: Parameters<ContractCaller["call"]>[1] = {}): Promise<Called> {
    const called = await this.call(run.token, step, options);
    if (!called.ok) throw new Lost(`${step} failed: ${this.clean(called.error)}`);
    await this.holds(run, step);
    return called;
  }

  /** What must hold after each step. @throws Lost */
  async holds(run: Run, step: ContractStep): Promise<void> {
    const { current, pending } = await this.labels();
    if (step === "finishSecret") {
      if (current !== run.token) throw new Lost("AWSCURRENT is not at the token's version after finishSecret");
    } else if (current !== run.before.current && current !== run.token)
      throw new Lost(`AWSCURRENT went elsewhere during ${step}`);
    if (current !== run.token && pending !== undefined && pending !== run.token && pending !== run.before.pending)
      throw new Lost(`AWSPENDING went to another version during ${step}`);
    const stored = await this.digestOf(run.token);
    run.stored ??= stored;
    if (stored === undefined) throw new Lost(`the token's version has no value after ${step}`);
    if (stored !== run.stored) throw new Lost(`the token's version has another value after ${step}`);
  }

  /** Where the labels stand has not changed. @throws Lost */
  async unchanged(before: Labels, what: string): Promise<void> {
    const now = await this.labels();
    if (now.current !== before.current) throw new Lost(`AWSCURRENT was moved by ${what}`);
    if (now.versions !== before.versions) throw new Lost(`a version was made by ${what}`);
  }

  /** A digest of a version's value; `undefined` when it has none. */
  async digestOf(versionId: string): Promise<string | undefined> {
    const value = await this.#valueOf(versionId);
    return value === undefined ? undefined : createHash("sha256").update(value).digest("hex");
  }

  async #valueOf(versionId: string): Promise<string | undefined> {
    const known = this.#values.get(versionId);
    if (known !== undefined) return known;
    try {
      const { SecretString } = await this.#options.store("GetSecretValue", {
        SecretId: this.#options.secret.arn,
        VersionId: versionId,
      });
      if (typeof SecretString !== "string") return undefined;
      this.#values.set(versionId, SecretString);
      return SecretString;
    } catch (error) {
      if ((error as ServiceError).code === "ResourceNotFoundException") return undefined;
      throw error;
    }
  }

  /** Whether the function itself can log in with what bears a label, shown to it as a pending version of its own. */
  async works(label: "AWSCURRENT" | { readonly versionId: string }): Promise<boolean> {
    const { current } = await this.labels();
    const id = label === "AWSCURRENT" ? current : label.versionId;
    const value = id === undefined ? undefined : await this.#valueOf(id);
    if (value === undefined) return false;
    const { view } = this.door;
    const before = view.pending;
    view.pending = randomUUID();
    view.pendingValue = value;
    try {
      return (await this.call(view.pending, "testSecret")).ok;
    } finally {
      view.pending = before;
      view.pendingValue = undefined;
    }
  }

  /** After a rotation, however it went: AWSCURRENT is put where it works. @throws Lost when it works nowhere */
  async settle(run: Run): Promise<void> {
    this.door.between = undefined;
    this.caller.renew();
    this.gate?.cutAnswer(0);
    await this.gate?.be("open");
    const now = await this.labels();
    const made = now.versions - run.before.versions;
    if (made > 1) this.strayVersions ??= `a rotation made ${made} versions`;
    const { secret } = this.#options;
    const move = async (to: string) => {
      const [MoveToVersionId, RemoveFromVersionId] = [to, (await this.labels()).current];
      if (MoveToVersionId === RemoveFromVersionId) return;
      const input = { SecretId: secret.arn, VersionStage: "AWSCURRENT", MoveToVersionId, RemoveFromVersionId };
      await this.#change(input);
    };
    this.door.view.pending = undefined;
    if (!this.hasTarget || (now.current === run.token && run.stored !== undefined)) return;
    for (const id of [now.current, run.token, run.before.current, now.pending]) {
      if (id === undefined || !(await this.works({ versionId: id }))) continue;
      return move(id);
    }
    throw new Lost("no version of the secret works at the target any more");
  }

  /** Takes AWSPENDING away from a version that will never be current. */
  async tidy(): Promise<void> {
    const { current, pending } = await this.labels();
    if (pending === undefined || pending === current) return;
    const input = { SecretId: this.#options.secret.arn, VersionStage: "AWSPENDING", RemoveFromVersionId: pending };
    await this.#change(input);
  }

  async #change(input: Members): Promise<void> {
    await this.#options.store("UpdateSecretVersionStage", input);
    this.door.writes += 1;
  }

  /** Text of the function's own, fit to be shown. */
  clean(text: string): string {
    return cutValues(text, this.#texts()).split("\n", 1)[0]?.slice(0, 200) ?? "";
  }

  #texts(): string[] {
    return [...new Set([...this.door.values].flatMap(secretTexts))];
  }

  #lookThrough(step: string, { output }: Called): void {
    if (this.leak === undefined && cutValues(output, this.#texts()) !== output) this.leak = `a value is written in ${step}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.caller[Symbol.asyncDispose]();
    await this.door[Symbol.asyncDispose]();
    await this.gate?.[Symbol.asyncDispose]();
  }
}
