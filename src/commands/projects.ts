import type { Command } from "commander";
import { pickOptions } from "./api-command.ts";
import { askConfigApi } from "./config-api.ts";
import { addConfigNoun, askPages, confirmed, wrapped, wrappedFields } from "./config-command.ts";
import { printLine, printTable, rows } from "./output.ts";

const columns = { Id: "id", Name: "name", Description: "description", Created: "created_at" };
const about = "of this id or name, default the one in use";

/** Commands on projects. */
export function addProjectsCommands(program: Command): void {
  addConfigNoun(program, "projects", "Where applications' secrets live: projects", [
    {
      usage: "list",
      about: "list projects",
      isDefault: true,
      needs: "server",
      examples: ["rekey projects", "rekey projects list --json"],
      ask: (_typed, connection) => askPages(connection, "projects", "projects"),
      show: (answer) =>
        printTable(
          rows(answer.projects),
          { ID: "id", NAME: "name", CREATED: "created_at", DESCRIPTION: "description" },
          "no projects; rekey projects create NAME makes one",
        ),
    },
    {
      usage: "get [project]",
      about: `show a project: ${about}`,
      needs: "project",
      examples: ["rekey projects get shop"],
      ask: ({ args }, connection) => askConfigApi(connection, "projects/project", { query: pickProject(args[0]) }),
      show: wrappedFields("project", columns),
    },
    {
      usage: "create <name>",
      about: "make a project with environments dev, stg and prd",
      needs: "server",
      options: { "--description <text>": "what it is for" },
      examples: ['rekey projects create shop --description "the shop"'],
      ask: ({ args, options }, connection) =>
        askConfigApi(connection, "projects", {
          method: "POST",
          body: { name: args[0], ...pickOptions(options, { description: "description" }) },
        }),
      show: (answer) => {
        const { id } = wrapped(answer, "project");
        printLine(`project ${id} is made; rekey setup --project ${id} uses it in this folder`);
      },
    },
    {
      usage: "update [project]",
      about: "rename a project, or describe it anew; its id stays",
      needs: "project",
      options: { "--name <text>": "another name", "--description <text>": "what it is for" },
      examples: ["rekey projects update shop --name shop-eu"],
      ask: ({ args, options }, connection) =>
        askConfigApi(connection, "projects/project", {
          method: "POST",
          query: pickProject(args[0]),
          body: pickOptions(options, { name: "name", description: "description" }),
        }),
      show: wrappedFields("project", columns),
    },
    {
      usage: "delete <project>",
      about: "delete a project with all its configs and their secrets",
      needs: "server",
      options: { "--yes": "without asking" },
      examples: ["rekey projects delete shop --yes"],
      ask: async ({ args, options }, connection) => {
        await confirmed(options, `Delete project ${args[0]} with all its configs and secrets?`);
        return askConfigApi(connection, "projects/project", { method: "DELETE", query: pickProject(args[0]) });
      },
      show: (_answer, { args }) => printLine(`project ${args[0]} is deleted`),
    },
  ]);
}

const pickProject = (project: string | undefined) => ({ ...(project !== undefined && { project }) });
