import { addressTest } from "./address.ts";
import { compileArnPattern, compilePattern, type Fail, shown, type ValueTest } from "./pattern.ts";

/** How one value of a policy becomes a test of one value of a request. */
type CompileValue = (value: string, variables: boolean, fail: Fail) => ValueTest;

/** `negated`: true when the request's value fits none of the policy's. */
export interface Operator {
  readonly name: string;
  readonly negated: boolean;
  readonly compile: CompileValue;
}

const text =
  (wildcards: boolean, ignoreCase: boolean): CompileValue =>
  (value, variables, fail) =>
    compilePattern(value, { wildcards, ignoreCase, variables, fail });

const arn: CompileValue = (value, variables, fail) => compileArnPattern(value, { variables, fail });

const bool: CompileValue = (value, variables, fail) => {
  const isVariable = variables && value.startsWith("${");
  if (!isVariable && !/^(true|false)$/i.test(value)) return fail(`${shown(value)} is neither true nor false`);
  const same = compilePattern(value, { wildcards: false, ignoreCase: true, variables, fail });
  return (actual, context) => /^(true|false)$/i.test(actual) && same(actual, context);
};

const binary: CompileValue = (value, _variables, fail) => {
  const wanted = decoded(value);
  if (wanted === undefined) return fail(`${shown(value)} is not base64`);
  return (actual) => decoded(actual) === wanted;
};

const address: CompileValue = (value, _variables, fail) =>
  addressTest(value) ?? fail(`${shown(value)} is neither an IP address nor a CIDR range`);

type Compare = (actual: number, wanted: number) => boolean;
const equal: Compare = (actual, wanted) => actual === wanted;
const less: Compare = (actual, wanted) => actual < wanted;
const atMost: Compare = (actual, wanted) => actual <= wanted;
const greater: Compare = (actual, wanted) => actual > wanted;
const atLeast: Compare = (actual, wanted) => actual >= wanted;

const ordered =
  (read: (text: string) => number | undefined, what: string) =>
  (compare: Compare): CompileValue =>
  (value, _variables, fail) => {
    const wanted = read(value);
    if (wanted === undefined) return fail(`${shown(value)} is not ${what}`);
    return (actual) => {
      const number = read(actual);
      return number !== undefined && compare(number, wanted);
    };
  };

const numeric = ordered(readNumber, "a number");
const date = ordered(readDate, "a date in ISO 8601 or in seconds since 1970");

const table: readonly (readonly [equals: string, opposite: string | undefined, compile: CompileValue])[] = [
  ["StringEquals", "StringNotEquals", text(false, false)],
  ["StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", text(false, true)],
  ["StringLike", "StringNotLike", text(true, false)],
  ["NumericEquals", "NumericNotEquals", numeric(equal)],
  ["NumericLessThan", undefined, numeric(less)],
  ["NumericLessThanEquals", undefined, numeric(atMost)],
  ["NumericGreaterThan", undefined, numeric(greater)],
  ["NumericGreaterThanEquals", undefined, numeric(atLeast)],
  ["DateEquals", "DateNotEquals", date(equal)],
  ["DateLessThan", undefined, date(less)],
  ["DateLessThanEquals", undefined, date(atMost)],
  ["DateGreaterThan", undefined, date(greater)],
  ["DateGreaterThanEquals", undefined, date(atLeast)],
  ["Bool", undefined, bool],
  ["BinaryEquals", undefined, binary],
  ["IpAddress", "NotIpAddress", address],
  ["ArnEquals", "ArnNotEquals", arn],
  ["ArnLike", "ArnNotLike", arn],
];

/**
 * By name in lower case; `Null` stands apart, as it tests presence and not values.
 * Source: IAM User Guide, "IAM JSON policy elements: Condition operators".
 */
export const operators: ReadonlyMap<string, Operator> = new Map(
  table
    .flatMap(([equals, opposite, compile]) => {
      const plain: Operator = { name: equals, negated: false, compile };
      return opposite === undefined ? [plain] : [plain, { name: opposite, negated: true, compile }];
    })
    .map((operator) => [operator.name.toLowerCase(), operator]),
);

function readNumber(value: string): number | undefined {
  return /^[+-]?\d{1,30}(\.\d{1,30})?$/.test(value) ? Number(value) : undefined;
}

const isoDate = /^\d{4}(-\d{2}(-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?)?)?$/i;

/** Epoch milliseconds. Four digits are a year, as in ISO 8601; other whole numbers are seconds since 1970. */
function readDate(value: string): number | undefined {
  if (isoDate.test(value)) {
    const at = Date.parse(value.toUpperCase());
    return Number.isNaN(at) ? undefined : at;
  }
  const seconds = readNumber(value);
  return seconds === undefined ? undefined : seconds * 1000;
}

function decoded(value: string): string | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value) || value.length % 4 !== 0) return undefined;
  return Buffer.from(value, "base64").toString("latin1");
}
