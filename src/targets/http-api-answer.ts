import { type OutcomeClass, RotatorError } from "../core/error.ts";
import type { ErrorRule, RequestDeclaration } from "./http-api-declaration.ts";
import { at, parseJson } from "./http-api-json.ts";
import type { RequestName } from "./http-api-rules.ts";
import type { Answer } from "./http-api-send.ts";
import { fillJson, isScalar, type TemplateValues } from "./http-api-template.ts";

type Failure = Exclude<OutcomeClass, "ok">;

/** Answers that say: not now, and nothing was done. */
const later: readonly number[] = [408, 425, 429, 503];
/** A key that is gone need not be deleted. */
const gone: readonly number[] = [404, 410];

/** The answer's JSON once it is what the request expects, `undefined` where it is none. @throws RotatorError with what it means else */
export function readAnswer(
  name: RequestName,
  label: string,
  { expect = {}, errors = [] }: RequestDeclaration,
  { status, text }: Answer,
  values: TemplateValues,
): unknown {
  const json = parseJson(text);
  const rule = errors.find((one) => fits(one, status, json));
  if (rule) throw new RotatorError(rule.outcome, `${label}: the API answered ${status}, which is declared as ${rule.outcome}`);
  const expected = expect.status?.includes(status) ?? (isSuccess(status) || (name === "delete" && gone.includes(status)));
  if (!expected) throw new RotatorError(outcomeOf(name, status), `${label}: the API answered ${status}`);
  if (!isSuccess(status)) return json;
  for (const [path, wanted] of Object.entries(expect.json ?? {})) {
    if (same(at(json, path), fillJson(wanted, values))) continue;
    // After a change nobody knows what such an answer means.
    const outcome = name === "create" ? "unknown" : "invalid";
    throw new RotatorError(outcome, `${label}: ${path} of the answer is not as expect.json says`);
  }
  return json;
}

const isSuccess = (status: number): boolean => status >= 200 && status <= 299;

/** What no answer leaves open. */
export const isChange = (name: RequestName): boolean => name === "create" || name === "delete" || name === "renew";

function outcomeOf(name: RequestName, status: number): Failure {
  if (status === 401 && name === "verify") return "refused";
  if (status === 401 || status === 403) return name === "test" ? "refused" : "denied";
  if (later.includes(status)) return "unreachable";
  const open = isChange(name);
  if (status >= 500) return open ? "unknown" : "unreachable";
  // A redirect is not followed; of a change it may say that it was made.
  return status < 400 && name === "create" ? "unknown" : "invalid";
}

function fits({ status, path, equals }: ErrorRule, answered: number, json: unknown): boolean {
  const matches = typeof status === "number" ? status === answered : status === `${Math.floor(answered / 100)}xx`;
  return matches && (path === undefined || same(at(json, path), equals));
}

/** APIs write one id now as a number and now as a text. */
function same(value: unknown, wanted: unknown): boolean {
  return value === wanted || (isScalar(value) && isScalar(wanted) && String(value) === String(wanted));
}

/** An id that names one key in any place of a request. `undefined` for all else: an empty one in a path would name all keys. */
export function keyId(value: unknown): string | undefined {
  const text = typeof value === "number" && Number.isSafeInteger(value) ? String(value) : value;
  return typeof text === "string" && /^(?!\.+$)[\w.~:@+=,$!*()|-]{1,256}$/.test(text) ? text : undefined;
}
