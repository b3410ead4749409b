import type { Command } from "commander";
import { type ApiCommand, addNoun, fields, pickOptions, sentence, table } from "./api-command.ts";
import { fileText } from "./typed-values.ts";

const byId = ({ args }: { args: readonly string[] }) => ({ keyId: args[0] });
const keyFields = {
  Id: "keyId",
  ARN: "arn",
  Aliases: "aliases",
  State: "state",
  Version: "currentVersion",
  Description: "description",
  Policy: "policy",
  Created: "creationDate",
};

/** Commands on the keys that secrets are encrypted under. */
export function addKeyCommands(program: Command): void {
  addNoun(program, "key", "Keys that secrets are encrypted under: what KmsKeyId names", [
    create,
    list,
    {
      usage: "show <key>",
      about: "show a key, by id, ARN or alias/NAME",
      examples: ["rekey key show alias/payments"],
      operation: "keys/describe",
      input: byId,
      show: fields(keyFields),
    },
    {
      usage: "rotate <key>",
      about: "give a key a new version; older values stay readable",
      examples: ["rekey key rotate alias/payments"],
      operation: "keys/rotate",
      input: byId,
      show: sentence(({ currentVersion }, { args }) => `key ${args[0]} has version ${currentVersion} now`),
    },
    {
      usage: "disable <key>",
      about: "stop all use of a key until it is enabled again",
      examples: ["rekey key disable alias/payments"],
      operation: "keys/disable",
      input: byId,
      show: sentence((_answer, { args }) => `key ${args[0]} is disabled; its secrets cannot be read`),
    },
    {
      usage: "enable <key>",
      about: "allow use of a disabled key again",
      examples: ["rekey key enable alias/payments"],
      operation: "keys/enable",
      input: byId,
      show: sentence((_answer, { args }) => `key ${args[0]} is enabled`),
    },
    {
      usage: "alias <key> <alias>",
      about: "give a key a further name, such as alias/payments",
      examples: ["rekey key alias alias/payments alias/cards"],
      operation: "keys/create-alias",
      input: ({ args }) => ({ keyId: args[0], aliasName: args[1] }),
      show: sentence((_answer, { args }) => `${args[1]} names key ${args[0]}`),
    },
    {
      usage: "policy <key> <file>",
      about: "set who may use a key, from a JSON file; an empty one removes the policy",
      examples: ["rekey key policy alias/payments key-policy.json"],
      operation: "keys/put-policy",
      input: async ({ args }) => ({ keyId: args[0], policy: (await fileText(String(args[1]))).trim() }),
      show: sentence((_answer, { args }) => `the policy of key ${args[0]} is set`),
    },
  ]);
}

const create: ApiCommand = {
  usage: "create",
  about: "make a key",
  examples: ['rekey key create --alias alias/payments --description "card data"'],
  operation: "keys/create",
  options: {
    "--alias <alias>": "its name, such as alias/payments",
    "--description <text>": "what it is for",
    "--policy-file <file>": "who may use it, as JSON",
  },
  input: async ({ options }) => ({
    ...pickOptions(options, { alias: "alias", description: "description" }),
    ...(options.policyFile === undefined ? {} : { policy: await fileText(String(options.policyFile)) }),
  }),
  show: fields(keyFields),
};

const list: ApiCommand = {
  usage: "list",
  about: "list keys",
  examples: ["rekey key list"],
  operation: "keys/list",
  show: table(
    "keys",
    { ID: "keyId", ALIASES: "aliases", STATE: "state", VERSION: "currentVersion", CREATED: "creationDate" },
    "no keys",
  ),
};
