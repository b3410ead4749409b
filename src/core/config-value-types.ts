import JSON5 from "json5";
import { findReferences } from "./config-references.ts";
import { isBoundedYaml, parseYaml } from "./config-yaml.ts";
import { ServiceError } from "./error.ts";

type Check = (text: string) => boolean;

const matches =
  (rule: RegExp): Check =>
  (text) =>
    rule.test(text);

function reads(read: (text: string) => unknown): Check {
  return (text) => {
    try {
      read(text);
      return true;
    } catch (error) {
      if (error instanceof SyntaxError) return false;
      throw error;
    }
  };
}

const date = /^(\d{4})-(\d{2})-(\d{2})$/;
const dateTime =
  /^(\d{4}-\d{2}-\d{2})T(?:[01]\d|2[0-3]):[0-5]\d(?::(?:[0-5]\d|60)(?:[.,]\d{1,9})?)?(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?$/;

/** A day that the calendar has. */
function isDate(text: string): boolean {
  const [, year, month, day] = date.exec(text)?.map(Number) ?? [];
  if (year === undefined || month === undefined || day === undefined || month < 1 || month > 12 || day < 1) return false;
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  const longMonths = [1, 3, 5, 7, 8, 10, 12];
  if (month === 2) return day <= (leap ? 29 : 28);
  return day <= (longMonths.includes(month) ? 31 : 30);
}

/** What a value of each type looks like, in words and as a rule. Source: Doppler API reference, "Update secrets", valueType. */
const types = {
  string: ["any text", () => true],
  json: ["JSON", reads(JSON.parse)],
  json5: ["JSON5", reads((text) => JSON5.parse(text))],
  boolean: ["true or false", matches(/^(?:true|false)$/)],
  integer: ["a whole number", matches(/^[+-]?\d+$/)],
  decimal: ["a decimal number", matches(/^[+-]?(?:\d+(?:\.\d+)?|\.\d+)$/)],
  email: [
    "an e-mail address",
    matches(/^[^\s@<>,;:"()[\]\\]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}$/),
  ],
  url: ["a URL with its scheme", (text: string) => /^[A-Za-z][A-Za-z0-9+.-]*:\/\/\S+$/.test(text) && URL.canParse(text)],
  uuidv4: ["a version 4 UUID", matches(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i)],
  cuid2: ["a CUID2", matches(/^[a-z][0-9a-z]{1,31}$/)],
  ulid: ["a ULID", matches(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/i)],
  datetime8601: ["an ISO 8601 date and time", (text: string) => isDate(dateTime.exec(text)?.[1] ?? "")],
  date8601: ["an ISO 8601 date", isDate],
  yaml: [
    "YAML of one document and up to 20,000 parts",
    (text: string) => isBoundedYaml(text) && parseYaml(text).errors.length === 0,
  ],
} as const satisfies Record<string, readonly [string, Check]>;

export type ValueType = keyof typeof types;

export const valueTypes = Object.keys(types) as [ValueType, ...ValueType[]];

/**
 * A value with references is not judged: what it will be is known only when it is read.
 * @throws ServiceError ValidationException naming the secret and its type, never the value
 */
export function checkValueType(name: string, value: string, type: ValueType): void {
  const [words, check] = types[type];
  if (!check(value) && findReferences(value).length === 0)
    throw new ServiceError("ValidationException", `The value of ${name} must be ${words}, as its type is ${type}.`);
}
