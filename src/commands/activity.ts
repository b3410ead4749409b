import type { Command } from "commander";
import { askConfigApi } from "./config-api.ts";
import { addConfigNoun, askPages, wrapped } from "./config-command.ts";
import { logColumns, whoOf } from "./configs-logs.ts";
import { printFields, printTable, rows } from "./output.ts";
import { numberOf } from "./typed-values.ts";

const most = 20;

/** Commands on the activity log. */
export function addActivityCommands(program: Command): void {
  addConfigNoun(program, "activity", "What people did with projects, configs and secrets", [
    {
      usage: "list",
      about: "list what was done, the newest first",
      isDefault: true,
      needs: "server",
      options: { "--max <number>": `how many, default ${most}` },
      examples: ["rekey activity --max 50"],
      ask: ({ options }, connection) => askPages(connection, "logs", "logs", {}, numberOf(options.max, "--max") ?? most),
      show: (answer) => printTable(rows(answer.logs), logColumns, "nothing was done yet"),
    },
    {
      usage: "get <log>",
      about: "show one entry",
      needs: "server",
      examples: ["rekey activity get 3f0b"],
      ask: ({ args }, connection) => askConfigApi(connection, "logs/log", { query: { log: args[0] } }),
      show: (answer) =>
        printFields(wrapped(answer, "log"), {
          Id: "id",
          Time: "created_at",
          Who: whoOf,
          What: "text",
          Project: "project",
          Environment: "environment",
          Config: "config",
        }),
    },
  ]);
}
