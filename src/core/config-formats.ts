import { type NameTransformer, transformNames } from "./config-transformers.ts";
import { ServiceError } from "./error.ts";

export const configFormats = ["json", "dotnet-json", "env", "env-no-quotes", "docker", "yaml"] as const;
export type ConfigFormat = (typeof configFormats)[number];

export interface Rendered {
  readonly body: string;
  readonly contentType: string;
}

export interface RenderOptions {
  readonly format: ConfigFormat;
  readonly transformer?: NameTransformer | undefined;
}

type Entry = readonly [name: string, value: string];

/**
 * Writes secrets as a download, sorted by the names it shows:
 * - `json`: one flat object of strings without spaces; `dotnet-json` the same with .NET's names (`A_B__C` is `AB:C`).
 * - `env`: `NAME="value"` a line; `\` and `"` are written `\\` and `\"`, line breaks `\n` and `\r`, so that each line is one secret
 *   for readers that go line by line. `$` and backticks stay as they are, as readers of such files expect: who sources one in a
 *   shell has them run.
 * - `docker` and `env-no-quotes`: `NAME=value` a line, nothing escaped but line breaks, as above. A value that has `\n` as text
 *   already can't be told apart from one with a line break.
 * - `yaml`: `NAME: "value"` a line, all JSON escapes and those that YAML wants.
 *
 * A value with a NUL can't stand in an environment: `env`, `docker` and `env-no-quotes` refuse it.
 * @throws ServiceError ValidationException also when two names become one by the transformer; messages hold names only.
 * Source: Doppler API reference, "Download".
 */
export function renderSecrets(secrets: ReadonlyMap<string, string>, { format, transformer }: RenderOptions): Rendered {
  if (format === "dotnet-json" && transformer !== undefined && transformer !== "dotnet")
    throw new ServiceError(
      "ValidationException",
      `Format dotnet-json has names of its own: leave name transformer ${transformer} out.`,
    );
  const names = transformNames(secrets.keys(), format === "dotnet-json" ? "dotnet" : transformer);
  const entries = [...secrets].map(([name, value]): Entry => [names.get(name) ?? name, value]);
  entries.sort(([one], [other]) => (one < other ? -1 : 1));
  if (format === "json" || format === "dotnet-json")
    return { body: `{${entries.map(jsonMember).join(",")}}`, contentType: "application/json; charset=utf-8" };
  return { body: entries.map((entry) => `${lineOf[format](entry)}\n`).join(""), contentType: "text/plain; charset=utf-8" };
}

const jsonMember = ([name, value]: Entry): string => `${JSON.stringify(name)}:${JSON.stringify(value)}`;

const lineOf = {
  env: ([name, value]: Entry) => `${name}="${oneLine(name, value.replace(/[\\"]/g, "\\$&"))}"`,
  "env-no-quotes": ([name, value]: Entry) => `${name}=${oneLine(name, value)}`,
  docker: ([name, value]: Entry) => `${name}=${oneLine(name, value)}`,
  yaml: ([name, value]: Entry) => `${yamlName(name)}: ${yamlText(value)}`,
} as const;

function oneLine(name: string, value: string): string {
  if (value.includes("\0"))
    throw new ServiceError(
      "ValidationException",
      `The value of ${name} holds a NUL, which no environment can: download it as json or yaml.`,
    );
  return value.replaceAll("\n", "\\n").replaceAll("\r", "\\r");
}

/** Names that readers of YAML 1.1 take for booleans or null. */
const yamlWords = /^(?:y|n|yes|no|on|off|true|false|null)$/i;

function yamlName(name: string): string {
  return /^[A-Za-z_][\w-]*$/.test(name) && !yamlWords.test(name) ? name : JSON.stringify(name);
}

/** JSON's text is YAML's double-quoted style, but for the characters that YAML does not let stand. */
function yamlText(value: string): string {
  return JSON.stringify(value).replace(/[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}
