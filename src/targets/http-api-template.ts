import { RotatorError } from "../core/error.ts";

/** What holds fields: of a rotation the secret's value and the superuser's; of a lease what it is made with, for and from. */
const records = ["current", "admin", "integration", "setting", "lease"] as const;
type RecordName = (typeof records)[number];

/** What a template may name: a field of a value, the id of a key, the rotation, or so many random letters and digits. */
export interface Placeholder {
  readonly source: RecordName | "id" | "rotationId" | "random";
  /** Of a record. */
  readonly field: string;
  /** Of `random`. */
  readonly length: number;
}

type Fields = Readonly<Record<string, unknown>>;

/** What stands for the placeholders of one request. */
export interface TemplateValues {
  readonly current?: Fields;
  readonly admin?: Fields | undefined;
  readonly integration?: Fields;
  readonly setting?: Fields;
  readonly lease?: Fields;
  readonly id?: string | undefined;
  readonly rotationId?: string;
  random(length: number): string;
}

type Part = string | Placeholder;

export const fieldName = /^[A-Za-z_][\w-]{0,63}$/;
const maxRandom = 128;

/** The parts of `Bearer {{current.key}}`, or the sentence on what is wrong with it. */
export function parseTemplate(text: string): readonly Part[] | string {
  const parts: Part[] = [];
  let rest = text;
  while (rest !== "") {
    const begin = rest.indexOf("{{");
    const literal = begin < 0 ? rest : rest.slice(0, begin);
    if (literal.includes("}}")) return "has }} without {{ before it";
    if (literal !== "") parts.push(literal);
    if (begin < 0) break;
    const end = rest.indexOf("}}", begin);
    if (end < 0) return "has {{ without }} after it";
    const name = rest.slice(begin + 2, end).trim();
    const placeholder = parsePlaceholder(name);
    if (!placeholder) return `may not name {{${name.slice(0, 80)}}}`;
    parts.push(placeholder);
    rest = rest.slice(end + 2);
  }
  return parts;
}

function parsePlaceholder(name: string): Placeholder | undefined {
  if (name === "id" || name === "rotationId") return { source: name, field: "", length: 0 };
  const [source, field = "", ...more] = name.split(".");
  if (more.length > 0) return undefined;
  const record = records.find((one) => one === source);
  if (record && fieldName.test(field)) return { source: record, field, length: 0 };
  const length = Number(field);
  if (source !== "random" || !/^\d{1,3}$/.test(field) || length < 1 || length > maxRandom) return undefined;
  return { source, field: "", length };
}

/** None where the template is malformed. */
export function placeholdersOf(text: string): readonly Placeholder[] {
  const parts = parseTemplate(text);
  return typeof parts === "string" ? [] : parts.filter((part) => typeof part !== "string");
}

/** The text with each value in its place, as `encode` writes it there. @throws RotatorError `invalid` for a value that is missing or empty */
export function render(text: string, values: TemplateValues, encode: (value: string) => string = (value) => value): string {
  const parts = parseTemplate(text);
  if (typeof parts === "string") throw new RotatorError("invalid", `the declaration's template ${parts}`);
  return parts.map((part) => (typeof part === "string" ? part : encode(String(valueOfPlaceholder(part, values))))).join("");
}

/** The same JSON with its strings filled in; one that is a placeholder alone keeps the value's type. Names stay as they are. */
export function fillJson(json: unknown, values: TemplateValues): unknown {
  if (typeof json === "string") {
    const [part, ...more] = placeholdersOf(json);
    const alone = part && more.length === 0 && /^\{\{[^}]*\}\}$/.test(json);
    return alone ? valueOfPlaceholder(part, values) : render(json, values);
  }
  if (Array.isArray(json)) return json.map((item) => fillJson(item, values));
  if (typeof json !== "object" || json === null) return json;
  return Object.fromEntries(Object.entries(json).map(([name, item]) => [name, fillJson(item, values)]));
}

/** Every text in a JSON value that may hold placeholders. */
export function textsIn(json: unknown): string[] {
  if (typeof json === "string") return [json];
  if (typeof json !== "object" || json === null) return [];
  return Object.values(json).flatMap(textsIn);
}

function valueOfPlaceholder({ source, field, length }: Placeholder, values: TemplateValues): string | number | boolean {
  if (source === "random") return values.random(length);
  if (source === "rotationId") return values.rotationId ?? "";
  const record = source === "id" ? values : values[source];
  const name = source === "id" ? "id" : field;
  const value: unknown = record && Object.hasOwn(record, name) ? (record as Record<string, unknown>)[name] : undefined;
  if (isScalar(value)) return value;
  const whose = {
    id: "the key",
    current: "the secret's value",
    admin: "the superuser's value",
    integration: "the integration's key",
    setting: "the dynamic secret's settings",
    lease: "the lease",
  }[source];
  throw new RotatorError("invalid", `${whose} has no ${name}, or none that is a text, a number or true or false`);
}

/** What may stand in a template: no number that lost digits, no empty text, no half of a character. */
export function isScalar(value: unknown): value is string | number | boolean {
  if (typeof value === "number") return Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value));
  return typeof value === "boolean" || (typeof value === "string" && value !== "" && value.isWellFormed());
}
