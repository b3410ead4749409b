import { isObject } from "./json-object.ts";

/** What of a rotated credential's JSON a config shows, and under which ending. */
const shownKeys = {
  username: "USERNAME",
  password: "PASSWORD",
  host: "HOST",
  port: "PORT",
  dbname: "DATABASE",
  accessKeyId: "ACCESS_KEY_ID",
  secretAccessKey: "SECRET_ACCESS_KEY",
} as const;

const endings: ReadonlySet<string> = new Set(Object.values(shownKeys));

/** `NAME_USERNAME`, `NAME_PASSWORD`, … of a rotated secret whose value is this JSON text; none of what is not JSON. */
export function rotatedFieldsOf(name: string, json: string): Map<string, string> {
  const parsed = objectIn(json);
  const fields = new Map<string, string>();
  for (const [key, ending] of Object.entries(shownKeys)) {
    const value = parsed[key];
    if (typeof value === "string" || typeof value === "number") fields.set(`${name}_${ending}`, String(value));
  }
  return fields;
}

/** The rotated secret, among these names, that shows something under a name. */
export function rotatedSecretOf(field: string, names: readonly string[]): string | undefined {
  return names.find((name) => field.startsWith(`${name}_`) && endings.has(field.slice(name.length + 1)));
}

function objectIn(json: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(json);
    return isObject(parsed) ? parsed : {};
  } catch {
    return {}; // what the parser says quotes the value
  }
}
