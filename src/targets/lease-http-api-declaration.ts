import { z } from "zod";
import {
  auth,
  jsonPath,
  listShape,
  placeShape,
  type RequestDeclaration,
  requestShape,
  template,
} from "./http-api-declaration.ts";
import {
  fieldsNamed,
  names,
  originProblems,
  problemsOfAuth,
  problemsOfRequest,
  type Source,
  templateProblems,
} from "./http-api-rules.ts";
import { fieldName } from "./http-api-template.ts";

const value = z.union([z.string().min(1).max(16_384), z.number(), z.boolean()]);
const named = z.string().regex(fieldName, "must be letters, digits, _ and -");
const shownField = z.string().regex(/^[A-Z][A-Z0-9_]{0,63}$/, "must be capital letters, digits and _");
/** What the dynamic secret's settings and the integration's key hold, by name. */
export const namedValues = z.record(named, value).refine((all) => Object.keys(all).length <= 50, "has at most 50 names");

const request = z.strictObject(requestShape);

const shape = z.strictObject({
  ...placeShape,
  auth,
  /** Fields that templates name as `{{integration.NAME}}`. */
  key: namedValues,
  verify: z.strictObject({ ...requestShape, identity: jsonPath.optional() }),
  create: z.strictObject({
    ...requestShape,
    /** Where the answer tells the id; absent: the API goes by `{{lease.name}}`. */
    id: jsonPath.optional(),
    extract: z.record(shownField, jsonPath).default({}),
    fields: z.record(shownField, template).default({}),
  }),
  delete: request,
  renew: request.optional(),
  list: z.strictObject({ ...requestShape, ...listShape }).optional(),
});

/** How an HTTP API makes and deletes credentials for leases, and the key that Rekey asks with. */
export const httpApiConnection = shape.superRefine((declaration, context) => {
  for (const problem of problemsOf(declaration)) {
    const at = /^[\w.]+(?=:)/.exec(problem)?.[0] ?? "";
    context.addIssue({ code: "custom", path: at.split("."), message: problem.slice(at.length + 2) });
  }
});
export type HttpApiConnection = z.infer<typeof shape>;

/** Of `{{lease.…}}`: for all requests of one lease, where it is made or renewed, and where it is made. */
const leaseFields = ["id", "name", "installation", "secretName"];
const timeFields = ["ttlSeconds", "expiresAt", "expiresAtSeconds"];
const password = "password";

function problemsOf(declaration: HttpApiConnection): string[] {
  const { create, delete: remove, renew, list, verify } = declaration;
  return [
    ...originProblems(declaration),
    ...problemsOfAuth(declaration.auth, "auth", "integration"),
    ...keyProblems(declaration),
    ...requestProblems("verify", verify, [], []),
    ...requestProblems("create", create, [...leaseFields, ...timeFields, password], ["setting", "random"]),
    ...requestProblems("delete", remove, leaseFields, ["setting", "id"]),
    ...(renew ? requestProblems("renew", renew, [...leaseFields, ...timeFields], ["setting", "id"]) : []),
    ...(list ? requestProblems("list", list, ["installation"], []) : []),
    ...fieldProblems(declaration),
    ...wayProblems(declaration),
  ];
}

function requestProblems(at: string, one: RequestDeclaration, fields: readonly string[], sources: readonly Source[]): string[] {
  const allowed: Source[] = ["integration", ...sources, ...(fields.length > 0 ? (["lease"] as const) : [])];
  const wrong = fieldsNamed("lease", [one], []).filter((field) => fields.length > 0 && !fields.includes(field));
  return [
    ...problemsOfRequest(at, one, allowed),
    ...wrong.map((field) => `${at}: may not name {{lease.${field}}} here; it may: ${fields.join(", ")}`),
  ];
}

function keyProblems(declaration: HttpApiConnection): string[] {
  const { auth: shown, verify, create, delete: remove, renew, list, key } = declaration;
  const requests = [verify, create, remove, ...(renew ? [renew] : []), ...(list ? [list] : [])];
  const asked = fieldsNamed("integration", requests, Object.values(shown));
  return asked.filter((field) => !Object.hasOwn(key, field)).map((field) => `key: has no ${field}, which a template names`);
}

function fieldProblems({ create: { extract, fields } }: HttpApiConnection): string[] {
  const all = [...Object.keys(extract), ...Object.keys(fields)];
  const problems = Object.entries(fields).flatMap(([field, text]) =>
    templateProblems({ at: `create.fields.${field}`, text }, ["lease", "setting"]),
  );
  if (all.length === 0) problems.push("create.extract: gives nothing, and create.fields neither");
  if (all.length > 50) problems.push("create.extract: gives more than 50 fields with create.fields");
  const twice = Object.keys(extract).find((field) => Object.hasOwn(fields, field));
  if (twice !== undefined) problems.push(`create.fields.${twice}: is given by create.extract already`);
  return problems;
}

function wayProblems({ create, delete: remove, renew, list }: HttpApiConnection): string[] {
  const problems: string[] = [];
  if (create.method === "GET") problems.push("create.method: GET makes nothing");
  if (remove.method === "GET") problems.push("delete.method: GET deletes nothing");
  if (!names(remove, "id") && !names(remove, "lease")) {
    problems.push("delete: must say which one, by {{id}} or {{lease.name}} in path, query, json or form");
  }
  const byId = names(remove, "id") || (renew !== undefined && names(renew, "id"));
  if (byId && create.id === undefined) problems.push("create.id: is missing, and delete or renew name {{id}}");
  if (list && !names(create, "lease", "name")) {
    problems.push("create: must mark what it makes with {{lease.name}}, which list.mark finds again");
  }
  if (list && list.method !== "GET" && list.method !== "POST") problems.push("list.method: must be GET or POST");
  return problems;
}

/** Whether the API itself ends what was made for a lease at its end. */
export const endsByItself = ({ create }: HttpApiConnection): boolean => timeFields.some((field) => names(create, "lease", field));
