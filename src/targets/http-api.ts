import { z } from "zod";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { keyId } from "./http-api-answer.ts";
import { commonValues, HttpApi } from "./http-api-client.ts";
import type { HttpApiDeclaration } from "./http-api-declaration.ts";
import { at } from "./http-api-json.ts";
import { listKeys } from "./http-api-list.ts";
import { labelOf } from "./http-api-request.ts";
import { authTexts, fieldsOf, provesId } from "./http-api-rules.ts";
import { isScalar, placeholdersOf, render, type TemplateValues } from "./http-api-template.ts";
import { issuesOnly } from "./issuer.ts";
import type { Access, Finding, Rotator, RotatorTools } from "./target.ts";

export { type HttpApiDeclaration, parseHttpApiDeclaration } from "./http-api-declaration.ts";

/** A secret's JSON value for an HTTP API; which fields it has, the declaration says. */
export type ApiCredential = Record<string, unknown>;

type ApiAccess = Access<ApiCredential>;

const kind = "http-api";
const maxFieldLength = 16_384;

/** Keys of the HTTP API that a declaration describes: a new key beside the old one, which is deleted later. */
export function httpApiRotator(declaration: HttpApiDeclaration): Rotator<ApiCredential> {
  const api = new HttpApi(declaration);
  const { account, list, most, propagationSeconds, create } = declaration;

  const test = async (pending: ApiCredential, tools: RotatorTools): Promise<void> => {
    await api.ask("test", { current: pending, ...commonValues(tools) }, tools);
    await mustRefuseAnother(api, pending, tools);
  };

  return {
    kind,
    strategies: ["issuer"],
    credential: shape(declaration, "current"),
    admin: shape(declaration, "admin"),
    account: (current) => (account === undefined ? undefined : accountOf(declaration.origin, account, current)),
    ...issuesOnly(kind),

    issuer: {
      most,
      marks: list !== undefined,
      repeatable: create.repeatable,
      settlesWithinMs: propagationSeconds * 1000,
      idUnproven: !provesId(declaration),
      id: (credential) => idOf(declaration, credential),
      list: async (access, tools) => (list ? listKeys(api, list, valuesOf(access, tools), tools) : undefined),
      issue: (access, tools) => issue(api, access, tools),
      delete: (id, access, tools) => deleteKey(api, id, access, tools),
    },

    test,

    async probe(credential, tools): Promise<OutcomeClass> {
      try {
        await api.ask("test", { current: credential, ...commonValues(tools) }, tools);
        return "ok";
      } catch (error) {
        if (error instanceof RotatorError) return error.outcome;
        throw error;
      }
    },

    async check(access, _strategy, tools) {
      const findings: Finding[] = [];
      await found(findings, "testSecret", "Correct test in the declaration, or the secret's value.", () =>
        test(access.current, tools),
      );
      if (list) {
        const remedy = "Correct list in the declaration, or give the key that asks the right to list.";
        await found(findings, "createSecret", remedy, () => listKeys(api, list, valuesOf(access, tools), tools));
      } else {
        const problem = "the declaration has no list: a key whose answer was lost stays at the API";
        findings.push({ step: "createSecret", problem, remedy: "Declare list, with a mark.", warning: true });
      }
      if (access.admin && !provesId(declaration)) {
        const problem = `the test does not show that ${declaration.id} is the key's own, so a key that no rotation made is not deleted`;
        const remedy = `Have test.expect.json compare {{current.${declaration.id}}}, or delete the first key by hand.`;
        findings.push({ step: "retirement", problem, remedy, warning: true });
      }
      return findings;
    },
  };
}

function valuesOf({ current, admin }: ApiAccess, tools: RotatorTools): TemplateValues {
  return { current, admin, ...commonValues(tools) };
}

function accountOf(origin: string, account: string, current: ApiCredential): string {
  const values = { current, rotationId: "", random: () => "" };
  return `${kind}://${new URL(origin).host}/${render(account, values, encodeURIComponent)}`;
}

/** The fields that the declaration's templates name must be there; a superuser's value says itself where it may be sent. */
function shape(declaration: HttpApiDeclaration, who: "current" | "admin"): z.ZodType<ApiCredential> {
  const { origin, id } = declaration;
  const fields = fieldsOf(declaration, who);
  return z.record(z.string(), z.unknown()).superRefine((value, context) => {
    const must = (field: string, holds: boolean, message: string): void => {
      if (!holds) context.addIssue({ code: "custom", path: [field], message });
    };
    for (const field of fields) {
      must(field, Object.hasOwn(value, field) && isScalar(value[field]), "must be a text, a number or true or false");
    }
    if (who === "current") must(id, keyId(value[id]) !== undefined, "must be the id of a key, without slashes or spaces");
    must("engine", (value.engine ?? kind) === kind, `must be ${kind}`);
    // Else masterarn could name any superuser's secret, and have its key sent to this API.
    const mayBeSilent = who === "current" && value.origin === undefined;
    must("origin", mayBeSilent || value.origin === origin, `must be ${origin}`);
  });
}

function idOf({ id }: HttpApiDeclaration, credential: ApiCredential): string {
  const found = keyId(credential[id]);
  if (found === undefined) throw new RotatorError("invalid", `${id} of the value is no id of a key`);
  return found;
}

async function issue(api: HttpApi, access: ApiAccess, tools: RotatorTools): Promise<ApiCredential> {
  const { declaration } = api;
  const { create, id: idField } = declaration;
  const label = labelOf("create", create);
  const current = idOf(declaration, access.current);
  const json = await api.ask("create", valuesOf(access, tools), tools);
  const fields = Object.entries(create.extract).map(([field, path]) => [field, at(json, path)] as const);
  const id = keyId(fields.find(([field]) => field === idField)?.[1]);
  if (id === undefined)
    throw new RotatorError("unknown", `${label}: the answer has no id of a key at ${create.extract[idField]}`);
  if (id === current) throw new RotatorError("invalid", `${label}: the answer gives the id of the current key`);
  const missing = fields.find(([, value]) => !isScalar(value) || String(value).length > maxFieldLength);
  if (missing) {
    // Of no use without it; left alone it would stay at the API.
    await deleteKey(api, id, access, tools).catch(() => {
      throw new RotatorError("unknown", `${label}: the answer has no ${missing[0]}, and key ${id} was made`);
    });
    throw new RotatorError("invalid", `${label}: the answer has no ${missing[0]} at ${create.extract[missing[0]]}`);
  }
  const pending = { ...access.current, ...Object.fromEntries(fields) };
  const shown = authTexts(declaration.auth.current).flatMap(placeholdersOf);
  if (shown.every(({ field }) => pending[field] === access.current[field])) {
    throw new RotatorError("unknown", `${label}: the answer gives the current key again, under another id`);
  }
  return pending;
}

async function deleteKey(api: HttpApi, id: string, access: ApiAccess, tools: RotatorTools): Promise<void> {
  const { declaration } = api;
  if (keyId(id) === undefined) throw new RotatorError("invalid", `${labelOf("delete", declaration.delete)}: no id of a key`);
  if (id === idOf(declaration, access.current)) {
    throw new RotatorError("invalid", `${labelOf("delete", declaration.delete)}: ${id} is the secret's current key: not deleted`);
  }
  await api.ask("delete", { ...valuesOf(access, tools), id }, tools);
}

/** A test that any key passes would prove nothing. @throws RotatorError `invalid` */
async function mustRefuseAnother(api: HttpApi, pending: ApiCredential, tools: RotatorTools): Promise<void> {
  const { declaration } = api;
  const common = commonValues(tools);
  const texts = authTexts(declaration.auth.current).filter((text) => placeholdersOf(text).length > 0);
  const fields = placeholdersOf(texts.at(-1) ?? "").map(({ field }) => field);
  const spoiled = fields.map((field) => [field, common.random(Math.min(Math.max(String(pending[field]).length, 16), 128))]);
  const values = { current: { ...pending, ...Object.fromEntries(spoiled) }, ...common };
  try {
    await api.ask("test", values, tools);
  } catch (error) {
    if (error instanceof RotatorError) return;
    throw error;
  }
  throw new RotatorError("invalid", `${labelOf("test", declaration.test)}: a key made of random letters passes it too`);
}

async function found(findings: Finding[], step: Finding["step"], remedy: string, look: () => Promise<unknown>): Promise<void> {
  try {
    await look();
  } catch (error) {
    if (!(error instanceof RotatorError && (error.outcome === "denied" || error.outcome === "invalid"))) throw error;
    findings.push({ step, problem: error.message, remedy });
  }
}
