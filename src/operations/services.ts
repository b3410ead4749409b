import type { JWK } from "jose";
import type { Logger } from "pino";
import type { Audit } from "../core/audit.ts";
import type { ServiceError } from "../core/error.ts";
import type { CallResult, FunctionRecord } from "../core/function.ts";
import type { Secret } from "../core/secret.ts";
import type { SessionTokens } from "../core/session.ts";
import type { SigningKeyRecord } from "../core/signing-key.ts";
import type { Envelope } from "../crypto/envelope.ts";
import type { KeyRing } from "../crypto/key-ring.ts";
import type { SigningKey } from "../crypto/message-keys.ts";
import type { SealedCache } from "../crypto/sealed-cache.ts";
import type { AgentDesk } from "../store/agent-desk.ts";
import type { SealedEnvironment } from "../store/functions.ts";
import type { Hints } from "../store/hints.ts";
import type { SecretCache } from "../store/secret-cache.ts";
import type { Sql } from "../store/sql.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { LeaseTarget } from "../targets/lease-target.ts";
import type { Rotator } from "../targets/target.ts";

/** The functions that RotationLambdaARN may name. */
export interface FunctionDirectory {
  /** Whether the service may invoke it for this secret: undefined when it may; else the refusal for the caller. */
  refusal(functionArn: string, secret: Secret): Promise<ServiceError | undefined>;
  /** The function's own policy: who may invoke it. */
  policyOf(functionArn: string): Promise<string | undefined>;
  /** @throws ServiceError InvalidParameterException when this server could not run it. */
  check(record: FunctionRecord): Promise<void>;
  /** The timeout that one at AWS has there, in seconds; `undefined` when nobody tells. */
  timeoutAtAws(record: FunctionRecord & { readonly kind: "lambda" }): Promise<number | undefined>;
  /** Calls it once; `secretArn`: a secret that the caller may read, to be cut out of what the function writes. */
  call(record: FunctionRecord, payload: string, about: { readonly secretArn?: string }): Promise<CallResult>;
  /** Seals its variables. */
  seal(record: Pick<FunctionRecord, "arn" | "region">, variables: Readonly<Record<string, string>>): Promise<SealedEnvironment>;
  /** After a change, or its end: nothing of before is used again. */
  forget(functionArn: string): void;
}

/** What requests to agents and functions are signed with. `nowMs`: epoch ms. */
export interface SigningKeys {
  /** The one that signs now. @throws ServiceError when the store has none yet, or it cannot be opened */
  current(nowMs: number): Promise<SigningKey>;
  /** All of them with their endorsements, oldest first; kept for a second. */
  chain(): Promise<readonly SigningKeyRecord[]>;
  /** The public keys that signatures are to be verified with. */
  served(nowMs: number): Promise<readonly JWK[]>;
  /** After a change: what was kept is read again. */
  forget(): void;
}

/** What operations work with; made once in `server.ts`. */
export interface Services {
  readonly sql: Sql;
  readonly envelope: Envelope;
  readonly keys: KeyRing;
  readonly secrets: SecretCache;
  readonly audit: Audit<Sql>;
  readonly sessionTokens: SessionTokens;
  readonly signingKeys: SigningKeys;
  readonly log: Logger;
  readonly account: string;
  readonly region: string;
  readonly functions: FunctionDirectory;
  /** `undefined` for a kind that Rekey cannot lease from. */
  findLeaseTarget(kind: string, network?: string): Promise<LeaseTarget | undefined>;
  /** `undefined` for a kind that Rekey does not know. `network`: where its target is, when not here. */
  findRotator(kind: string, declaration?: unknown, network?: string): Promise<Rotator<AnyCredential> | undefined>;
  readonly extendedSchedules: boolean;
  /** Longest that a read of AWSCURRENT waits while its password is being switched at the target. */
  readonly readBarrierMs: number;
  /** Keyed digest of a value under its context: tells a repeated request from a different one without opening values. */
  digest(value: Uint8Array, context: string): Uint8Array;
  now(): number;
  /** The secret with its next rotation planned from this moment; see `planRotation`. */
  reschedule(secret: Secret, fromMs: number): Secret;
  /** Where agents wait for work. */
  readonly agents: AgentDesk;
  /** What changed in this process, for those that wait for it. */
  readonly hints: Hints;
  /** Tells the engine that work may be due. A hint: the engine finds it anyway. */
  wakeEngine(): void;
  /** Notes a read for LastAccessedDate and last reads; written in batches. */
  noteRead(secretId: string, versionId: string, principalArn: string, atMs: number): void;
  /** Notes that a config's values were fetched; written in batches. */
  noteFetch(configId: string, atMs: number): void;
  /** What was rendered for downloads lately. */
  readonly downloads: SealedCache;
}
