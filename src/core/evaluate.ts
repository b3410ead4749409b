import type { ConditionContext } from "./condition.ts";
import type { Policy, PolicyKind, Statement } from "./policy.ts";
import { matchPrincipal, type PrincipalFacts, type PrincipalMatch } from "./policy-principal.ts";

export type { PrincipalFacts } from "./policy-principal.ts";

/** One question: may this principal do this to that? */
export interface AccessRequest {
  /** `secretsmanager:GetSecretValue`, in any case. */
  readonly action: string;
  /** An ARN, or `*` for actions on no resource. */
  readonly resource: string;
  /** By condition key in lower case (`aws:principaltag/team`); a Map will do. Nothing is added from `principal`. */
  readonly context: ConditionContext;
  readonly principal: PrincipalFacts;
}

/** All policies that have a say. */
export interface PolicySet {
  readonly identity: readonly Policy[];
  /** Of the resource; for sts:AssumeRole and its kin the role's trust policy. */
  readonly resource?: Policy | undefined;
  /** Each of them must allow as well. */
  readonly session?: readonly Policy[] | undefined;
}

/** The answer, and the statement that gave it. */
export interface Decision {
  readonly allowed: boolean;
  readonly reason: "allow" | "explicitDeny" | "implicitDeny";
  /** Absent of implicit denials, and of what root may do by being root. */
  readonly by?: DecidingStatement;
  /** Of implicit denials: the kind of policy that would have had to allow. */
  readonly missing?: PolicyKind;
}

interface DecidingStatement {
  readonly policyKind: PolicyKind;
  readonly policyName: string;
  readonly statementIndex: number;
  readonly sid?: string;
}

interface Grant {
  readonly policy: Policy;
  readonly statement: Statement;
}

interface ResourceGrant extends Grant {
  readonly match: PrincipalMatch;
}

/**
 * Decides as IAM does. Any Deny wins. Within the account identity and resource policies unite; a trust policy, and the policy of
 * another account's resource, must allow in any case. Session policies must allow too, unless the resource policy names the very
 * session. Decided here where AWS leaves room:
 * - root needs no policy in its own account, but is bound by Deny statements and by session policies (its tokens);
 * - an account as Principal of an Allow only delegates: its users and roles still need an identity policy;
 * - Principal `*` grants to principals of the account directly, but never past their session policies;
 * - services, identity providers and anonymous callers have resource policies alone.
 * Source: IAM User Guide, "Policy evaluation logic".
 */
export function evaluate(request: AccessRequest, policies: PolicySet): Decision {
  const denied = findDeny(request, policies);
  if (denied) return { allowed: false, reason: "explicitDeny", by: deciding(denied) };
  const { identity, resource, session = [] } = policies;
  const ownAccount = isOwnAccount(request);
  const granted = resource && findResourceGrant(request, resource);
  if (!granted && (resource?.kind === "trust" || !ownAccount)) return refused(resource?.kind ?? "resource");
  const direct = ownAccount && granted?.match !== "account" ? granted : undefined;
  const allowing = direct ?? findIdentityGrant(request, identity);
  if (!allowing) return refused(missingKind(request.principal, resource));
  if (direct?.match !== "session" && !session.every((policy) => findAllow(request, policy))) return refused("session");
  return allowing === "root" ? { allowed: true, reason: "allow" } : { allowed: true, reason: "allow", by: deciding(allowing) };
}

const typeNames: Readonly<Record<PolicyKind, string>> = {
  identity: "an identity-based policy",
  resource: "a resource-based policy",
  session: "a session policy",
  trust: "the role trust policy",
};

/**
 * The text of AccessDeniedException. `resource` is shown as the caller sent it; left out, so is "on resource".
 * Source: IAM User Guide, "Troubleshoot access denied error messages".
 */
export function accessDeniedMessage(
  { by, missing = "identity" }: Decision,
  {
    principalArn,
    action,
    resource,
    withoutReason = false,
  }: {
    readonly principalArn: string;
    readonly action: string;
    readonly resource?: string | undefined;
    readonly withoutReason?: boolean;
  },
): string {
  const on = resource === undefined ? "" : ` on resource: ${resource}`;
  const why = by
    ? ` with an explicit deny in ${typeNames[by.policyKind]}`
    : ` because no ${typeNames[missing].replace(/^\w+ /, "")} allows the ${action} action`;
  return `User: ${principalArn} is not authorized to perform: ${action}${on}${withoutReason ? "" : why}`;
}

function findDeny(request: AccessRequest, { identity, resource, session }: PolicySet): Grant | undefined {
  const denied = firstDeny(request, identity) ?? (session && firstDeny(request, session));
  return denied ?? (resource && firstDeny(request, [resource]));
}

function firstDeny(request: AccessRequest, policies: readonly Policy[]): Grant | undefined {
  for (const policy of policies) {
    for (const statement of policy.candidates(request.action).deny) {
      if (meansPrincipal(statement, request) && covers(statement, request)) return { policy, statement };
    }
  }
  return undefined;
}

function findAllow(request: AccessRequest, policy: Policy): Grant | undefined {
  for (const statement of policy.candidates(request.action).allow) {
    if (covers(statement, request)) return { policy, statement };
  }
  return undefined;
}

/** Root needs no policy, but one that allows is named when there is. */
function findIdentityGrant(request: AccessRequest, identity: readonly Policy[]): Grant | "root" | undefined {
  const { kind } = request.principal;
  if (kind === "service" || kind === "federated" || kind === "anonymous") return undefined;
  for (const policy of identity) {
    const found = findAllow(request, policy);
    if (found) return found;
  }
  return kind === "root" ? "root" : undefined;
}

/** The grant that reaches furthest: to the session, to the principal or everyone, to its account. */
function findResourceGrant(request: AccessRequest, policy: Policy): ResourceGrant | undefined {
  let best: ResourceGrant | undefined;
  for (const statement of policy.candidates(request.action).allow) {
    const match = statement.principals && matchPrincipal(statement.principals, request.principal, "Allow");
    if (match === undefined || (best && !reachesFurther(match, best.match)) || !covers(statement, request)) continue;
    if (match === "session") return { policy, statement, match };
    best = { policy, statement, match };
  }
  return best;
}

function reachesFurther(match: PrincipalMatch, than: PrincipalMatch): boolean {
  return match === "session" || (than === "account" && match !== "account");
}

function meansPrincipal({ principals }: Statement, { principal }: AccessRequest): boolean {
  return principals === undefined || matchPrincipal(principals, principal, "Deny") !== undefined;
}

function covers(statement: Statement, { resource, context }: AccessRequest): boolean {
  if (!statement.appliesToResource(resource, context)) return false;
  for (const condition of statement.conditions) if (!condition.holds(context)) return false;
  return true;
}

/** Services and anonymous callers are of no account; resources without one are the caller's. */
function isOwnAccount({ resource, principal: { kind, accountId } }: AccessRequest): boolean {
  if (kind === "service" || kind === "federated" || kind === "anonymous" || !resource.startsWith("arn:")) return true;
  let at = 0;
  for (let colons = 0; colons < 4; colons++) at = resource.indexOf(":", at) + 1;
  return at === 0 || resource.startsWith(":", at) || resource.startsWith(`${accountId}:`, at);
}

function missingKind({ kind }: PrincipalFacts, resource: Policy | undefined): PolicyKind {
  return kind === "service" || kind === "federated" || kind === "anonymous" ? (resource?.kind ?? "resource") : "identity";
}

function refused(missing: PolicyKind): Decision {
  return { allowed: false, reason: "implicitDeny", missing };
}

function deciding({ policy, statement: { index, sid } }: Grant): DecidingStatement {
  const by = { policyKind: policy.kind, policyName: policy.name, statementIndex: index };
  return sid === undefined ? by : { ...by, sid };
}
