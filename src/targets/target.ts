import type { z } from "zod";
import type { OutcomeClass } from "../core/error.ts";
import type { Strategy } from "../core/rotation.ts";
import type { PasswordShape } from "../core/rotation-policy.ts";

export type { Strategy };

/** What a rotator is given beside credentials. Every call ends before `deadlineAt`; target sessions carry `rotationId`. */
export interface RotatorTools {
  readonly rotationId: string;
  /** Of the claim under which it is called; absent: of no claim. */
  readonly fence?: number | undefined;
  /** What `generatePassword` keeps to already, for those that generate elsewhere. */
  readonly password?: PasswordShape | undefined;
  /** Epoch ms. A call that is not done by then fails: `unknown` when a change was under way, else `timeout`. */
  readonly deadlineAt: number;
  /** Resolves when what is to be put in force is durable; rejects when it never will be. Absent: it is. See `Rotator.logsInEarly`. */
  readonly ready?: Promise<void> | undefined;
  /** A password with at least `length` characters (default 32) and none of `exclude`; the caller's randomness. */
  generatePassword(options?: { length?: number; exclude?: string }): string;
}

/** Who may act at the target: the secret's own credential, and the superuser's that `masterarn` names. */
export interface Access<Credential, Admin = Credential> {
  readonly current: Credential;
  /** Sets passwords for alternating users and of a second slot, and for a single user that nothing else opens; acts for an issuer where it is given. */
  readonly admin: Admin | undefined;
  /** Both users that `usernames` names logged in before the secret was made, and nobody but Rekey can write it: no mark at the target is asked for. */
  readonly pairIsProven?: boolean | undefined;
}

/** What a pre-flight looks at. */
interface Looked<Credential, Admin = Credential> extends Access<Credential, Admin> {
  readonly previous?: Credential | undefined;
}

export interface Versions<Credential, Admin = Credential> extends Access<Credential, Admin> {
  readonly pending: Credential;
  readonly previous: Credential | undefined;
}

/** Another address of the same target: a replica or a pooler. */
export interface Endpoint {
  readonly host: string;
  /** Absent: as in the credential. */
  readonly port?: number | undefined;
}

/** Something that a pre-flight found: which step would fail, why, and what would help; in words, without values. */
export interface Finding {
  readonly step: "createSecret" | "setSecret" | "testSecret" | "finishSecret" | "retirement";
  readonly problem: string;
  readonly remedy: string;
  /** It would work, and yet somebody should know. */
  readonly warning?: boolean;
}

/** Something that two users who take turns do not have alike, in words and statements without values. */
export interface Difference {
  readonly kind: "attribute" | "limit" | "membership" | "grant" | "default" | "setting" | "ownership";
  /** What it is about, e.g. `SELECT on table app.orders`. */
  readonly what: string;
  /** As the first user has it, and the second; absent: not at all. */
  readonly first?: string | undefined;
  readonly second?: string | undefined;
  /** What would make them alike, for somebody to look at and run. */
  readonly statements: readonly string[];
}

export interface Comparison {
  /** The two that take turns, the one without suffix first. */
  readonly users: readonly { readonly name: string; readonly exists: boolean }[];
  readonly differences: readonly Difference[];
  /** What would spare the trouble for good. */
  readonly advice: readonly string[];
}

/** A credential that lives at the target, by its id there; never its value. */
export interface Issued {
  readonly id: string;
  /** Epoch ms, where the target tells. */
  readonly createdAt?: number | undefined;
  /** The rotation that asked for it, where the target keeps such a mark. */
  readonly rotationId?: string | undefined;
}

/** How a target makes and deletes credentials. An id that is gone counts as deleted. */
export interface Issuer<Credential, Admin = Credential> {
  /** How many the target keeps for one account, where there is a limit. */
  readonly most?: number | undefined;
  /** `list` tells the rotation of each that Rekey asked for: those are its own, and no other. Absent: those that came since an earlier list. */
  readonly marks?: boolean | undefined;
  /** `issue` again for the same rotation gives the same one: after a lost answer it is asked for again, and none deleted before. */
  readonly repeatable?: boolean | undefined;
  /** A login does not show that the id is the credential's own: what no rotation made is not deleted by its id. */
  readonly idUnproven?: boolean | undefined;
  /** A new one may be refused for so long before all of the target knows it. */
  readonly settlesWithinMs?: number | undefined;
  /** The id under which the target knows a credential; not secret. */
  id(credential: Credential): string;
  /** All that live for the account now; `undefined` when the target cannot say. @throws RotatorError */
  list(access: Access<Credential, Admin>, tools: RotatorTools): Promise<readonly Issued[] | undefined>;
  /** Makes one more, marked with `tools.rotationId` where the target keeps marks. @throws RotatorError */
  issue(access: Access<Credential, Admin>, tools: RotatorTools): Promise<Credential>;
  /** The caller has made sure that no live version has this id. @throws RotatorError */
  delete(id: string, access: Access<Credential, Admin>, tools: RotatorTools): Promise<void>;
}

/**
 * Changes one kind of credential where it is checked. Staging labels, retries and schedules are the engine's.
 * Every verb may run again for the same version and must end the same.
 */
export interface Rotator<Credential, Admin = Credential> {
  /** As in the secret's `engine` key and in messages, e.g. `postgres`. */
  readonly kind: string;
  readonly strategies: readonly Strategy[];
  /** What a caller that died has left running there cannot be ended: before anything is decided, its longest time is waited out. */
  readonly outwaited?: boolean;
  /** So much later than its deadline a call may still end; absent: not at all. */
  readonly callsOutliveMs?: number;
  /** `set` may be called while its intent is made durable: it logs in, and awaits `tools.ready` before it does anything there. */
  readonly logsInEarly?: boolean;
  /** Shape of the secret's JSON value; keys that it does not name are kept. */
  readonly credential: z.ZodType<Credential>;
  /** Shape of the superuser's value; absent: the same. */
  readonly admin?: z.ZodType<Admin>;
  /**
   * What one rotation at a time may touch, e.g. `postgres://host:5432/user`; both users of an alternating pair give the same
   * text; up to the last `/` it names the target. `undefined`: the secret stands for itself.
   */
  account(current: Credential, strategy: Strategy): string | undefined;
  /** What to do in place of `asked` with this very target: `dual-slot` where it has it. Asked once for each rotation. */
  prefer?(access: Access<Credential, Admin>, asked: Strategy, tools: RotatorTools): Promise<Strategy>;
  /** The next credential. Pure but for its randomness: changes nothing outside. Not called for an issuer. @throws RotatorError `invalid` */
  create(current: Credential, strategy: Strategy, tools: RotatorTools): Promise<Credential>;
  /** Of `issuer`. */
  readonly issuer?: Issuer<Credential, Admin>;
  /**
   * Puts `pending` in force, whichever of the versions the target accepts now; first ends what earlier calls for the same
   * account left running there. With two slots or users, the current one stays in force. Not called for issuers and
   * generators. @throws RotatorError with its outcome class.
   */
  set(versions: Versions<Credential, Admin>, strategy: Strategy, tools: RotatorTools): Promise<void>;
  /** Logs in with `pending` and runs a trivial query. @throws RotatorError; `invalid` when any password would have done. */
  test(pending: Credential, tools: RotatorTools): Promise<void>;
  /** Does this log in? Never throws for an answer: `ok`, `refused`, `unreachable`, … Used after unknown outcomes. */
  probe(credential: Credential, tools: RotatorTools): Promise<OutcomeClass>;
  /**
   * Ends an old credential, so that it logs in no more, and leaves the current one as it is; one that has ended counts as
   * done. Of `dual-slot` and `alternating-users`. @throws RotatorError
   */
  retire?(old: Credential, access: Access<Credential, Admin>, strategy: Strategy, tools: RotatorTools): Promise<void>;
  /** The same credential at another address of its target; absent: the target has one address. */
  at?(credential: Credential, endpoint: Endpoint): Credential;
  /**
   * What of a rotation would fail, found without changing anything; that both credentials log in is known. `previous`: of the
   * same account, and may have ended. @throws RotatorError
   */
  check?(access: Looked<Credential, Admin>, strategy: Strategy, tools: RotatorTools): Promise<readonly Finding[]>;
  /** What the two users of an alternating pair do not have alike; changes nothing. @throws RotatorError */
  compare?(access: Access<Credential, Admin>, tools: RotatorTools): Promise<Comparison>;
}
