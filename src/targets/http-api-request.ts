import { RotatorError } from "../core/error.ts";
import type { AskedApi, Auth, RequestDeclaration } from "./http-api-declaration.ts";
import { madeAs, type RequestName } from "./http-api-rules.ts";
import { fillJson, render, type TemplateValues } from "./http-api-template.ts";

/** A request with its values in place; nothing of it but `label` may be shown. */
export interface FilledRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

/** For messages: the request as it is declared, `delete DELETE /keys/{{id}}`. */
export function labelOf(name: RequestName, { method, path }: RequestDeclaration): string {
  return `${name} ${method} ${path}`;
}

/** Each value is written as its place asks, and refused where it would change the place. @throws RotatorError `invalid` */
export function fillRequest(
  declaration: AskedApi,
  name: RequestName,
  request: RequestDeclaration,
  values: TemplateValues,
): FilledRequest {
  const label = labelOf(name, request);
  const as = madeAs(declaration, name, request);
  const auth = declaration.auth[as];
  if (!auth || (as === "admin" && !values.admin)) {
    throw new RotatorError("invalid", `${label}: is made with the superuser's key, and the secret's masterarn names none`);
  }
  const url = fillUrl(declaration.origin, request, values, label);
  const headers = new Map<string, string>([
    ["accept", "application/json"],
    ["accept-encoding", "identity"],
    ["user-agent", "rekey"],
  ]);
  const body = fillBody(request, values, headers);
  for (const [header, text] of Object.entries(request.headers ?? {})) {
    headers.set(header.toLowerCase(), headerValue(render(text, values), label));
  }
  authenticate(auth, values, { url, headers, label });
  return { method: request.method, url, headers: Object.fromEntries(headers), body };
}

function fillUrl(origin: string, { path, query = {} }: RequestDeclaration, values: TemplateValues, label: string): URL {
  const filled = render(path, values, (value) => pathSegment(value, label));
  const url = new URL(`${origin}${filled}`);
  // A value of dots would have gone up in the path.
  if (url.origin !== origin || url.pathname !== filled)
    throw new RotatorError("invalid", `${label}: a value does not fit the path`);
  for (const [key, text] of Object.entries(query)) url.searchParams.append(key, render(text, values));
  return url;
}

/** Servers differ on whether an encoded slash still divides: it goes nowhere. */
function pathSegment(value: string, label: string): string {
  if (/[/\\]|[^\P{Cc}]/u.test(value)) {
    throw new RotatorError("invalid", `${label}: a value with a slash or a control character does not fit the path`);
  }
  return encodeURIComponent(value).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

function headerValue(value: string, label: string): string {
  if (/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value)) return value;
  throw new RotatorError("invalid", `${label}: a value does not fit a header: printable ASCII on one line`);
}

function fillBody({ json, form }: RequestDeclaration, values: TemplateValues, headers: Map<string, string>): string | undefined {
  if (json !== undefined) {
    headers.set("content-type", "application/json");
    return JSON.stringify(fillJson(json, values));
  }
  if (!form) return undefined;
  headers.set("content-type", "application/x-www-form-urlencoded");
  const body = new URLSearchParams();
  for (const [name, text] of Object.entries(form)) body.append(name, render(text, values));
  return body.toString();
}

function authenticate(
  auth: Auth,
  values: TemplateValues,
  { url, headers, label }: { url: URL; headers: Map<string, string>; label: string },
): void {
  switch (auth.type) {
    case "bearer": {
      const token = headerValue(render(auth.token, values), label);
      headers.set("authorization", `Bearer ${token}`);
      return;
    }
    case "basic": {
      const username = render(auth.username, values);
      if (username.includes(":")) throw new RotatorError("invalid", `${label}: a user name with a colon does not fit`);
      const pair = `${username}:${render(auth.password, values)}`;
      headers.set("authorization", `Basic ${Buffer.from(pair, "utf8").toString("base64")}`);
      return;
    }
    case "header":
      headers.set(auth.name.toLowerCase(), headerValue(render(auth.value, values), label));
      return;
    case "query":
      url.searchParams.set(auth.name, render(auth.value, values));
  }
}
