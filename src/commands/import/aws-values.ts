import { CommandError } from "../command-error.ts";

/** How secrets of AWS become names of a config. */
export interface NameRules {
  /** Cut off the front of names. */
  readonly stripPrefix?: string | undefined;
  /** Keep values that are JSON objects as one value each. */
  readonly whole?: boolean;
}

/** `app/db` and `username` become `APP_DB_USERNAME`. */
export function configName(...parts: readonly string[]): string {
  const name = parts
    .join("_")
    .replaceAll(/[^A-Za-z0-9]+/g, "_")
    .replace(/^_+/, "")
    .toUpperCase();
  return /^[0-9]/.test(name) || name === "" ? `_${name}` : name;
}

/** One secret's value under the names of a config: a JSON object gives one for each member, anything else one. */
export function valuesOf(secretName: string, text: string, { stripPrefix, whole }: NameRules): [string, string][] {
  const name = stripPrefix && secretName.startsWith(stripPrefix) ? secretName.slice(stripPrefix.length) : secretName;
  const members = whole ? undefined : objectOf(text);
  if (!members) return [[configName(name), text]];
  return Object.entries(members).map(([member, value]) => [
    name === "" ? configName(member) : configName(name, member),
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
}

function objectOf(text: string): object | undefined {
  try {
    const read: unknown = JSON.parse(text);
    return typeof read === "object" && read !== null && !Array.isArray(read) ? read : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** All of them together. @throws CommandError naming both secrets when two would have the same name. */
export function joinValues(
  found: readonly { readonly from: string; readonly values: readonly [string, string][] }[],
): Map<string, string> {
  const all = new Map<string, string>();
  const origins = new Map<string, string>();
  for (const { from, values } of found)
    for (const [name, value] of values) {
      const other = origins.get(name);
      if (other !== undefined)
        throw new CommandError(
          1,
          `${other} and ${from} would both become ${name}: take them one by one with --secret, or keep them --whole`,
        );
      origins.set(name, from);
      all.set(name, value);
    }
  return all;
}
