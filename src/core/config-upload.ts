import { configLimits, isManagedName, isSecretName } from "./config-names.ts";
import { readEnv } from "./config-upload-env.ts";
import { readJson } from "./config-upload-json.ts";
import { readYaml } from "./config-upload-yaml.ts";
import { unreadable } from "./config-uploaded.ts";
import { ServiceError } from "./error.ts";

/** Room for comments and escapes beside what a config may hold. */
const maxUploadBytes = 2 * configLimits.configBytes;

const nameRule = "a secret name may only contain uppercase letters, numbers, and underscores, and not start with a number.";

const readerOf = { env: readEnv, json: readJson, yaml: readYaml } as const;

export type UploadFormat = keyof typeof readerOf;

/**
 * Reads a file of secrets. Without `format` its first line tells: `{` is JSON, `NAME=` env, anything else YAML. Managed names
 * are left out, as every download holds them. Whether the values fit a config is for the config to say.
 * @throws ServiceError ValidationException naming the line, never the value; also for a name that stands there twice.
 * RequestEntityTooLarge above 1,000 KiB.
 */
export function parseUpload(text: string, format?: UploadFormat): Map<string, string> {
  if (Buffer.byteLength(text) > maxUploadBytes)
    throw new ServiceError("RequestEntityTooLarge", `A file of secrets can't be longer than ${maxUploadBytes / 1024} KiB.`);
  const plain = text.replace(/^\ufeff/, "");
  const lineOf = new Map<string, number>();
  const secrets = new Map<string, string>();
  for (const { name, value, line } of readerOf[format ?? formatOf(plain)](plain)) {
    const before = lineOf.get(name);
    if (before !== undefined) throw unreadable(line, `line ${before} has that name already.`);
    lineOf.set(name, line);
    if (isManagedName(name)) continue;
    // Named by its line alone: what stands there may be the rest of a value that was not quoted.
    if (!isSecretName(name)) throw unreadable(line, nameRule);
    secrets.set(name, value);
  }
  return secrets;
}

function formatOf(text: string): UploadFormat {
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim());
  const first = lines.find((line) => line !== "" && !line.startsWith("#"));
  if (first === undefined || isAssignment(first)) return "env";
  return first.startsWith("{") ? "json" : "yaml";
}

/** By hand: a pattern for this would look at a line of blanks as often as it is long. */
function isAssignment(line: string): boolean {
  const at = line.search(/[:="']/);
  if (at < 0 || line[at] !== "=") return false;
  const words = line.slice(0, at).trim().split(/\s+/);
  return words.length === 1 || (words.length === 2 && words[0] === "export");
}
