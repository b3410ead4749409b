import type { Flags } from "../../config.ts";
import { rowsOf } from "../api-client.ts";
import { CommandError } from "../command-error.ts";
import { withProgress } from "../progress.ts";
import { type AwsSecrets, openAws } from "./aws-client.ts";
import { joinValues, valuesOf } from "./aws-values.ts";

/** What an import found, and what it had to leave. */
export interface Found {
  readonly values: ReadonlyMap<string, string>;
  /** Words on each thing that was left out. */
  readonly left: readonly string[];
}

/** At once; AWS allows far more. */
const together = 4;

/** Values of AWS Secrets Manager: of the secrets that are named, or of all whose names begin so. @throws CommandError */
export async function fromAws(options: Flags): Promise<Found> {
  const text = (name: string) => (options[name] === undefined ? undefined : String(options[name]));
  const aws = await openAws({ region: text("fromRegion"), endpoint: text("fromEndpoint") });
  const named = Array.isArray(options.secret) ? options.secret.map(String) : undefined;
  if (named && options.prefix !== undefined) throw new CommandError(2, "give --secret or --prefix");
  const names = named ?? (await withProgress("listing secrets of AWS", () => namesWith(aws, text("prefix") ?? "")));
  const rules = { stripPrefix: text("stripPrefix"), whole: options.whole === true };
  const read = await withProgress(`reading ${names.length} secrets of AWS`, () => readAll(aws, names));
  return {
    values: joinValues(
      read.flatMap(({ name, value }) => (value === undefined ? [] : [{ from: name, values: valuesOf(name, value, rules) }])),
    ),
    left: read.flatMap(({ name, value }) => (value === undefined ? [`${name} holds bytes or nothing, and was left out`] : [])),
  };
}

async function namesWith(aws: AwsSecrets, prefix: string): Promise<string[]> {
  const names: string[] = [];
  let token: unknown;
  do {
    const filters = prefix === "" ? {} : { Filters: [{ Key: "name", Values: [prefix] }] };
    const page = await aws("ListSecrets", { MaxResults: 100, ...filters, ...(token !== undefined && { NextToken: token }) });
    names.push(...rowsOf(page, "SecretList").map(({ Name }) => String(Name)));
    token = page.NextToken;
  } while (token !== undefined && token !== null);
  return names.filter((name) => name.startsWith(prefix)).sort(); // AWS's own filter also finds words inside
}

async function readAll(aws: AwsSecrets, names: readonly string[]): Promise<{ name: string; value: string | undefined }[]> {
  const read = new Map<string, string | undefined>();
  const waiting = [...names];
  const work = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) read.set(name, await readOne(aws, name));
  };
  await Promise.all(Array.from({ length: together }, work));
  return names.map((name) => ({ name, value: read.get(name) }));
}

/** `undefined` for bytes, and for a secret without a value. */
async function readOne(aws: AwsSecrets, name: string): Promise<string | undefined> {
  try {
    const { SecretString } = await aws("GetSecretValue", { SecretId: name });
    return typeof SecretString === "string" ? SecretString : undefined;
  } catch (error) {
    if (!(error instanceof CommandError) || error.exitCode !== 1) throw error;
    if (/ResourceNotFound.*staging label/s.test(error.message)) return undefined;
    throw new CommandError(1, `secret ${name}: ${error.message}`, { cause: error });
  }
}
