import assert from "node:assert/strict";
import { test } from "node:test";
import { describeApi } from "../../src/http/openapi.ts";
import { operations } from "../../src/operations/index.ts";

type Json = null | boolean | number | string | Json[] | { readonly [name: string]: Json };
type Members = { readonly [name: string]: Json };

const root = "/rekey/v1";
const api = JSON.parse(JSON.stringify(describeApi(root, operations))) as Members;

const isMembers = (value: Json | undefined): value is Members =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function membersOf(value: Json | undefined, where: string): Members {
  assert.ok(isMembers(value), where);
  return value;
}

/** Every part of the document, with its path. */
function* partsOf(value: Json, where = "#"): Generator<[string, Members]> {
  if (Array.isArray(value)) for (const [index, item] of value.entries()) yield* partsOf(item, `${where}/${index}`);
  if (!isMembers(value)) return;
  yield [where, value];
  for (const [name, item] of Object.entries(value)) yield* partsOf(item, `${where}/${name}`);
}

const calls = Object.entries(membersOf(api.paths, "paths")).map(([path, item]) => {
  assert.deepEqual(Object.keys(membersOf(item, path)), ["post"], path);
  return [path, membersOf(membersOf(item, path).post, path)] as const;
});

/** JSON Schema 2020-12, what of it there is here. */
const types: ReadonlySet<Json> = new Set(["string", "number", "integer", "boolean", "object", "array", "null"]);

function checkSchema(schema: Json | undefined, where: string): void {
  if (typeof schema === "boolean") return;
  const { $ref, $schema, type, properties, required, items, additionalProperties, propertyNames, anyOf, pattern, ...rest } =
    membersOf(schema, where);
  assert.equal($schema, undefined, where);
  if ($ref !== undefined) return;
  assert.ok(
    [type ?? "null"].flat().every((one) => types.has(one)),
    `${where}: type ${String(type)}`,
  );
  new RegExp(String(pattern ?? ""), "u"); // throws when it is none
  for (const [name, part] of Object.entries(membersOf(properties ?? {}, where))) checkSchema(part, `${where}/${name}`);
  for (const name of (required ?? []) as string[]) assert.ok(name in membersOf(properties, where), `${where}: requires ${name}`);
  for (const [keyword, part] of Object.entries({ items, additionalProperties, propertyNames }))
    if (part !== undefined) checkSchema(part, `${where}/${keyword}`);
  for (const part of (anyOf ?? []) as Json[]) checkSchema(part, `${where}/anyOf`);
  const known =
    /^(enum|const|default|description|format|contentEncoding|(min|max)(imum|Length|Items|Properties)|exclusive(Min|Max)imum|uniqueItems)$/;
  for (const keyword of Object.keys(rest)) assert.match(keyword, known, where);
}

test("the document has the form of OpenAPI 3.1", () => {
  assert.equal(api.openapi, "3.1.0");
  const info = membersOf(api.info, "info");
  assert.deepEqual([typeof info.title, typeof info.version], ["string", "string"]);
  assert.deepEqual(
    Object.keys(api).filter((name) => !["openapi", "info", "security", "paths", "components", "servers", "tags"].includes(name)),
    [],
  );
  assert.equal(calls.length, operations.length);
});

test("every call has a name of its own, parameters, a body and answers", () => {
  const names = new Set<Json | undefined>();
  for (const [path, call] of calls) {
    assert.match(path, /^\/rekey\/v1\/[a-z]+(-[a-z]+)*\/[a-z]+(-[a-z]+)*$/);
    assert.match(String(call.operationId), /^[a-z][A-Za-z]+$/, path);
    names.add(call.operationId);
    assert.ok(typeof call.summary === "string" && call.summary.endsWith("."), path);
    for (const parameter of call.parameters as Members[]) {
      assert.equal(parameter.in, "header", path);
      assert.equal(typeof parameter.name, "string", path);
      checkSchema(parameter.schema, path);
    }
    const body = membersOf(call.requestBody, path);
    assert.equal(typeof body.required, "boolean", path);
    const answers = membersOf(call.responses, path);
    assert.deepEqual(Object.keys(answers), ["200", "default"], path);
    for (const answer of Object.values(answers)) assert.equal(typeof membersOf(answer, path).description, "string", path);
    for (const part of [body, ...Object.values(answers)])
      for (const [type, { schema }] of Object.entries(membersOf(membersOf(part, path).content, path)) as [string, Members][]) {
        assert.match(type, /^application\/(problem\+)?json$/, path);
        checkSchema(schema, `${path} ${type}`);
      }
  }
  assert.equal(names.size, calls.length);
});

test("whatever is referred to is there", () => {
  const schemes = membersOf(membersOf(api.components, "components").securitySchemes, "schemes");
  for (const need of api.security as Members[]) for (const name of Object.keys(need)) assert.ok(name in schemes, name);
  const places = new Set([...partsOf(api)].map(([where]) => where));
  let references = 0;
  for (const [where, { $ref }] of partsOf(api))
    if ($ref !== undefined) {
      references += 1;
      assert.ok(places.has(String($ref)), where);
    }
  assert.ok(references >= calls.length);
});

test("Idempotency-Key is shown where it has an effect, and nowhere else", () => {
  const takes = (path: string) => {
    const [, call] = calls.find(([its]) => its === `${root}/${path}`) ?? [];
    return ((call?.parameters ?? []) as Members[]).some(({ name }) => name === "Idempotency-Key");
  };
  for (const path of ["secrets/create", "secrets/put-value", "secrets/update", "secrets/rotate"]) assert.ok(takes(path), path);
  for (const path of ["secrets/list", "secrets/get-value", "secrets/tag", "users/create"]) assert.ok(!takes(path), path);
});
