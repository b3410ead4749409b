import { z } from "zod";
import { ServiceError } from "../core/error.ts";
import type { Operation } from "./operation.ts";

const namePattern = /^[A-Za-z0-9/_+=.@!-]+$/;

/** The building blocks of AWS's inputs. Source: AWS Secrets Manager model (2017-10-17), shapes and limits. */
export const secretId = z.string().min(1).max(2048);
export const secretName = z.string().min(1).max(512);
export const clientRequestToken = z.string().min(32).max(64).optional();
export const versionId = z.string().min(32).max(64);
/** U+001F separates labels in the store's reads. */
export const stagingLabel = z
  .string()
  .min(1)
  .max(256)
  .refine((label) => !label.includes("\u001f"), "Member must not contain control characters");
export const stagingLabels = z.array(stagingLabel).min(1).max(20);
export const description = z.string().max(2048).optional();
export const kmsKeyId = z.string().max(2048).optional();
export const secretString = z.string().max(65_536).optional();
/** Base64 text of at most 65,536 bytes. */
export const secretBinary = z.string().max(87_384).optional();
/** Beyond any number that a secret can have, of which the operations speak themselves. */
export const maxListed = 200;
export const tags = z
  .array(z.object({ Key: z.string().min(1).max(128).optional(), Value: z.string().max(256).optional() }))
  .max(maxListed)
  .optional();
export const nextToken = z.string().min(1).max(4096).optional();
export const region = z
  .string()
  .min(1)
  .max(128)
  .regex(/^([a-z]+-)+\d+$/);

/** The checked input of an operation, in the order and wording of AWS's framework validation. `null` is absence. */
export function parseInput<Input>(operation: Operation<Input>, body: unknown): Input {
  const given = operation.input.safeParse(body);
  const parsed = given.success ? given : operation.input.safeParse(withoutNulls(body));
  const sensitive = operation.sensitive ?? [];
  if (!parsed.success) throw inputError(parsed.error, body, sensitive);
  refuseNul(parsed.data, sensitive);
  const named = (parsed.data as { SecretId?: string }).SecretId ?? "";
  if (named !== "" && !named.startsWith("arn:")) requireName(named);
  operation.check?.(parsed.data);
  return parsed.data;
}

/** @throws ServiceError ValidationException for characters that no secret name has. */
export function requireName(name: string): void {
  if (!namePattern.test(name))
    throw new ServiceError(
      "ValidationException",
      "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
    );
}

/** ClientRequestToken is optional in the model, but required on the wire; SDKs fill it in. */
export function requireToken(token: string | undefined, code: "InvalidRequestException" | "InvalidParameterException"): string {
  if (token === undefined)
    throw new ServiceError(code, "You must provide a ClientRequestToken value. We recommend a UUID-type value.");
  return token;
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const present = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(present.map(([name, member]) => [name, withoutNulls(member)]));
}

/** No database keeps a NUL in text. Values are kept as sealed bytes and may have one. */
function refuseNul(input: unknown, sensitive: readonly string[]): void {
  const path = pathOfNul(input, sensitive);
  if (path)
    throw new ServiceError(
      "ValidationException",
      `1 validation error detected: Value at '${memberName(path)}' failed to satisfy constraint: Member must not contain NUL characters`,
    );
}

function pathOfNul(value: unknown, sensitive: readonly string[]): PropertyKey[] | undefined {
  if (typeof value === "string") return value.includes("\0") ? [] : undefined;
  if (typeof value !== "object" || value === null) return undefined;
  for (const [name, member] of Object.entries(value)) {
    const rest = sensitive.includes(name) ? undefined : pathOfNul(member, sensitive);
    if (rest) return [Array.isArray(value) ? Number(name) : name, ...rest];
  }
  return undefined;
}

function inputError(error: z.ZodError, body: unknown, sensitive: readonly string[]): ServiceError {
  const wrongType = error.issues.find((issue) => isWrongType(issue, valueAt(body, issue.path)));
  if (wrongType) {
    const what = wrongType.path.length === 0 ? "The request body" : memberName(wrongType.path);
    return new ServiceError("SerializationException", `${what} has a JSON value of the wrong type.`);
  }
  const texts = error.issues.map((issue) => {
    const hidden = issue.path.some((part) => sensitive.includes(String(part)));
    const value = valueAt(body, issue.path);
    const shown = value == null ? " null" : hidden ? "" : shownValue(value);
    const must = value == null ? "Member must not be null" : constraint(issue);
    return `Value${shown} at '${memberName(issue.path)}' failed to satisfy constraint: ${must}`;
  });
  const count = texts.length === 1 ? "1 validation error" : `${texts.length} validation errors`;
  return new ServiceError("ValidationException", `${count} detected: ${texts.join("; ")}`);
}

/** An enum's text out of its set is no wrong type, a number in its place is. */
function isWrongType(issue: z.core.$ZodIssue, value: unknown): boolean {
  if (value == null) return issue.path.length === 0;
  return issue.code === "invalid_type" || (issue.code === "invalid_value" && typeof value !== "string");
}

/** Lists of structures are not shown: their members may be long, and some are secret. */
function shownValue(value: unknown): string {
  const plain = (part: unknown) => typeof part !== "object";
  if (Array.isArray(value)) return value.every(plain) ? ` '${`[${value.join(", ")}]`.slice(0, 512)}'` : "";
  return plain(value) ? ` '${String(value).slice(0, 512)}'` : "";
}

function constraint(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "too_big":
      return `Member must have ${measure(issue.origin)} less than or equal to ${issue.maximum}`;
    case "too_small":
      return `Member must have ${measure(issue.origin)} greater than or equal to ${issue.minimum}`;
    case "invalid_format":
      return `Member must satisfy regular expression pattern: ${"pattern" in issue ? issue.pattern?.replace(/^\/|\/[a-z]*$/g, "") : issue.format}`;
    case "invalid_value":
      return `Member must satisfy enum value set: [${issue.values.join(", ")}]`;
    default:
      return issue.message;
  }
}

function measure(origin: string): string {
  return origin === "string" || origin === "array" ? "length" : "value";
}

/** `Filters[0].Key` is `filters.1.member.key`: lower camel case, lists counted from one. */
function memberName(path: readonly PropertyKey[]): string {
  return path
    .map((part) =>
      typeof part === "number" ? `${part + 1}.member` : String(part).replace(/^[A-Z]/, (first) => first.toLowerCase()),
    )
    .join(".");
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, part) => (value as Record<PropertyKey, unknown> | null | undefined)?.[part], body);
}
