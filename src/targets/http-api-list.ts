import { RotatorError } from "../core/error.ts";
import { keyId } from "./http-api-answer.ts";
import type { HttpApi } from "./http-api-client.ts";
import type { AskedApi, ListDeclaration } from "./http-api-declaration.ts";
import { at } from "./http-api-json.ts";
import { type FilledRequest, labelOf } from "./http-api-request.ts";
import { madeAs } from "./http-api-rules.ts";
import { isScalar, type TemplateValues } from "./http-api-template.ts";
import type { Issued, RotatorTools } from "./target.ts";

const maxPages = 50;
const maxKeys = 10_000;

/** All keys that the API lists, page by page; a list that does not end, or is not as declared, is none. @throws RotatorError */
export async function listKeys(
  api: HttpApi<AskedApi>,
  list: ListDeclaration,
  values: TemplateValues,
  tools: Pick<RotatorTools, "deadlineAt">,
): Promise<readonly Issued[]> {
  const label = labelOf("list", list);
  const found: Issued[] = [];
  const first = api.fill("list", values).filled;
  let filled: FilledRequest | undefined = first;
  for (let page = 0; filled !== undefined; page++) {
    if (page === maxPages || found.length > maxKeys) throw new RotatorError("invalid", `${label}: the list does not end`);
    const json = await api.exchange("list", { request: list, filled, values }, tools);
    found.push(...readPage(list, json, label));
    filled = nextPage(api.declaration, list, json, first, label);
  }
  return found;
}

function readPage({ items, id, createdAt, mark }: ListDeclaration, json: unknown, label: string): Issued[] {
  const found = at(json, items);
  if (!Array.isArray(found)) throw new RotatorError("invalid", `${label}: the answer has no list at ${items}`);
  return found.map((item: unknown) => {
    const key = keyId(at(item, id));
    if (key === undefined) throw new RotatorError("invalid", `${label}: ${id} of a listed key is no id`);
    const name = at(item, mark.path);
    const rotationId =
      typeof name === "string" && name.startsWith(mark.prefix) ? name.slice(mark.prefix.length) || undefined : undefined;
    return { id: key, createdAt: createdAt === undefined ? undefined : timeOf(at(item, createdAt)), rotationId };
  });
}

/** Of a date in text, or seconds or milliseconds since 1970; `undefined` for anything else. */
function timeOf(value: unknown): number | undefined {
  if (typeof value === "number" && Number.isFinite(value)) return value < 100_000_000_000 ? value * 1000 : value;
  const parsed = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isNaN(parsed) ? undefined : parsed;
}

function nextPage(
  declaration: AskedApi,
  list: ListDeclaration,
  json: unknown,
  first: FilledRequest,
  label: string,
): FilledRequest | undefined {
  const { next } = list;
  if (!next) return undefined;
  const value = at(json, "link" in next ? next.link : next.cursor);
  if (value === undefined || value === null || value === "" || value === false) return undefined;
  if (!isScalar(value)) throw new RotatorError("invalid", `${label}: what leads to the next page is neither text nor number`);
  const url = "link" in next ? linkedUrl(String(value), first.url, label) : new URL(first.url.href);
  if ("cursor" in next) url.searchParams.set(next.query, String(value));
  const auth = declaration.auth[madeAs(declaration, "list", list)];
  if (auth?.type === "query") url.searchParams.set(auth.name, first.url.searchParams.get(auth.name) ?? "");
  return { ...first, url };
}

/** The key goes to its own origin only, whatever the API says. */
function linkedUrl(link: string, base: URL, label: string): URL {
  const url = URL.canParse(link, base.href) ? new URL(link, base.href) : undefined;
  if (url?.origin === base.origin && url.username === "" && url.password === "") return url;
  throw new RotatorError("invalid", `${label}: the next page is at another origin`);
}
