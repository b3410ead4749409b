import type { Command } from "commander";
import { pickOptions } from "./api-command.ts";
import { askConfigApi } from "./config-api.ts";
import { addConfigNoun, askPages, confirmed, wrapped, wrappedFields } from "./config-command.ts";
import { printLine, printTable, rows } from "./output.ts";

const columns = { Slug: "id", Name: "name", Project: "project", Created: "created_at", "First fetch": "initial_fetch_at" };

/** Commands on environments. */
export function addEnvironmentsCommands(program: Command): void {
  addConfigNoun(program, "environments", "Environments of a project, each with a root config", [
    {
      usage: "list",
      about: "list a project's environments",
      isDefault: true,
      needs: "project",
      examples: ["rekey environments --project shop"],
      ask: (_typed, connection) => askPages(connection, "environments", "environments"),
      show: (answer) =>
        printTable(
          rows(answer.environments),
          { SLUG: "id", NAME: "name", CREATED: "created_at", "FIRST FETCH": "initial_fetch_at" },
          "no environments; rekey environments create NAME SLUG makes one",
        ),
    },
    {
      usage: "get <slug>",
      about: "show an environment",
      needs: "project",
      examples: ["rekey environments get stg"],
      ask: ({ args }, connection) => askConfigApi(connection, "environments/environment", { query: { environment: args[0] } }),
      show: wrappedFields("environment", columns),
    },
    {
      usage: "create <name> <slug>",
      about: "make an environment with its root config",
      needs: "project",
      examples: ["rekey environments create Testing tst"],
      ask: ({ args }, connection) =>
        askConfigApi(connection, "environments", { method: "POST", body: { name: args[0], slug: args[1] } }),
      show: (answer) => {
        const { id } = wrapped(answer, "environment");
        printLine(`environment ${id} is made, with root config ${id}`);
      },
    },
    {
      usage: "rename <slug>",
      about: "give an environment another name, or another slug, which renames its configs",
      needs: "project",
      options: { "--name <text>": "another name", "--slug <slug>": "another slug" },
      examples: ["rekey environments rename tst --slug qa"],
      ask: ({ args, options }, connection) =>
        askConfigApi(connection, "environments/environment", {
          method: "PUT",
          query: { environment: args[0] },
          body: pickOptions(options, { name: "name", slug: "slug" }),
        }),
      show: wrappedFields("environment", columns),
    },
    {
      usage: "delete <slug>",
      about: "delete an environment with its configs and their secrets",
      needs: "project",
      options: { "--yes": "without asking" },
      examples: ["rekey environments delete tst --yes"],
      ask: async ({ args, options }, connection) => {
        await confirmed(options, `Delete environment ${args[0]} with its configs and secrets?`);
        return askConfigApi(connection, "environments/environment", { method: "DELETE", query: { environment: args[0] } });
      },
      show: (_answer, { args }) => printLine(`environment ${args[0]} is deleted`),
    },
  ]);
}
