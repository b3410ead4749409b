import { anyOne, anyRun, compileGlob, type GlobToken } from "./wildcard.ts";

/** What is known of a request, by condition key in lower case. An absent key and an empty list mean the same. */
export interface ConditionContext {
  get(key: string): readonly string[] | undefined;
}

/** Ends the reading of a policy: `rule` says what is wrong where the reader stands. */
export type Fail = (rule: string) => never;

/** A test of one value from a request; the context is for policy variables. */
export type ValueTest = (actual: string, context: ConditionContext) => boolean;

interface PatternRules {
  /** `*` and `?` are wildcards. */
  readonly wildcards: boolean;
  /** `${...}` is replaced; only in policies of version 2012-10-17. */
  readonly variables: boolean;
  readonly ignoreCase?: boolean;
  readonly fail: Fail;
}

interface Variable {
  readonly key: string;
  readonly fallback: string | undefined;
}

type Token = GlobToken | Variable;

const nameInBraces = /^[^,'{}]{1,256}$/;

/**
 * A pattern of a policy. A variable stands for the key's one value, never read as wildcards; without value and default, or with
 * several values, the pattern matches nothing. Source: IAM User Guide, "IAM policy elements: Variables and tags".
 */
export function compilePattern(text: string, rules: PatternRules): ValueTest {
  return compileTokens(tokenize(text, rules), rules.ignoreCase === true);
}

/**
 * A pattern of ARNs whose six parts are compared one by one, so that a wildcard never reaches over a colon before the last part.
 * A lone `*` fits every ARN. Source: IAM User Guide, "IAM JSON policy elements: Condition operators", ARN operators.
 */
export function compileArnPattern(text: string, rules: Omit<PatternRules, "wildcards">): ValueTest {
  const parts = splitAtColons(tokenize(text, { ...rules, wildcards: true }));
  if (text !== "*" && (parts.length < 6 || parts[0]?.[0] !== "arn")) rules.fail(`${shown(text)} is not an ARN`);
  const tests = text === "*" ? [] : parts.map((part) => compileTokens(part, false));
  return (actual, context) => {
    const values = arnParts(actual);
    return values !== undefined && tests.every((test, i) => test(values[i] ?? "", context));
  };
}

/** A value quoted for an error message, cut short. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text);
}

function arnParts(text: string): string[] | undefined {
  if (!text.startsWith("arn:")) return undefined;
  const parts = text.split(":");
  return parts.length < 6 ? undefined : [...parts.slice(0, 5), parts.slice(5).join(":")];
}

function compileTokens(tokens: readonly Token[], ignoreCase: boolean): ValueTest {
  const fold = (text: string): string => (ignoreCase ? text.toLowerCase() : text);
  const folded = tokens.map((token) => (typeof token === "string" ? fold(token) : token));
  if (folded.every((token) => !isVariable(token))) {
    const fixed = compileGlob(folded as readonly GlobToken[]);
    return ignoreCase ? (actual) => fixed(actual.toLowerCase()) : fixed;
  }
  return (actual, context) => {
    const resolved: GlobToken[] = [];
    for (const token of folded) {
      const value = isVariable(token) ? resolve(token, context) : token;
      if (value === undefined) return false;
      resolved.push(typeof value === "string" && isVariable(token) ? fold(value) : value);
    }
    return compileGlob(resolved)(fold(actual));
  };
}

function isVariable(token: Token): token is Variable {
  return typeof token === "object";
}

function resolve({ key, fallback }: Variable, context: ConditionContext): string | undefined {
  const values = context.get(key);
  if (values === undefined || values.length === 0) return fallback;
  return values.length === 1 ? values[0] : undefined;
}

function tokenize(text: string, { wildcards, variables, fail }: PatternRules): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const next = nextSpecial(text, at, wildcards, variables);
    if (next > at) tokens.push(text.slice(at, next));
    if (next === text.length) break;
    if (text[next] === "$") {
      const end = closingBrace(text, next + 2);
      if (end < 0) return fail(`the policy variable in ${shown(text)} is not closed`);
      tokens.push(variable(text.slice(next + 2, end), fail));
      at = end + 1;
    } else {
      tokens.push(text[next] === "*" ? anyRun : anyOne);
      at = next + 1;
    }
  }
  return tokens;
}

function nextSpecial(text: string, from: number, wildcards: boolean, variables: boolean): number {
  for (let at = from; at < text.length; at++) {
    const character = text[at];
    if (wildcards && (character === "*" || character === "?")) return at;
    if (variables && character === "$" && text[at + 1] === "{") return at;
  }
  return text.length;
}

/** The brace that ends a variable; one inside a quoted default does not. */
function closingBrace(text: string, from: number): number {
  let quoted = false;
  for (let at = from; at < text.length; at++) {
    if (text[at] === "'") quoted = !quoted;
    else if (text[at] === "}" && !quoted) return at;
  }
  return -1;
}

/** `*`, `?` and `$` in braces are those characters; else `key` or `key, 'default'`. */
function variable(inside: string, fail: Fail): Token {
  if (inside === "*" || inside === "?" || inside === "$") return inside;
  const comma = inside.indexOf(",");
  const key = (comma < 0 ? inside : inside.slice(0, comma)).trim();
  if (!nameInBraces.test(key)) return fail(`${shown(`\${${inside}}`)} is not a policy variable`);
  if (comma < 0) return { key: key.toLowerCase(), fallback: undefined };
  const quoted = inside.slice(comma + 1).trim();
  if (quoted.length < 2 || !quoted.startsWith("'") || !quoted.endsWith("'")) {
    return fail(`the default in ${shown(`\${${inside}}`)} must be in single quotes`);
  }
  return { key: key.toLowerCase(), fallback: quoted.slice(1, -1) };
}

/** At the first five colons of literal text; what follows is the sixth part. */
function splitAtColons(tokens: readonly Token[]): Token[][] {
  const parts: Token[][] = [[]];
  for (const token of tokens) {
    if (typeof token !== "string") {
      parts.at(-1)?.push(token);
      continue;
    }
    let rest = token;
    while (parts.length < 6 && rest.includes(":")) {
      const colon = rest.indexOf(":");
      if (colon > 0) parts.at(-1)?.push(rest.slice(0, colon));
      rest = rest.slice(colon + 1);
      parts.push([]);
    }
    if (rest !== "") parts.at(-1)?.push(rest);
  }
  return parts;
}
