import type { PolicyText, Principal } from "./principal.ts";

/** Who configured a rotation, as far as the rights at its later runs depend on that. Nothing in it is secret. */
export interface RotationPrincipal {
  /** Of root, of a user, or of the role behind a session. */
  readonly arn: string;
  /** Of that user or role: one that was made again under the same name has another. */
  readonly id: string;
  readonly session?: RotationSession;
}

/** What a session adds to its role, or a token to its user, and takes away. */
interface RotationSession {
  readonly arn: string;
  readonly userId: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly issuedAt?: number;
  /** Absent: no limits. A policy without document is the one of that ARN, as it is at each run. */
  readonly policies?: readonly { readonly name: string; readonly document?: string }[];
}

/** What is kept of the caller who configures a rotation. */
export function rotationPrincipal(caller: Principal): RotationPrincipal {
  const { roleArn, sessionPolicies, sessionTags, tokenIssuedAt } = caller;
  const known = { arn: roleArn ?? caller.arn, id: caller.userId.split(":")[0] ?? "" };
  if (roleArn === undefined && sessionPolicies === undefined) return known;
  return {
    ...known,
    session: {
      arn: caller.arn,
      userId: caller.userId,
      ...(sessionTags && { tags: sessionTags }),
      ...(tokenIssuedAt !== undefined && { issuedAt: tokenIssuedAt }),
      ...(sessionPolicies && { policies: sessionPolicies.map(keptPolicy) }),
    },
  };
}

function keptPolicy({ name, document }: PolicyText): { name: string; document?: string } {
  return name.startsWith("arn:") ? { name } : { name, document };
}

/**
 * The principal with the session that it had when it configured the rotation; `undefined` when another has its name by now.
 * `policies`: those of the session, with their documents as they are now.
 */
export function withSession(
  now: Principal,
  { id, session }: RotationPrincipal,
  policies: readonly PolicyText[] | undefined,
): Principal | undefined {
  if (now.userId !== id) return undefined;
  if (!session) return now;
  const { arn, userId, tags = {}, issuedAt } = session;
  return {
    ...now,
    arn,
    userId,
    tags: mergeTags(now.tags, tags),
    ...(issuedAt !== undefined && { tokenIssuedAt: issuedAt }),
    ...(policies && { sessionPolicies: policies }),
  };
}

/** Tags of a session stand in for its role's: keys are compared without case; the session's spelling and value stay. */
export function mergeTags(
  own: Readonly<Record<string, string>>,
  session: Readonly<Record<string, string>>,
): Record<string, string> {
  const replaced = new Set(Object.keys(session).map((key) => key.toLowerCase()));
  return { ...Object.fromEntries(Object.entries(own).filter(([key]) => !replaced.has(key.toLowerCase()))), ...session };
}
