import { z } from "zod";
import { ServiceError } from "../core/error.ts";

/** The part of a JSON Schema that names need. */
export interface Shape {
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly items?: Shape;
  readonly additionalProperties?: Shape | boolean;
  readonly anyOf?: readonly Shape[];
  readonly required?: readonly string[];
  readonly [keyword: string]: unknown;
}

/** Members whose own keys are data: version ids, tag names, what callers sent. */
const dataMaps: ReadonlySet<string> = new Set([
  "VersionIdsToStages",
  "SecretVersionsToStages",
  "Parameters",
  "Data",
  "Settings",
  "Fields",
]);
const special: Readonly<Record<string, string>> = { NextToken: "cursor", MaxResults: "limit" };

/** `SecretId` → `secretId`, `RotationLambdaARN` → `rotationLambdaArn`, `NextToken` → `cursor`. */
export function nativeName(member: string): string {
  const known = special[member];
  if (known) return known;
  const words = member.match(/[A-Z]{2,}s(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[^A-Za-z0-9]+/g) ?? [member];
  return words.map((word, index) => (index === 0 ? word.toLowerCase() : capital(word.toLowerCase()))).join("");
}

const capital = (word: string): string => word.slice(0, 1).toUpperCase() + word.slice(1);

/** The shape of an operation's input, in AWS's member names. */
export function shapeOf(schema: z.ZodType): Shape {
  return z.toJSONSchema(schema, { io: "input", unrepresentable: "any", reused: "inline" }) as Shape;
}

/**
 * What a caller of the native API sent, in AWS's member names. Null members are left out, but where data may be null.
 * @throws ServiceError ValidationException naming a member that the operation does not take.
 */
export function toMembers(value: unknown, shape: Shape, path = ""): unknown {
  if (Array.isArray(value)) {
    const items = partsOf(shape).find((part) => part.items)?.items ?? {};
    return value.map((item, index) => toMembers(item, items, `${path}[${index}]`));
  }
  if (typeof value !== "object" || value === null) return value;
  const parts = partsOf(shape);
  const members = parts.flatMap((part) => Object.entries(part.properties ?? {}));
  const rest = parts.map((part) => part.additionalProperties).find((part) => part !== undefined && part !== false);
  if (members.length === 0 && parts.every((part) => part.properties === undefined) && rest === undefined) return value;
  const byName = new Map(members.map(([member, part]) => [nativeName(member), { member, part }]));
  const entries = Object.entries(value).filter(([name, item]) => item !== null || (!byName.has(name) && takesNull(rest)));
  return Object.fromEntries(
    entries.map(([name, item]) => {
      const here = path === "" ? name : `${path}.${name}`;
      const known = byName.get(name);
      if (known) return [known.member, toMembers(item, known.part, here)];
      if (rest !== undefined) return [name, rest === true ? item : toMembers(item, rest, here)];
      throw unknownMember(here, [...byName.keys()]);
    }),
  );
}

function partsOf(shape: Shape): readonly Shape[] {
  return shape.anyOf ? shape.anyOf.flatMap(partsOf) : [shape];
}

function takesNull(shape: Shape | boolean | undefined): boolean {
  return typeof shape === "object" && partsOf(shape).some(({ type }) => [type].flat().includes("null"));
}

function unknownMember(path: string, known: readonly string[]): ServiceError {
  const takes = known.length === 0 ? "It takes none." : `It takes: ${known.join(", ")}.`;
  return new ServiceError("ValidationException", `This operation has no member ${path.slice(0, 200)}. ${takes}`);
}

/** An answer in the native API's form: camelCase names, ISO times, base64 text for bytes; absent members stay absent. */
export function toNative(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(toNative);
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([member, item]) => [nativeName(member), dataMaps.has(member) ? item : toNative(item)]));
}

/** A shape with native names, for the API's description. */
export function toNativeShape(shape: Shape): Shape {
  const { properties, items, additionalProperties, anyOf, required, ...rest } = shape;
  return {
    ...rest,
    ...(properties && { properties: mapValues(properties, nativeName, toNativeShape) }),
    ...(required && { required: required.map(nativeName) }),
    ...(items && { items: toNativeShape(items) }),
    ...(anyOf && { anyOf: anyOf.map(toNativeShape) }),
    ...(additionalProperties !== undefined && {
      additionalProperties: typeof additionalProperties === "object" ? toNativeShape(additionalProperties) : additionalProperties,
    }),
  };
}

function mapValues<T>(
  record: Readonly<Record<string, T>>,
  name: (key: string) => string,
  map: (value: T) => T,
): Record<string, T> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [name(key), map(value)]));
}
