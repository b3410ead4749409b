import { type Compiling, decide, uniteSession } from "../core/decide.ts";
import { ServiceError } from "../core/error.ts";
import { accessDeniedMessage } from "../core/evaluate.ts";
import { type Policy, type PolicyKind, parsePolicy } from "../core/policy.ts";
import type { PolicyText, Principal } from "../core/principal.ts";
import type { AuthorizedResource, RequestFacts } from "../core/request-context.ts";

/** The refusal of what the principal may not do; undefined when it may. Needs nothing but its arguments. */
export type Authorize = (
  principal: Principal,
  action: string,
  resource: AuthorizedResource,
  facts: RequestFacts,
) => ServiceError | undefined;

const maxPoliciesOfAKind = 4096;

/** Keeps compiled policies: by document, the one used longest ago leaves first, and by the principal that authentication keeps. */
export function createAuthorizer(): Authorize {
  const compile = keepingCompiler(maxPoliciesOfAKind);
  return (principal, action, resource, facts) => {
    const decision = decide({ principal, action, resource, facts }, compile);
    if (decision.allowed) return undefined;
    // Whether a role is there, and whom it trusts, is not told to those whom it does not let in.
    const withoutReason = resource.isTrustPolicy === true && (decision.by?.policyKind ?? "trust") === "trust";
    const named = { principalArn: principal.arn, action, resource: resource.shown, withoutReason };
    return new ServiceError("AccessDeniedException", accessDeniedMessage(decision, named));
  };
}

function keepingCompiler(maxKept: number): Compiling {
  const byDocument = { identity: new Map(), resource: new Map(), trust: new Map(), session: new Map() } satisfies Record<
    PolicyKind,
    Map<string, Policy>
  >;
  const ofPrincipal = new WeakMap<readonly PolicyText[], readonly Policy[]>();
  const ofSession = new WeakMap<readonly PolicyText[], Policy>();
  const one: Compiling["one"] = (document, kind, name) => {
    const policies: Map<string, Policy> = byDocument[kind];
    // Resource and trust policies have one name each: their text alone is a key whose hash the engine remembers.
    const key = kind === "identity" ? `${name} ${document}` : document;
    const policy = policies.get(key) ?? parsePolicy(document, kind, name);
    policies.delete(key); // to the end: the first one was used longest ago
    policies.set(key, policy);
    const oldest = policies.keys().next();
    if (policies.size > maxKept && !oldest.done) policies.delete(oldest.value);
    return policy;
  };
  const all: Compiling["all"] = (texts) =>
    kept(ofPrincipal, texts, () => texts.map(({ name, document }) => one(document, "identity", name)));
  return { one, all, session: (texts) => kept(ofSession, texts, () => uniteSession(all(texts))) };
}

function kept<K extends object, V>(map: WeakMap<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known) return known;
  const made = make();
  map.set(key, made);
  return made;
}
