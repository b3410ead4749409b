import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { identityLimits, policyNamePattern, roleNamePattern, sessionNamePattern, userNamePattern } from "../../core/identity.ts";

/** The building blocks of IAM's and STS's inputs. Source: IAM API reference, STS API reference. */
export const userName = z.string().min(1).max(64).regex(userNamePattern);
export const roleName = z.string().min(1).max(64).regex(roleNamePattern);
export const policyName = z.string().min(1).max(128).regex(policyNamePattern);
export const sessionName = z.string().min(2).max(64).regex(sessionNamePattern);
export const arn = z.string().min(20).max(2048);
export const policyDocument = z.string().min(1).max(131_072);
export const description = z.string().max(identityLimits.descriptionChars).optional();
export const tagKey = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[\p{L}\p{Z}\p{N}_.:/=+\-@]+$/u);
export const tags = z
  .array(
    z.object({
      Key: tagKey,
      Value: z
        .string()
        .max(256)
        .regex(/^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u),
    }),
  )
  .max(identityLimits.tagsPerPrincipal);
export const paging = {
  MaxResults: z.number().int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
};

export type Tags = z.infer<typeof tags>;

/** @throws ServiceError InvalidParameterException for keys that differ at most in case, or that AWS keeps for itself. */
export function checkTags(listed: Tags | undefined): void {
  const seen = new Set<string>();
  for (const { Key } of listed ?? []) {
    const key = Key.toLowerCase();
    if (key.startsWith("aws:")) throw new ServiceError("InvalidParameterException", "Tag keys may not begin with aws:.");
    if (seen.has(key)) {
      throw new ServiceError(
        "InvalidParameterException",
        "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
      );
    }
    seen.add(key);
  }
}

export const toRecord = (listed: Tags): Record<string, string> =>
  Object.fromEntries(listed.map(({ Key, Value }) => [Key, Value]));

export const toTags = (record: Readonly<Record<string, string>>): Tags =>
  Object.entries(record).map(([Key, Value]) => ({ Key, Value }));

/** `aws:RequestTag/k` and `aws:TagKeys`. */
export function requestTagContext(listed: Tags | undefined): Record<string, readonly string[]> {
  if (!listed || listed.length === 0) return {};
  const values = listed.map(({ Key, Value }) => [`aws:RequestTag/${Key}`, [Value]]);
  return { "aws:TagKeys": listed.map(({ Key }) => Key), ...Object.fromEntries(values) };
}

/** One row more than a page tells whether there is a next one, which begins after the last name of this one. */
export function toPage<T>(
  rows: readonly T[],
  limit: number,
  name: (row: T) => string,
): { rows: readonly T[]; NextToken?: string } {
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  const shown = rows.slice(0, limit);
  return last === undefined ? { rows: shown } : { rows: shown, NextToken: Buffer.from(name(last)).toString("base64url") };
}

export const pageAfter = (nextToken: string | undefined): string => Buffer.from(nextToken ?? "", "base64url").toString("utf8");
