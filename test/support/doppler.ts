// Requests as Doppler's command line sends them, and what its answers look like.
import assert from "node:assert/strict";
import { request } from "node:http";
import type { RekeyServer } from "./rekey-server.ts";

export interface CliAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: what is asserted field by field
  readonly json: any;
}

export interface CliRequest {
  /** Null: none is shown. */
  readonly token?: string | null;
  /** Instead of Bearer: as Terraform and the Kubernetes operator do. */
  readonly basic?: boolean;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One request on a connection of its own, with all headers of the CLI. */
export function cli(server: RekeyServer, endpoint: string, { token, basic, body, headers }: CliRequest = {}): Promise<CliAnswer> {
  const [method = "GET", path = "/"] = endpoint.split(" ");
  const text = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  const isEmptyPost = text === undefined && (method === "POST" || method === "PUT");
  const authorization = basic ? `Basic ${Buffer.from(`${token}:`).toString("base64")}` : `Bearer ${token}`;
  const sent = {
    "User-Agent": "doppler-go-cli-3.75.1",
    Accept: "application/json",
    ...(typeof token === "string" ? { Authorization: authorization } : {}),
    "Client-Arch": "amd64",
    "Client-Os": "linux",
    "Client-Sdk": "go-cli",
    "Client-Version": "3.75.1",
    "Content-Type": "application/json",
    ...(text === undefined ? {} : { "Content-Length": `${Buffer.byteLength(text)}` }),
    ...(isEmptyPost ? { "Content-Length": "0" } : {}),
    "Accept-Encoding": "gzip",
    Connection: "close",
    ...headers,
  };
  return new Promise((resolve, reject) => {
    const outgoing = request(`${server.endpoint}${path}`, { method, agent: false, headers: sent }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => {
        const whole = Buffer.concat(chunks).toString("utf8");
        const isJson = /^application\/json/.test(answer.headers["content-type"] ?? "");
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          text: whole,
          json: isJson && whole !== "" ? JSON.parse(whole) : undefined,
        });
      });
    });
    outgoing.on("error", reject);
    outgoing.end(text);
  });
}

/** How a value refers to another one. */
export const reference = (name: string): string => `\${${name}}`;

type Check = (value: unknown) => boolean;
/** `{name: text}`, `[pattern]` for lists, a value for itself, a function that tells. */
export type Pattern = Check | string | number | boolean | null | readonly Pattern[] | { readonly [member: string]: Pattern };

export const text: Check = (value) => typeof value === "string";
export const filled: Check = (value) => typeof value === "string" && value !== "";
const bool: Check = (value) => typeof value === "boolean";
export const time: Check = (value) => typeof value === "string" && new Date(value).toISOString() === value;
export const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
export const anything: Check = () => true;

/** Exactly these members, each of the kind that is named: the CLI asserts types and panics otherwise. */
export function assertShape(value: unknown, pattern: Pattern, path = "answer"): void {
  if (typeof pattern === "function") {
    assert.ok(pattern(value), `${path} is ${JSON.stringify(value)}`);
    return;
  }
  if (Array.isArray(pattern)) {
    assert.ok(Array.isArray(value), `${path} is no list: ${JSON.stringify(value)}`);
    for (const [index, item] of value.entries()) assertShape(item, pattern[0] as Pattern, `${path}[${index}]`);
    return;
  }
  if (typeof pattern !== "object" || pattern === null) {
    assert.equal(value, pattern, path);
    return;
  }
  assert.ok(typeof value === "object" && value !== null && !Array.isArray(value), `${path} is ${JSON.stringify(value)}`);
  assert.deepEqual(Object.keys(value).toSorted(), Object.keys(pattern).toSorted(), path);
  for (const [member, part] of Object.entries(pattern))
    assertShape((value as Record<string, unknown>)[member], part, `${path}.${member}`);
}

export const shapes = {
  project: { id: filled, slug: filled, name: filled, description: text, created_at: time },
  environment: { id: filled, slug: filled, name: filled, project: filled, created_at: time, initial_fetch_at: orNull(time) },
  config: {
    name: filled,
    slug: filled,
    root: bool,
    locked: bool,
    environment: filled,
    project: filled,
    created_at: time,
    initial_fetch_at: orNull(time),
    last_fetch_at: orNull(time),
    inheritable: bool,
    inheriting: bool,
    inherits: [{ project: filled, config: filled }],
    inheritedBy: [{ project: filled, config: filled }],
  },
  log: {
    id: filled,
    text: filled,
    html: filled,
    rollback: bool,
    created_at: time,
    config: orNull(text),
    environment: orNull(text),
    project: orNull(text),
    user: { email: orNull(text), name: orNull(text), username: orNull(text), profile_image_url: orNull(text) },
  },
  secret: {
    raw: orNull(text),
    computed: orNull(text),
    note: text,
    rawVisibility: orNull(text),
    computedVisibility: orNull(text),
    rawValueType: { type: orNull(text) },
    computedValueType: { type: orNull(text) },
  },
  token: {
    name: filled,
    slug: filled,
    created_at: time,
    expires_at: orNull(time),
    project: filled,
    environment: filled,
    config: filled,
    access: filled,
  },
  failure: { messages: [filled], success: false },
} as const satisfies Record<string, Pattern>;
