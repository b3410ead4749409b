import type { Logger } from "pino";
import type { Audit } from "../core/audit.ts";
import type { ServiceError } from "../core/error.ts";
import type { RotationPrincipal } from "../core/rotation-principal.ts";
import type { Secret } from "../core/secret.ts";
import type { Envelope } from "../crypto/envelope.ts";
import type { KeyRing } from "../crypto/key-ring.ts";
import type { CodeClaim } from "../store/function-code.ts";
import type { Hints } from "../store/hints.ts";
import type { Sql } from "../store/sql.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { LeaseTarget } from "../targets/lease-target.ts";
import type { Rotator, RotatorTools, Strategy } from "../targets/target.ts";
import type { InvokedFunction } from "./invoke.ts";

/** A function that runs one of our rotators. */
export interface RotatorFunction {
  readonly kind: string;
  readonly strategy: Strategy;
  /** Of rotators that are declared and not written, e.g. of an HTTP API. */
  readonly declaration?: unknown;
  /** Of functions that have a policy: whether it lets the service invoke them for this secret now; the refusal if not. */
  refusal?(secret: Secret): Promise<ServiceError | undefined>;
}

/** What the engine works with; made once in `server.ts`. */
export interface EngineParts {
  readonly sql: Sql;
  /** Of this deployment: part of every ARN of its own. */
  readonly account: string;
  readonly region: string;
  readonly envelope: Pick<Envelope, "seal" | "open" | "rewrap">;
  readonly keys: Pick<KeyRing, "resolve" | "refresh" | "revision" | "all" | "find">;
  readonly log: Logger;
  readonly audit: Pick<Audit<Sql>, "append" | "inTransaction">;
  /** For those in this process that wait for what the engine does. */
  readonly hints: Hints;
  /** Keyed digest of a value under its context, the same as operations use. */
  digest(value: Uint8Array, context: string): Uint8Array;
  now(): number;
  /** Ms that have passed, whatever clocks say; absent: jumps of clocks are not looked for. */
  readonly elapsed?: () => number;
  /** In [0, 1). */
  random(): number;
  readonly generatePassword: RotatorTools["generatePassword"];
  /** `network`: where its target is, when not here. */
  findLeaseTarget(kind: string, network?: string): Promise<LeaseTarget | undefined>;
  findRotator(kind: string, declaration?: unknown, network?: string): Promise<Rotator<AnyCredential> | undefined>;
  findFunction(functionArn: string): Promise<RotatorFunction | undefined>;
  /** The kind of rotator for a secret's key `engine`; `undefined` when there is none. */
  kindOfEngine(engine: string): string | undefined;
  /** A function that does not run one of our rotators but answers AWS's rotation events. */
  findInvoked(functionArn: string): Promise<InvokedFunction | undefined>;
  /** Looks at the code that a function at AWS runs, and records what came of it; absent: no such functions. */
  lookAtFunctionCode?(claim: CodeClaim): Promise<void>;
  /** Whether the principal that configured a rotation is still there; the refusal if not. */
  mayRun(configured: RotationPrincipal): Promise<ServiceError | undefined>;
  /** Whether it may read a secret's value as things stand now, the secret's key included; the refusal if not. */
  mayRead(configured: RotationPrincipal, secret: Secret): Promise<ServiceError | undefined>;
  readonly settings: EngineSettings;
}

interface EngineSettings {
  /** Name of this process in claims. */
  readonly node: string;
  /** No other process writes this store, so that claims found at the start are of the dead. */
  readonly ownsStore: boolean;
  /** Between the barrier for readers and the switch of a single user's password. */
  readonly settleMs: number;
  /** How long readers of AWSCURRENT wait at most for a switch to end. */
  readonly readBarrierMs: number;
  /** Rotations at once, in all and for each target. */
  readonly concurrency: number;
  readonly perTarget: number;
  /** For so long after the start half of that. */
  readonly warmUpMs: number;
  /** A claim lasts longer than two calls at a target. */
  readonly claimMs: number;
  readonly callMs: number;
  /** Where the store's age is kept outside of it; absent: nowhere. */
  readonly epochFile?: string | undefined;
  /** Ended rotations and events are kept so long. */
  readonly historyDays: number;
}

export const engineDefaults = {
  settleMs: 100,
  readBarrierMs: 1_000,
  concurrency: 16,
  perTarget: 10,
  warmUpMs: 60_000,
  claimMs: 20_000,
  callMs: 8_000,
  historyDays: 400,
} as const;
