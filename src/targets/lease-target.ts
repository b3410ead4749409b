import type { z } from "zod";
import type { RotatorTools } from "./target.ts";

/** What a lease target is given beside its connection. */
export interface LeaseTools {
  /** Id of the lease; absent: it is for none. */
  readonly subject?: string | undefined;
  /** Of the claim under which it is called; absent: of no claim. */
  readonly fence?: number | undefined;
  /** Epoch ms. A call that is not done by then fails. */
  readonly deadlineAt: number;
  readonly generatePassword: RotatorTools["generatePassword"];
}

/** Whose users they are: names at the target carry both, so that nothing of others is ever taken for ours. */
export interface LeaseMark {
  /** Of this deployment; 8 lower-case letters and digits. */
  readonly installation: string;
  /** UUID. */
  readonly leaseId: string;
  /** Of the dynamic secret, for people who look at the target. */
  readonly secretName: string;
}

/** A lease at its target. */
export interface LeasedUser {
  readonly mark: LeaseMark;
  /** As `name()` gave it. */
  readonly name: string;
  /** What `create` gave back, if it came to that. */
  readonly handle: string | undefined;
  /** Epoch ms; the target is told it where it can end logins by itself. */
  readonly expiresAt: number;
}

export interface Created {
  /** Fields of the answer, e.g. `{ USERNAME, PASSWORD, HOST, PORT }`: upper-case names, shown as `NAME_FIELD`. */
  readonly fields: Readonly<Record<string, string>>;
  /** What the target calls it, where we could not choose: needed for `renew` and `revoke`. Not secret. */
  readonly handle?: string;
}

/** A user at the target that carries our installation's mark. */
export interface FoundUser {
  readonly name: string;
  readonly handle?: string;
  /** Epoch ms, where the target tells. */
  readonly createdAt?: number;
}

/** Something that a pre-flight found, in words without values. */
export interface LeaseFinding {
  readonly problem: string;
  readonly remedy: string;
  /** It would work, and yet somebody should know. */
  readonly warning?: boolean;
}

/**
 * Makes and ends credentials of one kind at a target. Leases, deadlines, retries and quotas are the engine's. All verbs but
 * `create` may run again and must end the same; `create` runs once for a lease, and after any doubt `revoke` follows.
 */
export interface LeaseTarget<Connection = unknown, Settings = unknown> {
  /** The integration's type, e.g. `postgres`. */
  readonly kind: string;
  /** How the managing user gets there: the integration's data. Strict: unknown members are refused. */
  readonly connection: z.ZodType<Connection>;
  /** Members of the connection that are secret: sealed and never shown. */
  readonly secretMembers: readonly string[];
  /** The dynamic secret's own settings: statements, roles, policies. Strict. */
  readonly settings: z.ZodType<Settings>;
  /** Field names of what `create` gives, so that lists can name them without making a lease. */
  fieldNames(settings: Settings): readonly string[];
  /** Longest life that the target can give. */
  readonly maxTtlSeconds?: number;
  /** How long `create` may take in all, when longer than other calls, e.g. until the target knows the user everywhere. */
  readonly createMs?: number;
  /** False: it dies at its end by itself and not before, as sessions do; `revoke` is not called. */
  readonly revocable: boolean;
  /** Whether a lease may live longer than it was made for. */
  readonly renewable: boolean;
  /** What caps and breakers count by, e.g. `postgres://host:5432`. */
  target(connection: Connection): string;
  /** Logs in; tells who it is there. @throws RotatorError whose message names what to do */
  verify(connection: Connection, tools: LeaseTools): Promise<{ readonly identity: string }>;
  /** What of issuing and revoking would fail; the target is left as it was. @throws RotatorError */
  check(connection: Connection, settings: Settings, tools: LeaseTools): Promise<readonly LeaseFinding[]>;
  /** The name at the target; pure, the same for the same mark, different for different leases. */
  name(settings: Settings, mark: LeaseMark): string;
  /** @throws RotatorError */
  create(connection: Connection, settings: Settings, user: LeasedUser, tools: LeaseTools): Promise<Created>;
  /** Tells the target of the later `expiresAt`. Absent: it does not know of any. @throws RotatorError */
  renew?(connection: Connection, settings: Settings, user: LeasedUser, tools: LeaseTools): Promise<void>;
  /**
   * Ends the login first, then its sessions, then what it owns, then itself. What is gone already counts as done.
   * @throws RotatorError when anything of it is left.
   */
  revoke(connection: Connection, settings: Settings, user: LeasedUser, tools: LeaseTools): Promise<void>;
  /** Users bearing the installation's mark, whatever their leases; `undefined` when the target cannot say. @throws RotatorError */
  list?(connection: Connection, installation: string, tools: LeaseTools): Promise<readonly FoundUser[] | undefined>;
}
