import type { Command } from "commander";
import { type Connection, callApi } from "./api-client.ts";
import { type ApiCommand, addNoun, fields, pickOptions, sentence, type Typed, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import type { Answer } from "./output.ts";
import { fileText, tagsOf } from "./typed-values.ts";

const policyFields = {
  Name: "policyName",
  ARN: "arn",
  Description: "description",
  Version: "defaultVersionId",
  Created: "createDate",
};

/** Commands on policies. */
export function addPolicyCommands(program: Command): void {
  addNoun(program, "policy", "What users and roles may do, in the language of IAM", [
    create,
    version,
    setDefault,
    list,
    show,
    attachment("attach", "give a user, a role or a group the rights of a policy", "attached to"),
    attachment("detach", "take a policy from a user, a role or a group", "detached from"),
    remove,
    simulate,
  ]);
}

const create: ApiCommand = {
  usage: "create <name> <file>",
  about: "make a policy from a JSON file, - for standard input",
  examples: ["rekey policy create reader reader.json"],
  operation: "policies/create",
  options: { "--description <text>": "what it is for" },
  input: async ({ args, options }) => ({
    policyName: args[0],
    policyDocument: await fileText(String(args[1])),
    ...pickOptions(options, { description: "description" }),
  }),
  show: fields(policyFields),
};

const version: ApiCommand = {
  usage: "version <name> <file>",
  about: "give a policy a new document, in force at once",
  examples: ["rekey policy version reader reader.json", "rekey policy version reader reader.json --draft"],
  operation: "policies/create-version",
  options: { "--draft": "keep it without putting it in force" },
  input: async ({ args, options }, connection) => ({
    policyArn: await policyArn(args[0], connection),
    policyDocument: await fileText(String(args[1])),
    setAsDefault: options.draft !== true,
  }),
  show: fields({ Version: "versionId", "In force": "isDefaultVersion", Created: "createDate" }),
};

const setDefault: ApiCommand = {
  usage: "use <name> <version>",
  about: "put another version of a policy in force, such as v2",
  examples: ["rekey policy use reader v1"],
  operation: "policies/set-default",
  input: async ({ args }, connection) => ({ policyArn: await policyArn(args[0], connection), versionId: args[1] }),
  show: sentence((_answer, { args }) => `version ${args[1]} of policy ${args[0]} is in force`),
};

const list: ApiCommand = {
  usage: "list",
  about: "list policies",
  examples: ["rekey policy list"],
  operation: "policies/list",
  pages: "policies",
  show: table(
    "policies",
    { NAME: "policyName", VERSION: "defaultVersionId", CREATED: "createDate", DESCRIPTION: "description" },
    "no policies",
  ),
};

const show: ApiCommand = {
  usage: "show <name>",
  about: "show a policy, its document in force and whose it is",
  examples: ["rekey policy show reader --json"],
  operation: "policies/get",
  input: async ({ args }, connection) => ({ policyArn: await policyArn(args[0], connection) }),
  show: fields({
    ...policyFields,
    "Attached to": "attachedTo",
    Versions: ({ versions }) => (versions as Answer[]).map(({ versionId }) => versionId),
    Document: ({ versions }) => (versions as Answer[]).find(({ isDefaultVersion }) => isDefaultVersion)?.document,
  }),
};

function attachment(verb: "attach" | "detach", about: string, done: string): ApiCommand {
  return {
    usage: `${verb} <name>`,
    about,
    examples: [`rekey policy ${verb} reader --user alice`, `rekey policy ${verb} reader --role deployer`],
    operation: `policies/${verb}`,
    options: { "--user <name>": "this user", "--role <name>": "this role", "--group <name>": "this group" },
    input: async ({ args, options }, connection) => ({
      policyArn: await policyArn(args[0], connection),
      ...pickOptions(options, { userName: "user", roleName: "role", groupName: "group" }),
    }),
    show: sentence(
      (_answer, { args, options }) => `policy ${args[0]} is ${done} ${options.user ?? options.role ?? options.group}`,
    ),
  };
}

const remove: ApiCommand = {
  usage: "delete <name>",
  about: "delete a policy that nobody has",
  examples: ["rekey policy delete reader"],
  operation: "policies/delete",
  input: async ({ args }, connection) => ({ policyArn: await policyArn(args[0], connection) }),
  show: sentence((_answer, { args }) => `policy ${args[0]} is deleted`),
};

const simulate: ApiCommand = {
  usage: "simulate <action> [resource]",
  about: "tell whether somebody may do something, and which statement decides",
  examples: [
    "rekey policy simulate secretsmanager:GetSecretValue arn:aws:secretsmanager:… --user alice",
    "rekey policy simulate secretsmanager:DeleteSecret --role deployer --context aws:SourceIp=192.0.2.1",
  ],
  operation: "policies/simulate",
  options: {
    "--user <name>": "whether this user may",
    "--role <name>": "whether this role may",
    "--policy-file <file...>": "suppose these identity policies, too",
    "--resource-policy-file <file>": "suppose this policy on the resource instead of its own",
    "--context <key=value...>": "suppose these condition keys, such as aws:SourceIp=192.0.2.1",
  },
  input: simulation,
  show: ({ allowed, decision, message, matchedStatement }) => {
    const by = matchedStatement as Answer | undefined;
    const where = by
      ? ` by statement ${by.sid ?? Number(by.statementIndex) + 1} of ${by.policyType} policy ${by.policyName}`
      : "";
    process.stdout.write(`${allowed ? "allowed" : `denied (${decision})`}${where}\n${message ? `${message}\n` : ""}`);
  },
};

async function simulation({ args, options }: Typed, connection: Connection): Promise<object> {
  const files = Array.isArray(options.policyFile) ? options.policyFile : [];
  const context = tagsOf(options.context)?.map(({ key, value }) => ({ key, values: [value] }));
  const resourceFile = options.resourcePolicyFile;
  return {
    action: args[0],
    ...(args[1] === undefined ? {} : { resourceArn: args[1] }),
    ...(await simulatedPrincipal(options.user, options.role, connection)),
    ...(files.length > 0 ? { policyDocuments: await Promise.all(files.map((file) => fileText(String(file)))) } : {}),
    ...(resourceFile === undefined ? {} : { resourcePolicy: await fileText(String(resourceFile)) }),
    ...(context ? { contextEntries: context } : {}),
  };
}

async function simulatedPrincipal(user: unknown, role: unknown, connection: Connection): Promise<{ principalArn?: string }> {
  if (user !== undefined && role !== undefined) throw new CommandError(2, "give --user or --role, not both");
  if (user !== undefined) return { principalArn: `arn:aws:iam::${await accountOf(connection)}:user/${user}` };
  return role === undefined ? {} : { principalArn: `arn:aws:iam::${await accountOf(connection)}:role/${role}` };
}

/** Policies are named by their ARN or, shorter, by their name in this account. */
async function policyArn(name: string | undefined, connection: Connection): Promise<string> {
  if (name?.startsWith("arn:")) return name;
  return `arn:aws:iam::${await accountOf(connection)}:policy/${name}`;
}

async function accountOf(connection: Connection): Promise<string> {
  const { account } = await callApi(connection, "sts/get-caller-identity");
  return String(account);
}
