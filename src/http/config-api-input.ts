import { randomUUID } from "node:crypto";
import { readJsonObject } from "./json-body.ts";
import type { RawRequest } from "./raw-request.ts";
import { isDopplerSdk } from "./unframed-delete.ts";

/** What a caller of the config API sent. */
export class Asked {
  readonly raw: RawRequest;
  /** Of the path. */
  readonly params: Readonly<Record<string, string>>;
  #query: URLSearchParams | undefined;
  #body: Readonly<Record<string, unknown>> | undefined;

  constructor(raw: RawRequest, params: Readonly<Record<string, string>>) {
    this.raw = raw;
    this.params = params;
  }

  /** Doppler's SDK leaves a plus sign as it is, where forms mean a blank by it. */
  get query(): URLSearchParams {
    const { query, userAgent } = this.raw;
    this.#query ??= new URLSearchParams(isDopplerSdk(userAgent) ? query.replaceAll("+", "%2B") : query);
    return this.#query;
  }

  /** @throws ServiceError SerializationException */
  get body(): Readonly<Record<string, unknown>> {
    this.#body ??= readJsonObject(this.raw.body) as Record<string, unknown>;
    return this.#body;
  }

  /** From the body, else from the query; blank and null are absence. */
  find(name: string): unknown {
    const inBody = Object.hasOwn(this.body, name) ? this.body[name] : undefined;
    const value = inBody === undefined || inBody === null || inBody === "" ? this.query.get(name) : inBody;
    return value === null || value === "" ? undefined : value;
  }
}

/** How a member of an operation's input is read from a request; what is of another type stays so, and is refused there. */
export interface Field {
  /** As the caller writes it. */
  readonly name: string;
  /** Undefined: absent. */
  read(asked: Asked): unknown;
}

export const text = (name: string): Field => ({ name, read: (asked) => asked.find(name) });

/** A text that may be empty, in the body only. */
export const anyText = (name: string): Field => ({ name, read: ({ body }) => body[name] ?? undefined });

/** A member of the body as it is, null included. */
export const json = (name: string): Field => ({ name, read: ({ body }) => body[name] });

/** A text of the path. */
export const param = (name: string): Field => ({ name, read: ({ params }) => params[name] });

/** The value of a header, if it came once. */
export const header = (name: string): Field => ({
  name,
  read({ raw }) {
    const value = raw.headers[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  },
});

/** `true` or `false`, in words or as JSON. */
export const flag = (name: string): Field => ({
  name,
  read(asked) {
    const value = asked.find(name);
    return value === "true" ? true : value === "false" ? false : value;
  },
});

/** A whole number, in digits or as JSON. */
export const count = (name: string): Field => ({
  name,
  read(asked) {
    const value = asked.find(name);
    return typeof value === "string" && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  },
});

/** `A,B`. */
export const list = (name: string): Field => ({
  name,
  read(asked) {
    const value = asked.find(name);
    return typeof value === "string" ? value.split(",").filter((part) => part !== "") : value;
  },
});

/** Another field's value, changed. */
export const mapped = (field: Field, change: (value: unknown) => unknown): Field => ({
  name: field.name,
  read(asked) {
    const value = field.read(asked);
    return value === undefined ? undefined : change(value);
  },
});

export const orElse = (field: Field, value: unknown): Field => ({
  name: field.name,
  read: (asked) => field.read(asked) ?? value,
});

/** The same whenever the request is sent again, if the caller says which it is. */
export const requestToken: Field = mapped(
  { name: "idempotency-key", read: ({ raw }) => raw.headers["idempotency-key"] ?? "" },
  (key) => (key === "" ? randomUUID() : key),
);

/** The objects of a list, or one object, with other member names: `{original: renamed}`; null members are left out. */
export function renamed(names: Readonly<Record<string, string>>): (value: unknown) => unknown {
  const rename = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(rename);
    if (typeof value !== "object" || value === null) return value;
    const entries = Object.entries(value).filter(([name, item]) => Object.hasOwn(names, name) && item !== null);
    return Object.fromEntries(entries.map(([name, item]) => [names[name], item]));
  };
  return rename;
}
