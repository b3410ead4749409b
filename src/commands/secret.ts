import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { type Connection, callApi } from "./api-client.ts";
import { type ApiCommand, addNoun, fields, pickOptions, sentence, type Typed, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { type Answer, cell } from "./output.ts";
import { candidates, rollback } from "./secret-rollback.ts";
import { numberOf, secretBytes, tagsOf } from "./typed-values.ts";

const valueOptions = {
  "--value-file <file>": "the value is what this file holds, byte for byte; - for standard input",
  "--binary": "keep it as bytes instead of text",
};
const valueNotes = `The value is never an argument, since other users of the machine can read those. Without --value-file it is asked for
on a terminal, or read from standard input: as text without its last line end, with --binary as it is.`;

/** Commands on secrets. */
export function addSecretCommands(program: Command): void {
  addNoun(program, "secret", "Keep, read and rotate secrets", [
    create,
    get,
    put,
    list,
    describe,
    versions,
    remove,
    restore,
    rotate,
    rollback,
    candidates,
    tag,
    untag,
  ]);
}

const create: ApiCommand = {
  usage: "create <name>",
  about: "make a secret with a first value",
  examples: [
    'printf %s "$PASSWORD" | rekey secret create app/db --tag Team=Data',
    "rekey secret create app/tls-key --binary --value-file key.pem",
    "rekey secret create app/api-key    # asks for the value",
  ],
  operation: "secrets/create",
  options: {
    ...valueOptions,
    "--no-value": "make it without a value",
    "--description <text>": "what it is for",
    "--key <key>": "encrypt under this key: id, ARN or alias/NAME",
    "--tag <key=value...>": "tags",
  },
  notes: valueNotes,
  input: async ({ args, options }) => ({
    name: args[0],
    ...pickOptions(options, { description: "description", kmsKeyId: "key" }),
    tags: tagsOf(options.tag),
    ...(options.value === false ? {} : await valueMembers(options)),
  }),
  show: fields({ Name: "name", ARN: "arn", Version: "versionId" }),
};

const get: ApiCommand = {
  usage: "get <name>",
  about: "print a secret's value, and nothing else",
  examples: [
    "rekey secret get app/db --field password",
    "rekey secret get app/tls-key > key.pem",
    "rekey secret get app/db --stage AWSPREVIOUS",
  ],
  operation: "secrets/get-value",
  options: {
    "--version <id>": "this version",
    "--stage <label>": "the version with this staging label, default AWSCURRENT",
    "--field <name>": "only this member of a value that is a JSON object",
  },
  input: ({ args, options }) => ({ secretId: args[0], ...pickOptions(options, { versionId: "version", versionStage: "stage" }) }),
  notes: "Into a pipe or a file goes the value alone, byte for byte; on a terminal a line end follows it.",
  show: (answer, { options }) => {
    if (typeof answer.secretBinary === "string") process.stdout.write(bytesOf(answer.secretBinary, options.field));
    else process.stdout.write(`${valueText(answer, options.field)}${process.stdout.isTTY ? "\n" : ""}`);
  },
};

const noField = () => new CommandError(1, "the value is not a JSON object with that field; leave --field out to see all of it");

function bytesOf(base64: string, field: unknown): Buffer {
  if (field !== undefined) throw noField();
  return Buffer.from(base64, "base64");
}

function valueText({ secretString }: Answer, field: unknown): string {
  const text = String(secretString);
  if (field === undefined) return text;
  try {
    const value: unknown = JSON.parse(text);
    const found =
      typeof value === "object" && value !== null ? Object.entries(value).find(([name]) => name === field) : undefined;
    if (found) return typeof found[1] === "string" ? found[1] : JSON.stringify(found[1]);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw noField();
}

const put: ApiCommand = {
  usage: "put <name>",
  about: "give a secret a new value",
  examples: ["rekey secret put app/db --value-file value.json", "rekey secret put app/db --stage AWSPENDING < value.json"],
  operation: "secrets/put-value",
  options: { ...valueOptions, "--stage <label...>": "staging labels of the new version, default AWSCURRENT" },
  notes: valueNotes,
  input: async ({ args, options }) => ({
    secretId: args[0],
    ...pickOptions(options, { versionStages: "stage" }),
    ...(await valueMembers(options)),
  }),
  show: fields({ Name: "name", Version: "versionId", Stages: "versionStages" }),
};

const list: ApiCommand = {
  usage: "list",
  about: "list secrets",
  examples: ["rekey secret list --filter tag-key=Team --max 20", "rekey secret list --deleted --json"],
  operation: "secrets/list",
  pages: "secretList",
  maxPageRows: 100,
  options: {
    "--filter <key=value...>": "only those that match: name, description, tag-key, tag-value, all …",
    "--deleted": "also those scheduled for deletion",
    "--max <number>": "stop after so many",
  },
  input: ({ options }) => ({
    filters: tagsOf(options.filter)?.map(({ key, value }) => ({ key, values: [value] })),
    ...(options.deleted ? { includePlannedDeletion: true } : {}),
  }),
  show: table(
    "secretList",
    {
      NAME: "name",
      ROTATION: (row) => (row.rotationEnabled ? "on" : "off"),
      CHANGED: "lastChangedDate",
      "LAST READ": "lastAccessedDate",
      DESCRIPTION: "description",
    },
    "no secrets",
  ),
};

const describe: ApiCommand = {
  usage: "describe <name>",
  about: "show everything about a secret but its value",
  examples: ["rekey secret describe app/db"],
  operation: "secrets/describe",
  input: ({ args }) => ({ secretId: args[0] }),
  show: fields({
    Name: "name",
    ARN: "arn",
    Description: "description",
    Key: "kmsKeyId",
    Rotation: (row) => (row.rotationEnabled ? "on" : "off"),
    Function: "rotationLambdaArn",
    Schedule: (row) => scheduleText(row.rotationRules as Answer | undefined),
    "Last rotated": "lastRotatedDate",
    "Next rotation": "nextRotationDate",
    Created: "createdDate",
    Changed: "lastChangedDate",
    "Last read": "lastAccessedDate",
    "Deletion asked": "deletedDate",
    Tags: (row) => (row.tags as Answer[] | undefined)?.map(({ key, value }) => `${key}=${value}`),
    Versions: (row) => Object.entries(row.versionIdsToStages ?? {}).map(([id, stages]) => `${id} (${stages.join(", ")})`),
  }),
};

function scheduleText(rules: Answer | undefined): string | undefined {
  if (!rules) return undefined;
  const rule =
    rules.scheduleExpression ?? (rules.automaticallyAfterDays ? `every ${rules.automaticallyAfterDays} days` : undefined);
  return rule === undefined ? undefined : `${rule}${rules.duration ? ` within ${rules.duration}` : ""}`;
}

const versions: ApiCommand = {
  usage: "versions <name>",
  about: "list a secret's versions",
  examples: ["rekey secret versions app/db --all"],
  operation: "secrets/list-versions",
  pages: "versions",
  maxPageRows: 100,
  options: { "--all": "also versions without staging labels" },
  input: ({ args, options }) => ({ secretId: args[0], ...(options.all ? { includeDeprecated: true } : {}) }),
  show: table(
    "versions",
    { VERSION: "versionId", STAGES: "versionStages", CREATED: "createdDate", "LAST READ": "lastAccessedDate" },
    "no versions",
  ),
};

const remove: ApiCommand = {
  usage: "delete <name>",
  about: "schedule a secret for deletion",
  examples: ["rekey secret delete app/db --days 7"],
  operation: "secrets/delete",
  options: {
    "--days <number>": "recovery window, 7 to 30 days, default 30",
    "--now": "delete at once, with no way back",
  },
  input: ({ args, options }) => ({
    secretId: args[0],
    recoveryWindowInDays: numberOf(options.days, "--days"),
    ...(options.now ? { forceDeleteWithoutRecovery: true } : {}),
  }),
  show: sentence((answer, { options }) =>
    options.now
      ? `${answer.name} is deleted`
      : `${answer.name} will be deleted on ${cell(answer.deletionDate)}; rekey secret restore takes it back`,
  ),
};

const restore: ApiCommand = {
  usage: "restore <name>",
  about: "take back a scheduled deletion",
  examples: ["rekey secret restore app/db"],
  operation: "secrets/restore",
  input: ({ args }) => ({ secretId: args[0] }),
  show: sentence((answer) => `${answer.name} is restored`),
};

/** Of commands that set when to rotate. */
export const ruleOptions = {
  "--schedule <expression>": "when to rotate: rate(10 days) or cron(0 4 ? * SUN *)",
  "--after-days <number>": "rotate every so many days",
  "--window <hours>": "how long a scheduled rotation may take, such as 3h",
};

const rotate: ApiCommand = {
  usage: "rotate <name>",
  about: "change a secret's credential now, or set when that happens",
  examples: [
    "rekey secret rotate app/db",
    'rekey secret rotate app/db --function SecretsManagerRDSPostgreSQLRotationSingleUser --schedule "rate(10 days)" --window 3h',
  ],
  operation: "secrets/rotate",
  notes: "The first time, rekey rotation setup chooses the function, and looks whether it will work.",
  options: {
    "--function <name>": "rotation function: its ARN, or the name of a built-in one",
    ...ruleOptions,
    "--no-immediately": "only test now; wait for the schedule",
  },
  input: async ({ args, options }, connection) => ({
    secretId: args[0],
    rotationLambdaArn: await functionArn(args[0], options, connection),
    rotationRules: rulesOf(options),
    ...(options.immediately === false ? { rotateImmediately: false } : {}),
  }),
  show: sentence(({ name, versionId }, { options }) =>
    options.immediately === false
      ? `${name} is set; rekey rotation status ${name} shows whether its present value works`
      : `rotation of ${name} to version ${versionId} has begun; rekey rotation status ${name} shows it`,
  ),
};

/** Built-in functions are named as if they lived beside the secret. */
export async function functionArn(
  secretId: string | undefined,
  options: Flags,
  connection: Connection,
): Promise<string | undefined> {
  const name = options.function;
  if (typeof name !== "string" || name.startsWith("arn:")) return name as string | undefined;
  const { arn } = await callApi(connection, "secrets/describe", { secretId });
  const [, partition, , region, account] = String(arn).split(":");
  return `arn:${partition}:lambda:${region}:${account}:function:${name}`;
}

export function rulesOf(options: Flags): object | undefined {
  const rules = {
    ...pickOptions(options, { scheduleExpression: "schedule", duration: "window" }),
    ...(options.afterDays === undefined ? {} : { automaticallyAfterDays: numberOf(options.afterDays, "--after-days") }),
  };
  return Object.keys(rules).length > 0 ? rules : undefined;
}

const tag: ApiCommand = {
  usage: "tag <name> <key=value...>",
  about: "add tags to a secret, or change them",
  examples: ["rekey secret tag app/db Team=Data Stage=prod"],
  operation: "secrets/tag",
  input: ({ args }) => ({ secretId: args[0], tags: tagsOf(args.slice(1)) }),
  show: tagged,
};

const untag: ApiCommand = {
  usage: "untag <name> <key...>",
  about: "remove tags from a secret",
  examples: ["rekey secret untag app/db Stage"],
  operation: "secrets/untag",
  input: ({ args }) => ({ secretId: args[0], tagKeys: args.slice(1) }),
  show: tagged,
};

function tagged(_answer: Answer, { args }: Typed): void {
  process.stdout.write(`the tags of ${args[0]} are changed\n`);
}

/** The value as text or bytes. @throws CommandError for usage when bytes are not text and --binary is missing. */
async function valueMembers(options: Flags): Promise<object> {
  const path = typeof options.valueFile === "string" ? options.valueFile : undefined;
  const bytes = await secretBytes({ path, text: options.binary !== true, question: "Value of the secret" });
  if (path === undefined && bytes.length === 0)
    throw new CommandError(2, "the value is empty; give one, or make the secret with --no-value");
  if (options.binary) return { secretBinary: bytes.toString("base64") };
  try {
    return { secretString: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch (error) {
    throw new CommandError(2, "the value is not UTF-8 text; add --binary to keep it as bytes", { cause: error });
  }
}
