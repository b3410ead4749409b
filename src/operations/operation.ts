import type { z } from "zod";
import type { ServiceError } from "../core/error.ts";
import type { Principal } from "../core/principal.ts";
import type { Sql } from "../store/sql.ts";
import type { Services } from "./services.ts";

/** What an operation acts on: enough to decide before anything is known to exist. */
export interface Resource {
  /** The ARN, or the one that the name would have, or `*`. */
  readonly arn: string;
  /** How AccessDenied names it: exactly as the caller did. Absent: not named. */
  readonly shown?: string;
  /** The resource policy's document. */
  readonly policy?: string | undefined;
  /** Permission must come from that policy, or from an identity policy of an account that it names: roles' trust policies. */
  readonly isTrustPolicy?: boolean;
  /** Condition keys of the request and the resource; names as in IAM (compared without case). */
  readonly context: Readonly<Record<string, readonly string[]>>;
}

export interface Permission {
  readonly action: string;
  readonly resource: Resource;
}

/** One request while it is being answered. */
export interface Call {
  readonly principal: Principal;
  readonly region: string;
  readonly account: string;
  readonly requestId: string;
  readonly sourceIp: string;
  readonly userAgent: string;
  readonly secure: boolean;
  readonly startedAt: number;
  readonly services: Services;
  /** Reads. */
  readonly sql: Sql;
  /** Commits changes together with this call's audit record. */
  transaction<T>(work: (tx: Sql) => Promise<T>): Promise<T>;
  /** Whether the caller may also do this; the refusal if not. */
  may(action: string, resource: Resource): ServiceError | undefined;
  /** Aborted when the caller is gone, where the door can tell. */
  readonly signal?: AbortSignal | undefined;
  /** Adds to what this call's audit record says: what was found out by running it. */
  describe(more: object): void;
  /** A further audit record of this call, e.g. one for each secret of a batch. */
  note(action: string, resource: string, outcome: string, parameters: object): void;
}

/** One thing that callers may ask for, the same for every door. Names are AWS's where AWS has the operation. */
export interface Operation<Input = unknown, Found extends Resource = Resource> {
  /** `GetSecretValue`. */
  readonly name: string;
  /** `secretsmanager:GetSecretValue`, `rekey:CreateUser`. Absent: any authenticated caller may (sts:GetCallerIdentity). */
  readonly action?: string;
  /** In the native API: `POST /rekey/v1/<noun>/<verb>`. */
  readonly noun: string;
  readonly verb: string;
  /** `write` operations run on the process that owns the store's writes. */
  readonly mode: "read" | "write";
  readonly summary: string;
  /** AWS's capitalised member names. Unknown members are ignored. */
  readonly input: z.ZodType<Input>;
  /** Input members that never reach the audit record. */
  readonly sensitive?: readonly string[];
  /** Answers that told nothing and changed nothing, of which there are many, go without a record. Absent: all are recorded. */
  isIdle?(output: object): boolean;
  /** Rules that come before authorization and existence, e.g. the missing ClientRequestToken. */
  check?(input: Input): void;
  /** Never throws for absence. */
  resource(input: Input, call: Call): Found | Promise<Found>;
  /** Permissions beside `action`. */
  permissions?(input: Input, found: Found, call: Call): readonly Permission[];
  /** Dates in the answer are `Date`s and blobs are `Buffer`s: each door writes them its own way. */
  run(input: Input, found: Found, call: Call): Promise<object>;
}

/** Keeps the types of one operation together where it is written. */
export function defineOperation<Input, Found extends Resource>(operation: Operation<Input, Found>): Operation {
  return operation as unknown as Operation;
}
