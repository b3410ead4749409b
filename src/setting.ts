/** One setting: how it is written, who reads it and what it may be. */
export interface Setting<T> {
  /** How help shows its value: `DIR`; absent: a flag without value. */
  readonly placeholder?: string;
  readonly default?: string;
  /** A letter for short: `p` of `-p`. */
  readonly short?: string;
  readonly about: string;
  readonly parts: readonly ("server" | "store" | "client" | "config" | "agent")[];
  /** What it may be, in words that follow "must be". */
  readonly range: string;
  /** Undefined: not allowed. */
  parse(text: string): T | undefined;
}

/** Where to listen, or where somebody listens. */
export interface Listen {
  readonly host: string;
  readonly port: number;
}

/** Numbers of users of the operating system, first and last included. */
export interface UserRange {
  readonly first: number;
  readonly last: number;
}

type Given = Pick<Setting<unknown>, "parts" | "about"> & { readonly default?: string; readonly short?: string };

/** Keeps in the type whether there is a default: a setting without one may be undefined. */
const make = <T, G extends Given>(
  given: G,
  rest: Pick<Setting<T>, "range" | "parse"> & { placeholder?: string },
): Setting<T> & G => ({
  ...given,
  ...rest,
});

export const path = <G extends Given>(placeholder: string, given: G) =>
  make<string, G>(given, {
    placeholder,
    range: "a path",
    parse: (text) => (text === "" || text.includes("\0") ? undefined : text),
  });

export const text = <G extends Given & { range: string }>(placeholder: string, allowed: (text: string) => boolean, given: G) =>
  make<string, G>(given, { placeholder, range: given.range, parse: (value) => (allowed(value) ? value : undefined) });

/** One or more texts: the flag is repeated; in the environment, commas or blanks stand between them. */
export const list = <G extends Given & { range: string }>(placeholder: string, given: G) =>
  make<readonly string[], G>(given, {
    placeholder: `${placeholder}...`,
    range: given.range,
    parse: (value) => value.split(/[\s,]+/).filter((one) => one !== ""),
  });

export const count = <G extends Given>(placeholder: string, min: number, max: number, given: G) =>
  make<number, G>(given, {
    placeholder,
    range: `a whole number from ${min} to ${max}`,
    parse(text) {
      const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      return value >= min && value <= max ? value : undefined;
    },
  });

/** Numbers of users of the operating system, `FIRST-LAST`; or `same`, the server's own. */
export const userRange = <G extends Given>(given: G) =>
  make<UserRange | "same", G>(given, {
    placeholder: "FIRST-LAST",
    range: "two numbers of users, such as 64000-64039, none of them 0 and at most 1000 in all, or same",
    parse(text) {
      if (text === "same") return text;
      const [, first, last] = (/^(\d{1,10})-(\d{1,10})$/.exec(text) ?? []).map(Number);
      if (first === undefined || last === undefined || first < 1 || last < first) return undefined;
      return last - first < 1000 && last < 2 ** 31 ? { first, last } : undefined;
    },
  });

export const choice = <const V extends string, G extends Given>(placeholder: string, values: readonly V[], given: G) =>
  make<V, G>(given, {
    placeholder,
    range: `one of ${values.join(", ")}`,
    parse: (text) => values.find((value) => value === text),
  });

/** `flag`: written without a value on the command line; `on` or `off` in the environment. */
export const onOff = <G extends Given & { flag?: true }>(given: G) =>
  make<boolean, G>(given, {
    ...(given.flag ? {} : { placeholder: "on|off" }),
    range: "on or off",
    parse: (text) => (text === "on" ? true : text === "off" ? false : undefined),
  });

export const listen = <G extends Given>(given: G) =>
  make<Listen, G>(given, {
    placeholder: "HOST:PORT",
    range: "HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:7353 or [::1]:7353",
    parse(text) {
      const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
      const host = match?.[1] ?? match?.[2];
      const port = Number(match?.[3]);
      return host !== undefined && port <= 65_535 ? { host, port } : undefined;
    },
  });

export const postgresUrl = <G extends Given>(given: G) =>
  make<string, G>(given, {
    placeholder: "URL",
    range: "an address that begins with postgres://",
    parse: (text) => (/^postgres(ql)?:\/\//.test(text) && URL.canParse(text) ? text : undefined),
  });

export const webUrl = <G extends Given>(given: G) =>
  make<string, G>(given, {
    placeholder: "URL",
    range: "an address such as http://127.0.0.1:7353",
    parse: (text) => (/^https?:\/\//.test(text) && URL.canParse(text) ? new URL(text).origin : undefined),
  });

export const rootKey = <G extends Given>(given: G) =>
  make<string, G>(given, {
    placeholder: "KEY",
    range: "file:PATH, env:NAME or aws-kms:ARN",
    parse: (text) => (/^(file:.|env:[A-Za-z_]\w*$|aws-kms:arn:)/.test(text) ? text : undefined),
  });
