import type { SqlValue } from "./sql.ts";

/**
 * Refuses what the two databases would keep differently: fractions, numbers beyond 2^53, booleans, `undefined`, and text
 * with a NUL (PostgreSQL has none). A message names the position only, never the value.
 */
export function checkValues(values: readonly SqlValue[]): void {
  for (let index = 0; index < values.length; index += 1) {
    const problem = problemOf(values[index]);
    if (problem) throw new TypeError(`$${index + 1} ${problem}`);
  }
}

function problemOf(value: unknown): string | undefined {
  if (typeof value === "string") return value.includes("\0") ? "is text with a NUL character" : undefined;
  if (typeof value === "number") return Number.isSafeInteger(value) ? undefined : "is not a safe integer";
  if (typeof value === "bigint" || value === null || value instanceof Uint8Array) return undefined;
  return `is ${typeof value}: only text, integers, null and bytes can be stored`;
}

/** A whole number read from a database. @throws RangeError above `Number.MAX_SAFE_INTEGER`, where digits would be lost. */
export function toSafeInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError("a stored integer is too large to be read exactly");
  return value;
}
