import type { Command } from "commander";
import { callApi, callPages, rowsOf } from "./api-client.ts";
import { CommandError } from "./command-error.ts";
import { addConfigNoun, type ConfigCommand, confirmed, wrappedFields } from "./config-command.ts";
import { type Answer, type Columns, printLine, printTable } from "./output.ts";
import { fileText, numberOf, secretBytes } from "./typed-values.ts";

/** Commands on webhooks. */
export function addWebhookCommands(program: Command): void {
  const switches = [switching("enable", "tell it of changes from now on"), switching("disable", "tell it of no more changes")];
  addConfigNoun(program, "webhook", "Addresses that are told when a project's configs change", [
    create,
    list,
    get,
    update,
    ...switches,
    remove,
    deliveries,
  ]);
}

const configsOf = ({ allConfigs, enabledConfigs }: Answer) => (allConfigs === true ? "all" : enabledConfigs);

const details: Columns = {
  Id: "id",
  Name: "name",
  Url: "url",
  Project: "project",
  "Told of": configsOf,
  Enabled: ({ enabled }) => (enabled === true ? "yes" : "no"),
  Signed: ({ hasSecret }) => (hasSecret === true ? "yes" : "no"),
  Authentication: ({ authentication }) => (authentication as Answer | undefined)?.type,
  Payload: "payload",
};
const showOne = wrappedFields("webhook", details);

const options = {
  "--name <name>": "what people call it",
  "--secret": "sign what is sent; the key is asked for, or comes from standard input",
  "--secret-file <path>": "the key, from a file",
  "--payload-file <path>": "JSON to send in place of the usual body",
};

/** The key of signatures is never an argument: others on this machine could read it. */
async function membersOf(given: Readonly<Record<string, unknown>>): Promise<object> {
  const path = typeof given.secretFile === "string" ? given.secretFile : undefined;
  const wanted = given.secret === true || path !== undefined;
  const secret = wanted ? (await secretBytes({ path, text: true, question: "Key of signatures" })).toString("utf8") : undefined;
  const payload = typeof given.payloadFile === "string" ? await fileText(given.payloadFile) : undefined;
  return { name: given.name, secret, payload };
}

const create: ConfigCommand = {
  usage: "create <url>",
  about: "tell an address of changes in the project's configs: names of secrets, never values",
  needs: "project",
  options: { ...options, "--only <config...>": "of these configs; default of all" },
  notes: "Header X-Doppler-Signature is sha256= and the hexadecimal HMAC-SHA256 of the body under the key.",
  examples: ["rekey webhook create https://ci.example.com/redeploy --project shop --only prd --secret-file key"],
  ask: async ({ args, options: given }, { project, ...connection }) =>
    callApi(connection, "webhooks/create", { project, url: args[0], enableConfigs: given.only, ...(await membersOf(given)) }),
  show: showOne,
};

const list: ConfigCommand = {
  usage: "list",
  about: "list the project's webhooks",
  needs: "project",
  examples: ["rekey webhook list --project shop"],
  ask: (_typed, { project, ...connection }) => callApi(connection, "webhooks/list", { project }),
  show: (answer) =>
    printTable(
      rowsOf(answer, "webhooks"),
      { ID: "id", NAME: "name", URL: "url", CONFIGS: configsOf, ENABLED: ({ enabled }) => (enabled === true ? "yes" : "no") },
      "no webhooks",
    ),
};

const get: ConfigCommand = {
  usage: "get <id>",
  about: "show a webhook",
  needs: "project",
  examples: ["rekey webhook get 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236"],
  ask: ({ args }, { project, ...connection }) => callApi(connection, "webhooks/get", { project, id: args[0] }),
  show: showOne,
};

const update: ConfigCommand = {
  usage: "update <id>",
  about: "change a webhook; what is not named stays",
  needs: "project",
  options: {
    ...options,
    "--url <url>": "another address",
    "--enable <config...>": "tell it of these configs too",
    "--disable <config...>": "tell it of these configs no longer",
    "--all-configs": "tell it of all configs",
  },
  examples: ["rekey webhook update 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236 --enable stg"],
  ask: async ({ args, options: given }, { project, ...connection }) =>
    callApi(connection, "webhooks/update", {
      project,
      id: args[0],
      url: given.url,
      enableConfigs: given.enable,
      disableConfigs: given.disable,
      allConfigs: given.allConfigs,
      ...(await membersOf(given)),
    }),
  show: showOne,
};

const switching = (verb: "enable" | "disable", about: string): ConfigCommand => ({
  usage: `${verb} <id>`,
  about,
  needs: "project",
  examples: [`rekey webhook ${verb} 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236`],
  ask: ({ args }, { project, ...connection }) => callApi(connection, `webhooks/${verb}`, { project, id: args[0] }),
  show: (_answer, { args }) => printLine(`webhook ${args[0]} is ${verb}d`),
});

const remove: ConfigCommand = {
  usage: "delete <id>",
  about: "remove a webhook; what waits is not sent",
  needs: "project",
  options: { "--yes": "without being asked" },
  examples: ["rekey webhook delete 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236 --yes"],
  async ask({ args, options: given }, { project, ...connection }) {
    await confirmed(given, `Delete webhook ${args[0]}?`);
    return callApi(connection, "webhooks/delete", { project, id: args[0] });
  },
  show: (_answer, { args }) => printLine(`webhook ${args[0]} is deleted`),
};

const deliveries: ConfigCommand = {
  usage: "deliveries <id>",
  about: "list what a webhook was told or is to be told, the newest first",
  needs: "project",
  options: { "--max <number>": "at most so many, default 50" },
  examples: ["rekey webhook deliveries 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236"],
  ask: ({ args, options: given }, { project, ...connection }) => {
    const most = numberOf(given.max, "--max") ?? 50;
    if (most === 0) throw new CommandError(2, "--max must be at least 1");
    const input = { project, id: args[0], limit: Math.min(most, 1000) };
    return callPages(connection, "webhooks/list-deliveries", "deliveries", input, most);
  },
  show: (answer) =>
    printTable(
      rowsOf(answer, "deliveries"),
      { WHEN: "createdAt", STATE: "state", TRIES: "attempts", NEXT: "nextTryAt", "WHY NOT": "error", ID: "id" },
      "nothing was told so far",
    ),
};
