import { isObject } from "./json-object.ts";
import { shown } from "./pattern.ts";

/** Whose request it is, as far as policies look at it. */
export interface PrincipalFacts {
  readonly kind: "root" | "user" | "role" | "service" | "federated" | "token" | "anonymous";
  /** Of an assumed role: the session's `arn:aws:sts::...:assumed-role/ROLE/SESSION`. Of web identity: the provider's ARN. */
  readonly arn: string;
  /** Of an assumed role: the role itself. */
  readonly roleArn?: string | undefined;
  readonly accountId: string;
  /** `secretsmanager.amazonaws.com`; `arn` is taken when it is absent. */
  readonly serviceName?: string | undefined;
}

/** A Principal or NotPrincipal element. */
export interface PrincipalSet {
  readonly negated: boolean;
  readonly everyone: boolean;
  /** Users, roles and sessions. */
  readonly arns: ReadonlySet<string>;
  /** Twelve digits each, from the account's id or its `:root` ARN. */
  readonly accounts: ReadonlySet<string>;
  readonly services: ReadonlySet<string>;
  readonly federated: ReadonlySet<string>;
}

/** How a principal is meant: its session by ARN, itself by name, as one of everyone, or through its account. */
export type PrincipalMatch = "session" | "named" | "everyone" | "account";

/** What is wrong: a form no policy has, or a principal that does not exist here. */
export interface PrincipalProblem {
  readonly where: string;
  readonly rule: string;
  readonly fault: "form" | "principal" | "service";
}

const accountId = /^\d{12}$/;
const arnForm =
  /^arn:aws(?:-cn|-us-gov)?:(?:iam::(\d{12}):(root|(?:user|role)\/[^\s*?]+)|sts::\d{12}:(?:assumed-role\/[^\s*?/]+\/[^\s*?/]+|federated-user\/[^\s*?]+))$/;
const serviceForm = /^[a-z0-9-]+(\.[a-z0-9-]+)*\.amazonaws\.com(\.cn)?$/;
const providerForm = /^(arn:aws(-cn|-us-gov)?:iam::\d{12}:(oidc|saml)-provider\/\S+|[a-z0-9-]+(\.[a-z0-9-]+)+)$/;

/** Reads a Principal or NotPrincipal element. Source: IAM User Guide, "AWS JSON policy elements: Principal". */
export function parsePrincipals(element: unknown, negated: boolean): PrincipalSet | PrincipalProblem {
  const set = {
    negated,
    everyone: element === "*",
    arns: new Set<string>(),
    accounts: new Set<string>(),
    services: new Set<string>(),
    federated: new Set<string>(),
  };
  if (element === "*") return set;
  const types = isObject(element) ? Object.entries(element) : [];
  if (types.length === 0) return problem("", 'must be "*" or an object of AWS, Service or Federated');
  for (const [type, listed] of types) {
    const wrong = addAll(set, type, Array.isArray(listed) ? listed : [listed]);
    if (wrong) return { where: type, ...wrong };
  }
  return set;
}

/**
 * How `principal` is among those meant, undefined when it is not.
 * NotPrincipal of a Deny spares a principal only when all that it acts as is listed (its account, and its role and session or its
 * user); of an Allow it leaves a principal out as soon as one is. Both take less access when in doubt.
 * Source: IAM User Guide, "AWS JSON policy elements: NotPrincipal".
 */
export function matchPrincipal(
  set: PrincipalSet,
  principal: PrincipalFacts,
  effect: "Allow" | "Deny",
): PrincipalMatch | undefined {
  if (!set.negated) return matchListed(set, principal);
  const acting = actingAs(principal);
  const listed = (name: string): boolean => set.everyone || listsName(set, name);
  const spared = effect === "Deny" ? acting.length > 0 && acting.every(listed) : set.everyone || acting.some(listed);
  return spared ? undefined : "everyone";
}

function matchListed(set: PrincipalSet, principal: PrincipalFacts): PrincipalMatch | undefined {
  const { kind, arn, serviceName = arn } = principal;
  const everyone = set.everyone ? "everyone" : undefined;
  if (kind === "anonymous") return everyone;
  if (kind === "service") return set.services.has(serviceName) ? "named" : everyone;
  if (kind === "federated") return set.federated.has(arn) ? "named" : everyone;
  return matchOwn(set, principal) ?? everyone ?? (set.accounts.has(principal.accountId) ? "account" : undefined);
}

function matchOwn(set: PrincipalSet, { kind, arn, roleArn, accountId: account }: PrincipalFacts): PrincipalMatch | undefined {
  if (kind === "root") return set.accounts.has(account) ? "named" : undefined;
  if (set.arns.has(arn)) return kind === "role" ? "session" : "named";
  return roleArn !== undefined && set.arns.has(roleArn) ? "named" : undefined;
}

function listsName(set: PrincipalSet, name: string): boolean {
  return set.arns.has(name) || set.accounts.has(name) || set.services.has(name) || set.federated.has(name);
}

function actingAs({ kind, arn, roleArn, accountId: account, serviceName }: PrincipalFacts): string[] {
  if (kind === "anonymous") return [];
  if (kind === "service") return [serviceName ?? arn];
  if (kind === "federated") return [arn];
  if (kind === "root") return [account];
  return roleArn === undefined ? [account, arn] : [account, roleArn, arn];
}

type Building = { everyone: boolean } & Record<"arns" | "accounts" | "services" | "federated", Set<string>>;

function addAll(set: Building, type: string, values: readonly unknown[]): Omit<PrincipalProblem, "where"> | undefined {
  if (values.length === 0) return { rule: "needs a value", fault: "form" };
  for (const value of values) {
    const wrong =
      typeof value === "string" ? add(set, type, value) : ({ rule: "values must be strings", fault: "form" } as const);
    if (wrong) return wrong;
  }
  return undefined;
}

function add(set: Building, type: string, value: string): Omit<PrincipalProblem, "where"> | undefined {
  if (type === "AWS") return addAws(set, value);
  if (type === "Service") {
    if (!serviceForm.test(value)) return { rule: `${shown(value)} is not a service principal`, fault: "service" };
    set.services.add(value);
    return undefined;
  }
  if (type !== "Federated")
    return { rule: `${shown(type)} is not a type of principal; known are AWS, Service, Federated`, fault: "form" };
  if (!providerForm.test(value)) return { rule: `${shown(value)} is not an identity provider`, fault: "principal" };
  set.federated.add(value);
  return undefined;
}

function addAws(set: Building, value: string): Omit<PrincipalProblem, "where"> | undefined {
  const [matched, owner, kind] = arnForm.exec(value) ?? [];
  if (value === "*") set.everyone = true;
  else if (accountId.test(value)) set.accounts.add(value);
  else if (kind === "root" && owner !== undefined) set.accounts.add(owner);
  else if (matched !== undefined) set.arns.add(value);
  else
    return {
      rule: `${shown(value)} is not an account, user, role or session; wildcards are not allowed inside`,
      fault: "principal",
    };
  return undefined;
}

function problem(where: string, rule: string): PrincipalProblem {
  return { where, rule, fault: "form" };
}
