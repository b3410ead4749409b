import { identityLimits } from "./identity.ts";
import { isObject, repeatedName } from "./json-object.ts";
import { shown } from "./pattern.ts";
import { malformed, type PolicyKind, parseStatement, type Statement } from "./policy-statement.ts";

export { isPublic } from "./policy-public.ts";
export type { PolicyKind, Statement } from "./policy-statement.ts";

/** The statements of a policy that name an action. */
interface Candidates {
  readonly deny: readonly Statement[];
  readonly allow: readonly Statement[];
}

/** A policy read and compiled once; safe to keep as long as its document does not change. */
export interface Policy {
  readonly kind: PolicyKind;
  /** Shown in decisions: the policy's name or ARN. */
  readonly name: string;
  readonly statements: readonly Statement[];
  readonly document: string;
  /** By action in any case; remembered for the actions asked for last. */
  candidates(action: string): Candidates;
}

/** Characters of a document, blanks outside strings not counted. Source: IAM quotas; Secrets Manager quotas. */
const maxChars: Readonly<Record<PolicyKind, number>> = {
  identity: identityLimits.policyChars,
  resource: 20_480,
  trust: identityLimits.trustPolicyChars,
  session: identityLimits.sessionPolicyChars,
};
const maxRawChars = 131_072;
const rememberedActions = 256;

const policyElements = ["Version", "Id", "Statement"];
/**
 * Reads an IAM policy. Every element is checked, so that a policy that was accepted once is never refused while it decides.
 * @throws ServiceError MalformedPolicyDocumentException, naming the element and the rule it breaks.
 * Source: IAM User Guide, "Grammar of the IAM JSON policy language".
 */
export function parsePolicy(document: string, kind: PolicyKind, name = ""): Policy {
  const policy = parseDocument(document, kind);
  for (const element of Object.keys(policy)) {
    if (!policyElements.includes(element)) malformed(kind, "", `${shown(element)} is not an element of a policy`);
  }
  const { Version: version = "2008-10-17", Id: id = "", Statement: listed } = policy;
  if (version !== "2012-10-17" && version !== "2008-10-17") malformed(kind, "Version", "must be 2012-10-17 or 2008-10-17");
  if (typeof id !== "string") malformed(kind, "Id", "must be a string");
  const elements: unknown[] = Array.isArray(listed) ? listed : [listed];
  if (listed === undefined || elements.length === 0) malformed(kind, "Statement", "must hold at least one statement");
  const reading = { kind, variables: version === "2012-10-17" };
  const statements = elements.map((element, index) => parseStatement(element, index, reading));
  refuseRepeatedSids(kind, statements);
  return { kind, name, statements, document, candidates: candidatesOf(statements) };
}

function parseDocument(document: string, kind: PolicyKind): Record<string, unknown> {
  const limit = maxChars[kind];
  if (document.length > maxRawChars) malformed(kind, "", `has more than ${limit} characters`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(document);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    malformed(kind, "", "is not JSON");
  }
  if (!isObject(parsed)) return malformed(kind, "", "must be a JSON object");
  if (document.length > limit && withoutBlanks(document).length > limit) malformed(kind, "", `has more than ${limit} characters`);
  const repeated = repeatedName(document);
  if (repeated !== undefined) malformed(kind, "", `${shown(repeated)} stands twice in one object`);
  return parsed;
}

/** Of a well-formed JSON text; from the text, since what was parsed of it may be nested more deeply than can be written. */
function withoutBlanks(json: string): string {
  return json.replace(/("[^"\\]*(?:\\.[^"\\]*)*")|\s+/g, "$1");
}

function refuseRepeatedSids(kind: PolicyKind, statements: readonly Statement[]): void {
  const seen = new Set<string>();
  for (const { sid, index } of statements) {
    if (sid === undefined) continue;
    if (seen.has(sid)) malformed(kind, `Statement[${index}].Sid`, `${shown(sid)} stands twice`);
    seen.add(sid);
  }
}

/** Remembers which statements name an action, so that a decision looks at those alone; bounded, as callers choose actions. */
function candidatesOf(statements: readonly Statement[]): Policy["candidates"] {
  const remembered = new Map<string, Candidates>();
  return (action) => {
    const known = remembered.get(action);
    if (known) return known;
    const lower = action.toLowerCase();
    const named = statements.filter((statement) => statement.appliesToAction(lower));
    const found = {
      deny: named.filter(({ effect }) => effect === "Deny"),
      allow: named.filter(({ effect }) => effect === "Allow"),
    };
    if (remembered.size >= rememberedActions) remembered.clear();
    remembered.set(action, found);
    return found;
  };
}
