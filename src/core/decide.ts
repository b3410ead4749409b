import { type Decision, evaluate } from "./evaluate.ts";
import { type Policy, type PolicyKind, parsePolicy } from "./policy.ts";
import type { PolicyText, Principal } from "./principal.ts";
import { type AuthorizedResource, RequestContext, type RequestFacts } from "./request-context.ts";

/** Who, what, on what, and under which circumstances. */
export interface Question {
  readonly principal: Principal;
  /** `secretsmanager:GetSecretValue` */
  readonly action: string;
  readonly resource: AuthorizedResource;
  readonly facts: RequestFacts;
  /** Condition keys to suppose, of a simulation. */
  readonly assumed?: Readonly<Record<string, readonly string[]>>;
}

/** How documents become policies; a caller that asks often keeps what was made. */
export interface Compiling {
  all(policies: readonly PolicyText[]): readonly Policy[];
  one(document: string, kind: PolicyKind, name: string): Policy;
  /** The policies of one session: what any of them allows. */
  session(policies: readonly PolicyText[]): Policy;
}

export const compiling: Compiling = {
  all: (policies) => policies.map(({ name, document }) => parsePolicy(document, "identity", name)),
  one: parsePolicy,
  session: (policies) => uniteSession(compiling.all(policies)),
};

/** The decision on a question, with the statement that made it. @throws ServiceError MalformedPolicyDocumentException. */
export function decide(question: Question, compile: Compiling): Decision {
  const { principal, action, resource, facts, assumed } = question;
  const { policy, isTrustPolicy = false } = resource;
  const kind = isTrustPolicy ? "trust" : "resource";
  return evaluate(
    { action, resource: resource.arn, principal, context: new RequestContext(principal, resource, facts, assumed) },
    {
      identity: compile.all(principal.policies),
      resource: policy === undefined ? (isTrustPolicy ? nobody : undefined) : compile.one(policy, kind, `${kind} policy`),
      session: principal.sessionPolicies && [compile.session(principal.sessionPolicies)],
    },
  );
}

/** Of a role that does not exist: no identity policy may stand in for a trust policy. */
const nobody: Policy = {
  kind: "trust",
  name: "",
  statements: [],
  document: "",
  candidates: () => ({ deny: [], allow: [] }),
};

/** Without any policy it allows nothing: that is a session whose policies were deleted. */
export function uniteSession(policies: readonly Policy[]): Policy {
  return {
    kind: "session",
    name: policies.map(({ name }) => name).join(", "),
    statements: policies.flatMap(({ statements }) => statements),
    document: "",
    candidates: (action) => {
      const all = policies.map((policy) => policy.candidates(action));
      return { deny: all.flatMap(({ deny }) => deny), allow: all.flatMap(({ allow }) => allow) };
    },
  };
}
