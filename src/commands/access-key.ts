import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { ServiceError } from "../core/error.ts";
import { callApi, connectionFrom } from "./api-client.ts";
import { type ApiCommand, addClientOptions, addNoun, exampleText, sentence, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { printCredentials } from "./init.ts";
import { recordLocally } from "./local-audit.ts";
import { withKeys } from "./local-store.ts";
import { printFields, printJson } from "./output.ts";
import { addSettings, readSettings } from "./settings-options.ts";

const ofUser = { "--user <name>": "of this user; default: your own" };
const keyOf = ({ args, options }: { args: readonly string[]; options: Flags }) => ({
  accessKeyId: args[0],
  userName: options.user,
});

const list: ApiCommand = {
  usage: "list",
  about: "list access keys, without their secrets",
  examples: ["rekey access-key list --user alice"],
  operation: "access-keys/list",
  options: ofUser,
  input: ({ options }) => ({ userName: options.user }),
  show: table(
    "accessKeys",
    { ID: "accessKeyId", STATUS: "status", CREATED: "createDate", "LAST USED": "lastUsedDate" },
    "no access keys",
  ),
};

const enable: ApiCommand = {
  usage: "enable <id>",
  about: "let a disabled access key in again",
  examples: ["rekey access-key enable AKIAIOSFODNN7EXAMPLE --user alice"],
  operation: "access-keys/enable",
  options: ofUser,
  input: keyOf,
  show: sentence((_answer, { args }) => `access key ${args[0]} is enabled`),
};

const disable: ApiCommand = {
  usage: "disable <id>",
  about: "refuse an access key from now on",
  examples: ["rekey access-key disable AKIAIOSFODNN7EXAMPLE --user alice"],
  operation: "access-keys/disable",
  options: ofUser,
  input: keyOf,
  show: sentence((_answer, { args }) => `access key ${args[0]} is disabled`),
};

const remove: ApiCommand = {
  usage: "delete <id>",
  about: "delete an access key",
  examples: ["rekey access-key delete AKIAIOSFODNN7EXAMPLE --user alice"],
  operation: "access-keys/delete",
  options: ofUser,
  input: keyOf,
  show: sentence((_answer, { args }) => `access key ${args[0]} is deleted`),
};

/** Commands on access keys. */
export function addAccessKeyCommands(program: Command): void {
  const noun = addNoun(program, "access-key", "Access keys for AWS SDKs and the AWS CLI", [list, enable, disable, remove]);
  const command = noun.command("create").description("Make an access key; its secret is shown this once");
  command.option("--user <name>", ofUser["--user <name>"]);
  command.option(
    "--root",
    "of the root user, on the store itself and with the server stopped: for when its credentials are lost",
  );
  command.option("--replace", "with --root: end all other access keys and tokens of root");
  addClientOptions(command);
  for (const option of addSettings(noun.createCommand("store"), "store").options)
    if (!command.options.some(({ long }) => long === option.long)) command.addOption(option.helpGroup("With --root:"));
  command.addHelpText(
    "after",
    exampleText(["rekey access-key create --user alice", "rekey access-key create --root --replace --data /var/lib/rekey"]),
  );
  command.action((options: Flags) => (options.root === true ? createForRoot(options) : create(options)));
}

async function create(options: Flags): Promise<void> {
  const { root: _root, replace, ...rest } = options;
  if (replace) throw new CommandError(2, "--replace goes with --root only");
  const made = await callApi(connectionFrom(rest), "access-keys/create", { userName: options.user });
  if (options.json) printJson(made);
  else printFields(made, { "Access key": "accessKeyId", "Secret access key": "secretAccessKey" });
}

/** Whoever may read the root key and write the store is the owner of both. */
async function createForRoot({
  root: _root,
  replace,
  json,
  user,
  endpoint: _endpoint,
  token: _token,
  ...flags
}: Flags): Promise<void> {
  if (user !== undefined) throw new CommandError(2, "give --root or --user, not both");
  const config = readSettings("store", flags);
  const { addRootCredentials } = await import("../initialise.ts");
  const { account, region } = config;
  const made = await withKeys(config, "write", async (store) => {
    await recordLocally(config, store, "rekey:CreateRootCredentials", { Replace: replace === true });
    return addRootCredentials({ ...store, account, region, endpoint: "", now: Date.now }, replace === true).catch(adviseReplace);
  });
  const { endpoint: _none, ...credentials } = made;
  if (json) printJson(credentials);
  else printCredentials(credentials);
}

function adviseReplace(error: unknown): never {
  if (!(error instanceof ServiceError) || error.code !== "LimitExceededException") throw error;
  throw new CommandError(1, "root has as many access keys or tokens as it may; add --replace to end them", { cause: error });
}
