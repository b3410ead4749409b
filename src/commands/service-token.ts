import type { Command } from "commander";
import { callApi, rowsOf } from "./api-client.ts";
import { addConfigNoun, type ConfigCommand, confirmed, wrappedFields } from "./config-command.ts";
import { inConfig } from "./dynamic.ts";
import { printLine, printTable } from "./output.ts";
import { chosenOf, momentAfter } from "./typed-values.ts";

/** Commands on tokens of one config. */
export function addServiceTokenCommands(program: Command): void {
  addConfigNoun(program, "service-token", "Tokens for programs that read, or read and write, one config", [create, list, remove]);
}

const create: ConfigCommand = {
  usage: "create <name>",
  about: "make a token of the config; it is shown this once",
  needs: "config",
  options: {
    "--access <access>": "read or read/write, default read",
    "--ttl <duration>": "ends by itself after so long, e.g. 30d",
  },
  examples: [
    "rekey service-token create ci --project shop --config prd",
    "rekey service-token create deploy --access read/write --ttl 30d",
  ],
  ask: ({ args, options }, connection) =>
    callApi(connection, "service-tokens/create", {
      ...inConfig(connection),
      name: args[0],
      access: chosenOf(options.access, ["read", "read/write"], "--access"),
      expiresAt: momentAfter(options.ttl, "--ttl"),
    }),
  show: wrappedFields("token", {
    Id: "id",
    Name: "name",
    Project: "project",
    Config: "config",
    Access: "access",
    Ends: "expiresAt",
    Token: "key",
  }),
};

const list: ConfigCommand = {
  usage: "list",
  about: "list the config's tokens",
  needs: "config",
  examples: ["rekey service-token list --project shop --config prd"],
  ask: (_typed, connection) => callApi(connection, "service-tokens/list", inConfig(connection)),
  show: (answer) =>
    printTable(
      rowsOf(answer, "tokens"),
      { ID: "id", NAME: "name", ACCESS: "access", CREATED: "createdAt", ENDS: "expiresAt", "LAST USED": "lastSeenAt" },
      "no service tokens",
    ),
};

const remove: ConfigCommand = {
  usage: "delete <id>",
  about: "end a token of the config",
  needs: "config",
  options: { "--yes": "without being asked" },
  examples: ["rekey service-token delete 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236 --yes"],
  async ask({ args, options }, connection) {
    await confirmed(options, `End service token ${args[0]}? Whoever uses it is refused from then on.`);
    return callApi(connection, "service-tokens/delete", { ...inConfig(connection), id: args[0] });
  },
  show: (_answer, { args }) => printLine(`service token ${args[0]} is deleted`),
};
