import { isPlainHost, refusesAddress } from "./http-api-address.ts";
import type { Auth, HttpApiDeclaration, RequestDeclaration } from "./http-api-declaration.ts";
import { type Placeholder, parseTemplate, placeholdersOf, textsIn } from "./http-api-template.ts";

export type Source = Placeholder["source"];

/** One place of a declaration with the templates that stand there. */
interface Place {
  readonly at: string;
  readonly text: string;
}

const maxDepth = 20;
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Set by Rekey, or by HTTP itself. */
const ownHeaders =
  /^(host|content-length|content-encoding|transfer-encoding|accept-encoding|connection|keep-alive|upgrade|expect|te|trailer|proxy-.*)$/i;
const pathCharacters = /^(?:[\w.~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*$/;
const keptFields: readonly string[] = ["__proto__", "engine", "masterarn", "origin"];

/** What the shape of a declaration cannot say, each problem with its field; none when all is well. */
export function problemsOf(declaration: HttpApiDeclaration): string[] {
  return [
    ...originProblems(declaration),
    ...authProblems(declaration),
    ...requests(declaration).flatMap(({ name, request, sources }) => requestProblems(declaration, name, request, sources)),
    ...issueProblems(declaration),
    ...accountProblems(declaration),
  ];
}

/** Whether a request is made with the superuser's key: unless it says otherwise, where there is one. */
export function madeAs(
  { auth }: Pick<HttpApiDeclaration, "auth">,
  name: RequestName,
  request: RequestDeclaration,
): "current" | "admin" {
  if (name === "test") return "current";
  return request.as ?? (auth.admin ? "admin" : "current");
}

/** `verify` and `renew` are of leases. */
export type RequestName = "create" | "test" | "delete" | "list" | "verify" | "renew";

function requests(declaration: HttpApiDeclaration): { name: RequestName; request: RequestDeclaration; sources: Source[] }[] {
  const { create, test, delete: remove, list } = declaration;
  return [
    { name: "create", request: create, sources: ["current", "rotationId", "random"] },
    { name: "test", request: test, sources: ["current"] },
    { name: "delete", request: remove, sources: ["current", "id", "rotationId"] },
    ...(list ? [{ name: "list" as const, request: list, sources: ["current"] as Source[] }] : []),
  ];
}

type Origin = Pick<HttpApiDeclaration, "origin" | "allowInsecure" | "allowAddresses">;

export function originProblems({ origin, allowInsecure, allowAddresses }: Origin): string[] {
  if (!URL.canParse(origin)) return ["origin: must be a URL such as https://api.example.com"];
  const url = new URL(origin);
  if (url.origin !== origin) return ["origin: must be scheme, host and port only, such as https://api.example.com"];
  if (url.protocol !== "https:" && url.protocol !== "http:") return ["origin: must begin with https://"];
  if (url.protocol === "http:" && !allowInsecure && !isPlainHost(url.hostname)) {
    return ["origin: must begin with https://, unless allowInsecure is true: keys would travel in clear"];
  }
  if (refusesAddress(url.hostname, allowAddresses)(url.hostname)) {
    return [
      "origin: is an address that serves a machine's own metadata or no single host; name it in allowAddresses if that is meant",
    ];
  }
  return [];
}

function authProblems({ auth }: HttpApiDeclaration): string[] {
  return (["current", "admin"] as const).flatMap((who) => {
    const one = auth[who];
    return one ? problemsOfAuth(one, `auth.${who}`, who) : [];
  });
}

/** Of one way to show a key, whose fields are of `source`. */
export function problemsOfAuth(one: Auth, at: string, source: Source): string[] {
  const wrongName = one.type === "header" && isBadHeader(one.name) ? [`${at}.name: is no header that may be set`] : [];
  const used = authTexts(one).flatMap(placeholdersOf);
  const none = used.length === 0 ? [`${at}: must name a field of the value, such as {{${source}.apiKey}}`] : [];
  return [...wrongName, ...none, ...authTexts(one).flatMap((text) => templateProblems({ at, text }, [source]))];
}

/** The templates of a way to show a key. */
export function authTexts(auth: Auth): string[] {
  if (auth.type === "bearer") return [auth.token];
  return auth.type === "basic" ? [auth.username, auth.password] : [auth.value];
}

function requestProblems(
  declaration: HttpApiDeclaration,
  name: RequestName,
  request: RequestDeclaration,
  sources: readonly Source[],
): string[] {
  const as = madeAs(declaration, name, request);
  const allowed: Source[] = as === "admin" ? [...sources, "admin"] : [...sources];
  const problems = problemsOfRequest(name, request, allowed);
  if (name === "test" && request.as === "admin") problems.push("test.as: a new key is tested with itself: current");
  if (as === "admin" && !declaration.auth.admin) problems.push(`${name}.as: is admin, and auth.admin is missing`);
  return problems;
}

/** Of one request, whose templates may name `allowed`. */
export function problemsOfRequest(name: string, request: RequestDeclaration, allowed: readonly Source[]): string[] {
  return [
    ...placesOf(name, request).flatMap((place) => templateProblems(place, allowed)),
    ...pathProblems(name, request.path),
    ...contentProblems(name, request),
    ...errorProblems(name, request),
  ];
}

function contentProblems(name: string, { method, json, form, headers = {} }: RequestDeclaration): string[] {
  const problems: string[] = [];
  if (json !== undefined && form) problems.push(`${name}.form: stands beside json; a request has one body`);
  if (method === "GET" && (json !== undefined || form)) problems.push(`${name}.method: GET has no body`);
  if (depth(json) > maxDepth) problems.push(`${name}.json: is nested deeper than ${maxDepth}`);
  if (namesIn(json).some((key) => key.includes("{{"))) problems.push(`${name}.json: names may not hold templates`);
  for (const header of Object.keys(headers)) {
    if (isBadHeader(header)) problems.push(`${name}.headers.${header}: is no header that may be set`);
  }
  return problems;
}

const isBadHeader = (name: string): boolean => !token.test(name) || ownHeaders.test(name);

function pathProblems(name: string, path: string): string[] {
  const literal = path.replace(/\{\{[^}]*\}\}/g, "x");
  const fine = path.startsWith("/") && pathCharacters.test(literal) && !literal.includes("//");
  if (fine && new URL(literal, "http://host").pathname === literal) return [];
  return [`${name}.path: must begin with / and hold segments of a URL only, encoded, without .. and //; put queries in query`];
}

function errorProblems(name: string, { errors = [] }: RequestDeclaration): string[] {
  return errors.flatMap(({ status, outcome, path, equals }, index) => {
    const at = `${name}.errors.${index}`;
    const silent = status === "5xx" || status === 429 || (typeof status === "number" && status >= 500);
    const wrong = silent && outcome !== "unreachable" && outcome !== "invalid";
    const half = (path === undefined) !== (equals === undefined);
    const blind = path === undefined && (status === "2xx" || (typeof status === "number" && status < 300));
    return [
      ...(wrong ? [`${at}.outcome: a server that fails says nothing of the key: unreachable or invalid`] : []),
      ...(half ? [`${at}: path and equals go together`] : []),
      ...(blind ? [`${at}: a success is an error by its body only: give path and equals`] : []),
    ];
  });
}

function placesOf(name: string, request: RequestDeclaration): Place[] {
  const records = (["query", "headers", "form"] as const).flatMap((kind) =>
    Object.entries(request[kind] ?? {}).map(([key, text]) => ({ at: `${name}.${kind}.${key}`, text })),
  );
  const body = depth(request.json) > maxDepth ? [] : textsIn(request.json).map((text) => ({ at: `${name}.json`, text }));
  const expected = Object.entries(request.expect?.json ?? {}).flatMap(([key, value]) =>
    typeof value === "string" ? [{ at: `${name}.expect.json.${key}`, text: value }] : [],
  );
  return [{ at: `${name}.path`, text: request.path }, ...records, ...body, ...expected];
}

export function templateProblems({ at, text }: Place, allowed: readonly Source[]): string[] {
  const parts = parseTemplate(text);
  if (typeof parts === "string") return [`${at}: ${parts}`];
  const wrong = parts.find((part) => typeof part !== "string" && !allowed.includes(part.source));
  return typeof wrong === "object" ? [`${at}: may not name {{${wrong.source}}} here; it may: ${allowed.join(", ")}`] : [];
}

function issueProblems({ id, create, delete: remove, list }: HttpApiDeclaration): string[] {
  const problems: string[] = [];
  if (!Object.hasOwn(create.extract, id)) problems.push(`create.extract: must give ${id}, the field that id names`);
  const kept = Object.keys(create.extract).find((name) => keptFields.includes(name));
  if (kept !== undefined) problems.push(`create.extract.${kept}: is not for an API to say`);
  if (!names(remove, "id")) problems.push("delete: must say which key, by {{id}} in path, query, json or form");
  if (remove.method === "GET") problems.push("delete.method: GET deletes nothing");
  if (create.method === "GET") problems.push("create.method: GET makes nothing");
  if (list && !names(create, "rotationId")) {
    problems.push("create: must mark what it makes with {{rotationId}}, which list.mark finds again");
  }
  if (list && list.method !== "GET" && list.method !== "POST") problems.push("list.method: must be GET or POST");
  if (create.repeatable && !names(create, "rotationId")) {
    problems.push("create.repeatable: needs {{rotationId}} in the request, else the API cannot tell a repeat");
  }
  if (create.repeatable && names(create, "random")) problems.push("create.repeatable: a repeat must be the same: no {{random}}");
  return problems;
}

/** Whether a login shows that the id beside a key is the key's own: it is part of what is shown, or the API tells it. */
export function provesId({ id, auth, test }: HttpApiDeclaration): boolean {
  const shown = authTexts(auth.current).flatMap(placeholdersOf);
  return shown.some(({ field }) => field === id) || Object.values(test.expect?.json ?? {}).includes(`{{current.${id}}}`);
}

/** All that requests and texts name of one record. */
export function fieldsNamed(source: Source, requests: readonly RequestDeclaration[], texts: readonly string[]): string[] {
  const all = [...texts, ...requests.flatMap((request) => placesOf("", request).map(({ text }) => text))];
  const found = all.flatMap(placeholdersOf).filter((one) => one.source === source);
  return [...new Set(found.map(({ field }) => field))];
}

/** The fields of a value that the declaration's templates name. */
export function fieldsOf(declaration: HttpApiDeclaration, who: "current" | "admin"): string[] {
  const auth = declaration.auth[who];
  const texts = [...(auth ? authTexts(auth) : []), ...(declaration.account === undefined ? [] : [declaration.account])];
  return fieldsNamed(
    who,
    requests(declaration).map(({ request }) => request),
    texts,
  );
}

/** Counts where the request is sent, not what is expected of the answer. */
export function names(request: RequestDeclaration, source: Source, field?: string): boolean {
  const { expect: _, ...sent } = request;
  return placesOf("", sent).some(({ text }) =>
    placeholdersOf(text).some((found) => found.source === source && (field === undefined || found.field === field)),
  );
}

/**
 * A field that tells the superuser's request whose key to make is what the secret's writer could change to somebody else's:
 * it is part of the account, and the test has the API confirm it.
 */
function accountProblems(declaration: HttpApiDeclaration): string[] {
  const { account, create, test } = declaration;
  const inAccount = account === undefined ? [] : placeholdersOf(account).map(({ field }) => field);
  const proven = Object.values(test.expect?.json ?? {});
  const problems = account === undefined ? [] : templateProblems({ at: "account", text: account }, ["current"]);
  for (const field of inAccount) {
    if (Object.hasOwn(create.extract, field)) problems.push(`account: ${field} changes with each key, by create.extract`);
  }
  for (const { name, request } of requests(declaration)) {
    if (madeAs(declaration, name, request) !== "admin") continue;
    const { expect: _, ...sent } = request;
    const fields = placesOf(name, sent).flatMap(({ text }) => placeholdersOf(text).filter(({ source }) => source === "current"));
    for (const { field } of fields) {
      if (inAccount.includes(field) && proven.includes(`{{current.${field}}}`)) continue;
      problems.push(
        `${name}: {{current.${field}}} steers the superuser's key: name it in account and have test.expect.json compare it, or write its value out`,
      );
    }
  }
  return [...new Set(problems)];
}

function depth(json: unknown): number {
  let level = [json];
  let deep = 0;
  while (level.length > 0 && deep <= maxDepth) {
    level = level.flatMap((item) => (typeof item === "object" && item !== null ? Object.values(item) : []));
    deep += 1;
  }
  return deep;
}

function namesIn(json: unknown): string[] {
  if (typeof json !== "object" || json === null || depth(json) > maxDepth) return [];
  const own = Array.isArray(json) ? [] : Object.keys(json);
  return [...own, ...Object.values(json).flatMap(namesIn)];
}
