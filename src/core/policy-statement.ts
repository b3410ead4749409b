import { type Condition, compileConditions } from "./condition.ts";
import { ServiceError } from "./error.ts";
import { isObject } from "./json-object.ts";
import { compilePattern, shown, type ValueTest } from "./pattern.ts";
import { type PrincipalProblem, type PrincipalSet, parsePrincipals } from "./policy-principal.ts";
import { compileGlob, globTokens } from "./wildcard.ts";

/** What a policy is attached to: a principal, a resource, a role (who may assume it), or a session. */
export type PolicyKind = "identity" | "resource" | "trust" | "session";

/** One statement, compiled. */
export interface Statement {
  /** Position in the policy, from 0. */
  readonly index: number;
  readonly sid: string | undefined;
  readonly effect: "Allow" | "Deny";
  /** Present in resource and trust policies only. */
  readonly principals: PrincipalSet | undefined;
  readonly conditions: readonly Condition[];
  /** `action` in lower case. */
  appliesToAction(action: string): boolean;
  appliesToResource: ValueTest;
}

const maxPatternChars = 2048;
const statementElements = [
  "Sid",
  "Effect",
  "Principal",
  "NotPrincipal",
  "Action",
  "NotAction",
  "Resource",
  "NotResource",
  "Condition",
];
const actionForm = /^(\*|\*:\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$/;

interface Reading {
  readonly kind: PolicyKind;
  /** Policy variables exist from version 2012-10-17 on. */
  readonly variables: boolean;
}

/** Reads the statement at `index` of a policy. @throws ServiceError MalformedPolicyDocumentException. */
export function parseStatement(element: unknown, index: number, reading: Reading): Statement {
  const { kind } = reading;
  const where = `Statement[${index}]`;
  if (!isObject(element)) return malformed(kind, where, "must be an object");
  for (const name of Object.keys(element)) {
    if (!statementElements.includes(name)) malformed(kind, where, `${shown(name)} is not an element of a statement`);
  }
  const { Effect: effect } = element;
  if (effect !== "Allow" && effect !== "Deny") return malformed(kind, `${where}.Effect`, "must be Allow or Deny");
  const fail = (below: string, rule: string): never =>
    malformed(kind, below === "" ? `${where}.Condition` : `${where}.Condition.${below}`, rule);
  const { Condition: conditions = {} } = element;
  return {
    index,
    sid: readSid(element.Sid, kind, `${where}.Sid`),
    effect,
    principals: readPrincipals(element, where, kind),
    appliesToAction: readActions(element, where, kind),
    appliesToResource: readResources(element, where, reading),
    conditions: compileConditions(conditions, { variables: reading.variables, fail }),
  };
}

function readSid(sid: unknown, kind: PolicyKind, where: string): string | undefined {
  if (sid === undefined || sid === "") return undefined;
  if (typeof sid !== "string") return malformed(kind, where, "must be a string");
  if (kind !== "resource" && !/^[A-Za-z0-9]+$/.test(sid)) malformed(kind, where, "may hold letters and digits only");
  return sid;
}

function readPrincipals(element: Record<string, unknown>, where: string, kind: PolicyKind): PrincipalSet | undefined {
  if (kind === "identity" || kind === "session") {
    for (const name of ["Principal", "NotPrincipal"]) {
      if (element[name] !== undefined) malformed(kind, `${where}.${name}`, "belongs in resource and trust policies only");
    }
    return undefined;
  }
  const name = oneOf(element, ["Principal", "NotPrincipal"], where, kind);
  if (name === "NotPrincipal" && kind === "trust") malformed(kind, `${where}.NotPrincipal`, "is not allowed in a trust policy");
  const read = parsePrincipals(element[name], name === "NotPrincipal");
  if (!("fault" in read)) return read;
  const at = read.where === "" ? `${where}.${name}` : `${where}.${name}.${read.where}`;
  return malformed(kind, at, read.rule, read.fault);
}

function readActions(element: Record<string, unknown>, where: string, kind: PolicyKind): Statement["appliesToAction"] {
  const name = oneOf(element, ["Action", "NotAction"], where, kind);
  const actions = readStrings(element[name], `${where}.${name}`, kind);
  for (const action of actions) {
    if (!actionForm.test(action)) malformed(kind, `${where}.${name}`, `${shown(action)} is not service:Operation`);
    if (kind === "trust" && !/^sts:/i.test(action)) malformed(kind, `${where}.${name}`, "a trust policy allows sts actions only");
  }
  const tests = actions.map((action) => compileGlob(globTokens(action.toLowerCase())));
  const wanted = name === "Action";
  return (action) => tests.some((test) => test(action)) === wanted;
}

function readResources(element: Record<string, unknown>, where: string, { kind, variables }: Reading): ValueTest {
  if (kind === "trust") {
    for (const name of ["Resource", "NotResource"]) {
      if (element[name] !== undefined) malformed(kind, `${where}.${name}`, "is not allowed in a trust policy");
    }
    return () => true;
  }
  const name = oneOf(element, ["Resource", "NotResource"], where, kind);
  const patterns = readStrings(element[name], `${where}.${name}`, kind);
  const wanted = name === "Resource";
  if (patterns.includes("*")) return () => wanted;
  const tests = patterns.map((pattern) =>
    compileResource(pattern, variables, (rule) => malformed(kind, `${where}.${name}`, rule)),
  );
  const [first] = tests;
  if (tests.length === 1 && first && wanted) return first;
  return (resource, context) => tests.some((test) => test(resource, context)) === wanted;
}

/** The ARN as one text: a `*` may reach over colons, as in IAM. Fewer than six parts are fine when the last ends in `*`. */
function compileResource(pattern: string, variables: boolean, fail: (rule: string) => never): ValueTest {
  const parts = pattern.split(":").length;
  if (!pattern.startsWith("arn:") || (parts < 6 && !(parts > 3 && pattern.endsWith("*")))) {
    fail(`${shown(pattern)} must be an ARN or "*"`);
  }
  return compilePattern(pattern, { wildcards: true, variables, fail });
}

function readStrings(listed: unknown, where: string, kind: PolicyKind): string[] {
  const values: unknown[] = Array.isArray(listed) ? listed : [listed];
  if (values.length === 0) return malformed(kind, where, "needs a value");
  return values.map((value) => {
    if (typeof value !== "string") return malformed(kind, where, "values must be strings");
    if (value.length > maxPatternChars) malformed(kind, where, `values have at most ${maxPatternChars} characters`);
    return value;
  });
}

function oneOf<Name extends string>(
  element: Record<string, unknown>,
  names: readonly Name[],
  where: string,
  kind: PolicyKind,
): Name {
  const present = names.filter((name) => element[name] !== undefined);
  const [only] = present;
  if (only === undefined || present.length > 1) return malformed(kind, where, `needs exactly one of ${names.join(" and ")}`);
  return only;
}

/** Refuses a policy. Source: AWS Secrets Manager User Guide, "Attach a permissions policy to a secret", for the texts of resource policies. */
export function malformed(kind: PolicyKind, where: string, rule: string, fault: PrincipalProblem["fault"] = "form"): never {
  const policy = kind === "resource" ? "This resource policy" : kind === "identity" ? "This policy" : `This ${kind} policy`;
  const texts = {
    form: "contains a syntax error.",
    principal: "contains an unsupported principal.",
    service: "contains an invalid service principal.",
  };
  const place = where === "" ? "The document" : `${where}:`;
  throw new ServiceError("MalformedPolicyDocumentException", `${policy} ${texts[fault]} ${place} ${rule}.`);
}
