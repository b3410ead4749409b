import { z } from "zod";
import { parseRange } from "../core/address.ts";
import { ServiceError } from "../core/error.ts";
import { parsePath } from "./http-api-json.ts";
import { problemsOf, type RequestName } from "./http-api-rules.ts";
import { fieldName } from "./http-api-template.ts";

export const template = z.string().min(1).max(8_192);
export const jsonPath = z
  .string()
  .max(512)
  .refine((text) => parsePath(text) !== undefined, "must be a path such as data.items[0].id, or $ for the whole answer");
const field = z.string().regex(fieldName, "must be the name of a field: letters, digits, _ and -");
const templates = (most: number) =>
  z
    .record(z.string().min(1).max(256), template)
    .refine((record) => Object.keys(record).length <= most, `has at most ${most} names`);
const status = z.number().int().min(200).max(599);
const scalar = z.union([template, z.number(), z.boolean()]);

export const auth = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("bearer"), token: template }),
  z.strictObject({ type: z.literal("basic"), username: template, password: z.string().max(8_192) }),
  z.strictObject({ type: z.literal("header"), name: z.string().min(1).max(256), value: template }),
  z.strictObject({ type: z.literal("query"), name: z.string().min(1).max(256), value: template }),
]);

const errorRule = z.strictObject({
  status: z.union([status, z.enum(["2xx", "3xx", "4xx", "5xx"])]),
  path: jsonPath.optional(),
  equals: z.union([z.string(), z.number(), z.boolean()]).optional(),
  outcome: z.enum(["refused", "locked", "expired", "denied", "unreachable", "invalid"]),
});

/** Of every request. */
export const requestShape = {
  method: z.enum(["GET", "POST", "PUT", "PATCH", "DELETE"]),
  path: template,
  query: templates(50).optional(),
  headers: templates(50).optional(),
  json: z.unknown().optional(),
  form: templates(100).optional(),
  expect: z
    .strictObject({
      status: z.array(status).min(1).max(50).optional(),
      json: z.record(jsonPath, scalar).optional(),
    })
    .optional(),
  errors: z.array(errorRule).max(50).optional(),
};

const rotationShape = { as: z.enum(["current", "admin"]).optional(), ...requestShape };
const request = z.strictObject(rotationShape);

/** Where the API is, and how it is asked. */
export const placeShape = {
  origin: z.string().max(512),
  allowInsecure: z.boolean().default(false),
  allowAddresses: z
    .array(z.string().refine((text) => parseRange(text) !== undefined, "must be an address or a CIDR range"))
    .max(20)
    .default([]),
  caFile: z.string().min(1).optional(),
  timeoutSeconds: z.number().int().min(1).max(8).default(8),
};

export const listShape = {
  items: jsonPath,
  id: jsonPath,
  createdAt: jsonPath.optional(),
  mark: z.strictObject({ path: jsonPath, prefix: z.string().max(256).default("") }),
  next: z
    .union([z.strictObject({ link: jsonPath }), z.strictObject({ cursor: jsonPath, query: z.string().min(1).max(256) })])
    .optional(),
};

const declaration = z.strictObject({
  ...placeShape,
  propagationSeconds: z.number().int().min(0).max(3_600).default(0),
  most: z.number().int().min(2).max(1_000).optional(),
  id: field,
  account: template.optional(),
  auth: z.strictObject({ current: auth, admin: auth.optional() }),
  create: z.strictObject({ ...rotationShape, extract: z.record(field, jsonPath), repeatable: z.boolean().default(false) }),
  test: request,
  delete: request,
  list: z.strictObject({ ...rotationShape, ...listShape }).optional(),
});

/** How an HTTP API makes, tests, lists and deletes keys, in JSON: `docs/targets.md` says what each part means. */
export type HttpApiDeclaration = z.infer<typeof declaration>;
/** What of a declaration is looked at to ask; of rotations and of leases. */
export type AskedApi = Pick<HttpApiDeclaration, "origin" | "allowAddresses" | "caFile" | "timeoutSeconds" | "auth"> & {
  readonly [Name in RequestName]?: RequestDeclaration | undefined;
};
export type Auth = z.infer<typeof auth>;
export type ErrorRule = z.infer<typeof errorRule>;
export type ListDeclaration = z.infer<z.ZodObject<typeof requestShape & typeof listShape>>;
export type RequestDeclaration = z.infer<typeof request>;

/** Checked as a whole, so that nothing about it can fail later but values. @throws ServiceError InvalidParameterException, naming each field and its rule */
export function parseHttpApiDeclaration(json: unknown): HttpApiDeclaration {
  const { data, error } = declaration.safeParse(json);
  const problems = data
    ? problemsOf(data)
    : error.issues.map(({ path, message }) => `${path.map(String).join(".") || "the declaration"}: ${message}`);
  if (data && problems.length === 0) return data;
  throw new ServiceError("InvalidParameterException", `The declaration of an HTTP API is not valid. ${problems.join("; ")}`);
}
