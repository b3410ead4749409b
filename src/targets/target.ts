import type { z } from "zod";
import type { OutcomeClass } from "../core/error.ts";

/** `single-user` changes one user's password; `alternating-users` changes the user that is not in use. */
export type Strategy = "single-user" | "alternating-users";

/** What a rotator is given beside credentials. Every call ends before `deadlineAt`; target sessions carry `rotationId`. */
export interface RotatorTools {
  readonly rotationId: string;
  /** Epoch ms. A call that is not done by then fails: `unknown` when a change was under way, else `timeout`. */
  readonly deadlineAt: number;
  /** A password with at least `length` characters (default 32) and none of `exclude`; the caller's randomness. */
  generatePassword(options?: { length?: number; exclude?: string }): string;
}

export interface Versions<Credential> {
  readonly pending: Credential;
  readonly current: Credential;
  readonly previous: Credential | undefined;
  /** The superuser's credential (`masterarn`): sets passwords for alternating users, and for a single user that nothing else opens. */
  readonly admin: Credential | undefined;
}

/**
 * Changes one kind of credential where it is checked. Staging labels, retries and schedules are the engine's.
 * Every verb may run again for the same version and must end the same.
 */
export interface Rotator<Credential> {
  /** As in the secret's `engine` key and in messages, e.g. `postgres`. */
  readonly kind: string;
  readonly strategies: readonly Strategy[];
  /** Shape of the secret's JSON value; keys that it does not name are kept. */
  readonly credential: z.ZodType<Credential>;
  /** What one rotation at a time may touch, e.g. `postgres://host:5432/user`; both users of an alternating pair give the same text. */
  account(current: Credential, strategy: Strategy): string;
  /** The next credential. Pure but for its randomness: changes nothing outside. @throws RotatorError `invalid` */
  create(current: Credential, strategy: Strategy, tools: RotatorTools): Promise<Credential>;
  /**
   * Puts `pending` in force, whichever of the versions the target accepts now; first ends what earlier calls for the same
   * account left running there. @throws RotatorError with its outcome class.
   */
  set(versions: Versions<Credential>, strategy: Strategy, tools: RotatorTools): Promise<void>;
  /** Logs in with `pending` and runs a trivial query. @throws RotatorError; `invalid` when any password would have done. */
  test(pending: Credential, tools: RotatorTools): Promise<void>;
  /** Does this log in? Never throws for an answer: `ok`, `refused`, `unreachable`, … Used after unknown outcomes. */
  probe(credential: Credential, tools: RotatorTools): Promise<OutcomeClass>;
}
