import { randomBytes, randomInt } from "node:crypto";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { outcomeOf } from "./database-secret.ts";
import type { Rotator, RotatorTools } from "./target.ts";

/** How a value is written. Of `bytes` random bytes: hex, base64, base64url; of `length` characters: alphanumeric, password. */
const charsets = ["password", "alphanumeric", "hex", "base64", "base64url"] as const;

/** Keys that are not named here pass through untouched. */
export interface RandomValue {
  [key: string]: unknown;
  readonly type?: "random" | undefined;
  readonly charset?: (typeof charsets)[number] | undefined;
  /** Of a password or alphanumeric value, in characters. */
  readonly length?: number | undefined;
  /** Of an encoded value, before it is encoded: 32 for an AES-256 or HMAC-SHA-256 key. */
  readonly bytes?: number | undefined;
  /** Characters left out of a password or alphanumeric value. */
  readonly exclude?: string | undefined;
  /** Which key of the secret's JSON holds the value. */
  readonly valueKey?: string | undefined;
}

const settings = ["type", "charset", "length", "bytes", "exclude", "valueKey"];
const alphanumerics = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/** What connection URLs, shells and configuration files read as their own. */
const unsafeCharacters = " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}~";
/** Fewer leave too little to choose from. */
const leastCharacters = 10;

const credential: z.ZodType<RandomValue> = z
  .looseObject({
    type: z.literal("random").optional(),
    charset: z.enum(charsets).optional(),
    length: z.int().min(8).max(4096).optional(),
    bytes: z.int().min(16).max(1024).optional(),
    exclude: z.string().max(256).optional(),
    valueKey: z
      .string()
      .min(1)
      .max(256)
      .refine((key) => !settings.includes(key) && key !== "__proto__", "must be a key of its own")
      .optional(),
  })
  .superRefine((value, context) => {
    const key = value.valueKey ?? "value";
    const held = value[key];
    if (held !== undefined && typeof held !== "string")
      context.addIssue({ code: "custom", path: [key], message: "must be text" });
    const unsuited = isEncoded(value.charset) ? (["length", "exclude"] as const) : (["bytes"] as const);
    for (const name of unsuited.filter((one) => value[one] !== undefined))
      context.addIssue({ code: "custom", path: [name], message: `does not suit the charset ${value.charset ?? "password"}` });
    if (value.charset === "alphanumeric" && allowed(value.exclude).length < leastCharacters)
      context.addIssue({ code: "custom", path: ["exclude"], message: `must leave ${leastCharacters} characters` });
  });

/** A value that no target knows: an API's own key, a signing or an encryption key. */
export const random: Rotator<RandomValue> = {
  kind: "random",
  strategies: ["generator"],
  credential,
  account: () => undefined,
  create: async (current, _strategy, tools) => ({ ...current, [keyOf(current)]: newValue(current, tools) }),
  set: async () => undefined,

  async test(pending) {
    const value = pending[keyOf(pending)];
    if (typeof value !== "string" || value === "") throw new RotatorError("invalid", `the secret has no ${keyOf(pending)} yet`);
    if (!shapes[pending.charset ?? "password"].test(value)) {
      throw new RotatorError("invalid", `${keyOf(pending)} is not written in ${pending.charset}`);
    }
  },

  probe: (candidate, tools) => outcomeOf(random.test(candidate, tools)),
};

const keyOf = ({ valueKey }: RandomValue): string => valueKey ?? "value";
const isEncoded = (charset: RandomValue["charset"]): charset is "hex" | "base64" | "base64url" =>
  charset === "hex" || charset === "base64" || charset === "base64url";
const allowed = (exclude = ""): string[] => [...alphanumerics].filter((character) => !exclude.includes(character));

const shapes: Readonly<Record<(typeof charsets)[number], RegExp>> = {
  password: /^/,
  alphanumeric: /^[A-Za-z0-9]+$/,
  hex: /^(?:[0-9a-f]{2})+$/i,
  base64: /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/,
  base64url: /^[A-Za-z0-9_-]+$/,
};

function newValue({ charset, length = 32, bytes = 32, exclude = "" }: RandomValue, tools: RotatorTools): string {
  if (isEncoded(charset)) return randomBytes(bytes).toString(charset);
  if (charset !== "alphanumeric") return tools.generatePassword({ length, exclude: `${unsafeCharacters}${exclude}` });
  const characters = allowed(exclude);
  return Array.from({ length }, () => characters[randomInt(characters.length)]).join("");
}
