import type { Command } from "commander";
import { addNoun, fields, sentence, table } from "./api-command.ts";
import { numberOf } from "./typed-values.ts";

const ofUser = { "--user <name>": "of this user; default: your own" };

/** Commands on bearer tokens. */
export function addTokenCommands(program: Command): void {
  addNoun(program, "token", "Bearer tokens for this command line and the native API", [
    {
      usage: "create <name>",
      about: "make a token; it is shown this once",
      examples: ["rekey token create laptop --user alice --ttl-seconds 86400"],
      operation: "tokens/create",
      options: { ...ofUser, "--ttl-seconds <number>": "ends by itself after so long" },
      input: ({ args, options }) => ({
        name: args[0],
        userName: options.user,
        ttlSeconds: numberOf(options.ttlSeconds, "--ttl-seconds"),
      }),
      show: fields({ Id: "tokenId", Name: "name", Ends: "expirationDate", Token: "token" }),
    },
    {
      usage: "list",
      about: "list tokens",
      examples: ["rekey token list --user alice"],
      operation: "tokens/list",
      options: ofUser,
      input: ({ options }) => ({ userName: options.user }),
      show: table(
        "tokens",
        { ID: "tokenId", NAME: "name", CREATED: "createDate", ENDS: "expirationDate", "LAST USED": "lastUsedDate" },
        "no tokens",
      ),
    },
    {
      usage: "delete <id>",
      about: "end a token",
      examples: ["rekey token delete 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236 --user alice"],
      operation: "tokens/delete",
      options: ofUser,
      input: ({ args, options }) => ({ tokenId: args[0], userName: options.user }),
      show: sentence((_answer, { args }) => `token ${args[0]} is deleted`),
    },
  ]);
}
