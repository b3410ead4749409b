import { type Operator, operators } from "./condition-operators.ts";
import { isObject } from "./json-object.ts";
import { type ConditionContext, type Fail, shown, type ValueTest } from "./pattern.ts";

export type { ConditionContext } from "./pattern.ts";

/** One operator, one key and its values, ready to test. All conditions of a statement must hold. */
export interface Condition {
  /** As in IAM's documents, without qualifier and suffix: `StringEquals`, `Null`. */
  readonly operator: string;
  readonly qualifier: "ForAllValues" | "ForAnyValue" | undefined;
  readonly ifExists: boolean;
  readonly negated: boolean;
  /** In lower case. */
  readonly key: string;
  readonly values: readonly string[];
  holds(context: ConditionContext): boolean;
}

interface ConditionRules {
  readonly variables: boolean;
  /** `where` is below the Condition element: `StringEquals.aws:SourceAccount`. */
  readonly fail: (where: string, rule: string) => never;
}

const maxValueChars = 2048;
/** `aws:SourceIp`, `aws:PrincipalTag/Cost Center`, `issuer.example:8443/path:sub`. */
const keyName = /^[A-Za-z0-9][^\s]{0,255}:\S.{0,255}$/;
const operatorName = /^(?:(ForAllValues|ForAnyValue):)?([A-Za-z]{1,40}?)(IfExists)?$/i;

/** Reads a Condition element. `fail` is called for unknown operators, malformed keys and values of the wrong form. */
export function compileConditions(element: unknown, { variables, fail }: ConditionRules): Condition[] {
  if (!isObject(element)) return fail("", "must be an object");
  return Object.entries(element).flatMap(([name, keys]) => {
    const operator = readOperator(name, (rule) => fail(name, rule));
    if (!isObject(keys)) return fail(name, "must be an object");
    const seen = new Set<string>();
    return Object.entries(keys).map(([key, listed]) => {
      const failHere: Fail = (rule) => fail(`${name}.${key}`, rule);
      if (!keyName.test(key)) failHere(`${shown(key)} is not a condition key`);
      if (seen.has(key.toLowerCase())) failHere("the key stands there twice; its letters' case does not count");
      seen.add(key.toLowerCase());
      return compileCondition({ ...operator, key: key.toLowerCase(), values: readValues(listed, failHere) }, variables, failHere);
    });
  });
}

type Head = Pick<Condition, "qualifier" | "ifExists"> & { readonly operator: Operator | "Null" };

function readOperator(name: string, fail: Fail): Head {
  const [, qualifier, base = "", suffix] = operatorName.exec(name) ?? [];
  const isNull = base.toLowerCase() === "null";
  if (isNull && (qualifier !== undefined || suffix !== undefined)) return fail("Null takes no qualifier and no IfExists");
  const operator = isNull ? "Null" : operators.get(base.toLowerCase());
  if (operator === undefined) return fail("is not a condition operator");
  const ifExists = suffix !== undefined;
  if (qualifier === undefined) return { operator, qualifier, ifExists };
  return { operator, qualifier: qualifier.toLowerCase() === "forallvalues" ? "ForAllValues" : "ForAnyValue", ifExists };
}

function readValues(listed: unknown, fail: Fail): string[] {
  const values = Array.isArray(listed) ? listed : [listed];
  if (values.length === 0) return fail("needs a value");
  return values.map((value: unknown) => {
    if (typeof value === "number" || typeof value === "boolean") return String(value);
    if (typeof value !== "string") return fail("values must be strings, numbers or booleans");
    return value.length > maxValueChars ? fail(`values have at most ${maxValueChars} characters`) : value;
  });
}

type Read = Head & Pick<Condition, "key" | "values">;

function compileCondition({ operator, qualifier, ifExists, key, values }: Read, variables: boolean, fail: Fail): Condition {
  if (operator === "Null") {
    const holds = compileNull(key, values, fail);
    return { operator, qualifier, ifExists, negated: false, key, values, holds };
  }
  const { name, negated } = operator;
  const fits = anyOf(values.map((value) => operator.compile(value, variables, fail)));
  const holds = quantified({ qualifier, ifExists, negated, key }, fits);
  return { operator: name, qualifier, ifExists, negated, key, values, holds };
}

/** `true` asks for absence, `false` for presence. */
function compileNull(key: string, values: readonly string[], fail: Fail): Condition["holds"] {
  const wanted = values.map((value) => value.toLowerCase());
  for (const value of wanted) if (value !== "true" && value !== "false") fail(`${shown(value)} is neither true nor false`);
  return (context) => wanted.includes(context.get(key)?.length ? "false" : "true");
}

function anyOf(tests: readonly ValueTest[]): ValueTest {
  const [first] = tests;
  if (tests.length === 1 && first) return first;
  return (actual, context) => {
    for (const test of tests) if (test(actual, context)) return true;
    return false;
  };
}

type Quantifier = Pick<Condition, "qualifier" | "ifExists" | "negated" | "key">;

/**
 * An absent key fails an operator and passes its negation. ForAllValues passes and ForAnyValue fails when there is no value, or
 * only empty ones; IfExists passes whenever the key is absent. Without qualifier several values of a request are taken together:
 * one must fit, or with a negated operator none may.
 * Source: IAM User Guide, "Single-valued vs. multivalued context keys" and "...IfExists condition operators".
 */
function quantified({ qualifier, ifExists, negated, key }: Quantifier, fits: ValueTest): Condition["holds"] {
  const absent = ifExists || (qualifier === undefined ? negated : qualifier === "ForAllValues");
  const holdsFor: (values: readonly string[], context: ConditionContext) => boolean =
    qualifier === "ForAllValues"
      ? (values, context) => isNullSet(values) || values.every((value) => fits(value, context) !== negated)
      : qualifier === "ForAnyValue"
        ? (values, context) => !isNullSet(values) && values.some((value) => fits(value, context) !== negated)
        : (values, context) => values.some((value) => fits(value, context)) !== negated;
  return (context) => {
    const values = context.get(key);
    return values === undefined || values.length === 0 ? absent : holdsFor(values, context);
  };
}

function isNullSet(values: readonly string[]): boolean {
  return values.every((value) => value === "");
}
