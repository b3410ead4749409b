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
export const tags = z
  .array(z.object({ Key: z.string().min(1).max(128).optional(), Value: z.string().max(256).optional() }))
  .optional();
export const nextToken = z.string().min(1).max(4096).optional();
export const region = z
  .string()
  .min(1)
  .max(128)
  .regex(/^([a-z]+-)+\d+$/);

/** The checked input of an operation, in the order and wording of AWS's framework validation. */
export function parseInput<Input>(operation: Operation<Input>, body: unknown): Input {
  const parsed = operation.input.safeParse(body);
  if (!parsed.success) throw inputError(parsed.error, body, operation.sensitive ?? []);
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

function inputError(error: z.ZodError, body: unknown, sensitive: readonly string[]): ServiceError {
  const wrongType = error.issues.find((issue) => issue.code === "invalid_type" && valueAt(body, issue.path) != null);
  if (wrongType)
    return new ServiceError("SerializationException", `${memberName(wrongType.path)} has a JSON value of the wrong type.`);
  const texts = error.issues.map((issue) => {
    const hidden = issue.path.some((part) => sensitive.includes(String(part)));
    const value = valueAt(body, issue.path);
    const shown = hidden ? "" : value == null ? " null" : ` '${String(value).slice(0, 512)}'`;
    return `Value${shown} at '${memberName(issue.path)}' failed to satisfy constraint: ${constraint(issue)}`;
  });
  const count = texts.length === 1 ? "1 validation error" : `${texts.length} validation errors`;
  return new ServiceError("ValidationException", `${count} detected: ${texts.join("; ")}`);
}

function constraint(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return "Member must not be null";
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
