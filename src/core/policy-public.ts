import { parseRange } from "./address.ts";
import { parseArn } from "./arn.ts";
import type { Condition } from "./condition.ts";
import type { Statement } from "./policy-statement.ts";

const narrowingOperators: ReadonlySet<string> = new Set([
  "StringEquals",
  "StringEqualsIgnoreCase",
  "StringLike",
  "ArnEquals",
  "ArnLike",
  "IpAddress",
]);

/** Keys that tie a request to known accounts, organisations, resources or networks. */
const narrowingKeys: ReadonlySet<string> = new Set([
  "aws:sourcearn",
  "aws:sourceaccount",
  "aws:sourceowner",
  "aws:sourceorgid",
  "aws:sourcevpc",
  "aws:sourcevpcarn",
  "aws:sourcevpce",
  "aws:sourceip",
  "aws:vpcsourceip",
  "aws:principalaccount",
  "aws:principalarn",
  "aws:principalorgid",
  "aws:userid",
]);

/** The widest ranges that still count as narrow. Source: Amazon S3 User Guide, "The meaning of public". */
const narrowestPrefix = { 32: 8, 128: 32 } as const;

/**
 * Whether a resource policy gives broad access: an Allow to everyone (or to all but some) that no condition ties to fixed
 * accounts, resources or networks. Fixed is a value without policy variables and wildcards; in an ARN a fixed account suffices.
 */
export function isPublic(policy: { readonly statements: readonly Statement[] }): boolean {
  return policy.statements.some(
    ({ effect, principals, conditions }) =>
      effect === "Allow" && (principals?.everyone || principals?.negated) === true && !conditions.some(narrows),
  );
}

function narrows({ operator, qualifier, ifExists, key, values }: Condition): boolean {
  if (!narrowingOperators.has(operator) || ifExists || qualifier === "ForAllValues") return false;
  return narrowingKeys.has(key) && values.every(operator === "IpAddress" ? isNarrowRange : isFixed);
}

function isFixed(value: string): boolean {
  if (value !== "" && !/[*?]|\$\{/.test(value)) return true;
  return /^\d{12}$/.test(parseArn(value)?.accountId ?? "");
}

function isNarrowRange(value: string): boolean {
  const range = parseRange(value);
  return range !== undefined && range.prefix >= narrowestPrefix[range.bits];
}
