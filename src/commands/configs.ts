import type { Command } from "commander";
import { pickOptions, type Typed } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { askConfigApi } from "./config-api.ts";
import { addConfigNoun, askPages, type ConfigCommand, confirmed, wrapped, wrappedFields } from "./config-command.ts";
import { configLogs } from "./configs-logs.ts";
import { type Answer, type Columns, printLine, printTable, rows } from "./output.ts";
import type { ConfigConnection } from "./scope.ts";
import { yesOrNo } from "./typed-values.ts";

const shown: Columns = {
  Name: "name",
  Project: "project",
  Environment: "environment",
  Root: "root",
  Locked: "locked",
  Inheritable: "inheritable",
  Inherits: (row) => parents(row.inherits),
  "Inherited by": (row) => parents(row.inheritedBy),
  Created: "created_at",
  "First fetch": "initial_fetch_at",
  "Last fetch": "last_fetch_at",
};

const parents = (list: unknown): string[] => rows(list).map(({ project, config }) => `${project}.${config}`);

/** Commands on configs. */
export function addConfigsCommands(program: Command): void {
  const noun = addConfigNoun(program, "configs", "Configs: a root and its branches in each environment", [
    list,
    get,
    create,
    update,
    lockOr("lock"),
    lockOr("unlock"),
    clone,
    remove,
  ]);
  configLogs(noun);
}

const list: ConfigCommand = {
  usage: "list",
  about: "list a project's configs",
  isDefault: true,
  needs: "project",
  options: { "--environment <slug>": "only those of this environment" },
  examples: ["rekey configs", "rekey configs --environment dev --json"],
  ask: ({ options }, connection) =>
    askPages(connection, "configs", "configs", pickOptions(options, { environment: "environment" }) as Record<string, string>),
  show: (answer) =>
    printTable(
      rows(answer.configs),
      {
        NAME: "name",
        ENVIRONMENT: "environment",
        ROOT: "root",
        LOCKED: "locked",
        CREATED: "created_at",
        "LAST FETCH": "last_fetch_at",
      },
      "no configs",
    ),
};

const of = ({ args }: Typed) => ({ ...(args[0] !== undefined && { config: args[0] }) });
const post = (connection: ConfigConnection, typed: Typed, verb: string, body?: object): Promise<Answer> =>
  askConfigApi(connection, `configs/config${verb}`, { method: "POST", query: of(typed), ...(body && { body }) });

const get: ConfigCommand = {
  usage: "get [config]",
  about: "show a config, default the one in use",
  needs: "config",
  examples: ["rekey configs get", "rekey configs get prd --project shop"],
  ask: (typed, connection) => askConfigApi(connection, "configs/config", { query: of(typed) }),
  show: wrappedFields("config", shown),
};

const create: ConfigCommand = {
  usage: "create <name>",
  about: "make a branch config, named ENVIRONMENT_SUFFIX",
  needs: "project",
  options: { "--environment <slug>": "its environment; default what stands before the first _ in its name" },
  examples: ["rekey configs create dev_alice"],
  ask: ({ args, options }, connection) =>
    askConfigApi(connection, "configs", {
      method: "POST",
      body: { name: args[0], environment: options.environment ?? args[0]?.split("_")[0] },
    }),
  show: (answer) => printLine(`config ${wrapped(answer, "config").name} is made`),
};

const update: ConfigCommand = {
  usage: "update [config]",
  about: "rename a config, or change what it inherits",
  needs: "config",
  options: {
    "--name <name>": "another name",
    "--inheritable <yes|no>": "whether other configs may inherit it",
    "--inherits <project.config...>": "inherit these, in this order; none for nothing any more",
  },
  examples: ["rekey configs update dev_alice --name dev_bob", "rekey configs update prd --inherits shared.prd"],
  ask: updateConfig,
  show: wrappedFields("config", shown),
};

async function updateConfig(typed: Typed, connection: ConfigConnection): Promise<Answer> {
  const { name, inheritable, inherits } = typed.options;
  let answer: Answer | undefined;
  if (inheritable !== undefined)
    answer = await post(connection, typed, "/inheritable", { inheritable: yesOrNo(inheritable, "--inheritable") });
  if (inherits !== undefined) answer = await post(connection, typed, "/inherits", { inherits: parentsOf(inherits) });
  if (name !== undefined) answer = await post(connection, typed, "", { name });
  if (!answer) throw new CommandError(2, "give --name, --inheritable or --inherits");
  return answer;
}

function parentsOf(texts: unknown): { project: string; config: string }[] {
  const given = Array.isArray(texts) ? texts.map(String) : [];
  if (given.length === 1 && given[0] === "none") return [];
  return given.map((text) => {
    const at = text.lastIndexOf("."); // names of configs have none
    if (at < 1) throw new CommandError(2, "--inherits takes PROJECT.CONFIG, or none");
    return { project: text.slice(0, at), config: text.slice(at + 1) };
  });
}

const lockOr = (verb: "lock" | "unlock"): ConfigCommand => ({
  usage: `${verb} [config]`,
  about: verb === "lock" ? "keep a config from being renamed or deleted" : "let a config be renamed and deleted again",
  needs: "config",
  examples: [`rekey configs ${verb} prd`],
  ask: (typed, connection) => post(connection, typed, `/${verb}`),
  show: (answer) => printLine(`config ${wrapped(answer, "config").name} is ${verb}ed`),
});

const clone: ConfigCommand = {
  usage: "clone [config]",
  about: "make a branch config with the same values",
  needs: "config",
  options: { "--name <name>": "the new one's name" },
  examples: ["rekey configs clone dev --name dev_try"],
  ask: (typed, connection) => {
    if (typed.options.name === undefined) throw new CommandError(2, "give the new config's --name");
    return post(connection, typed, "/clone", { name: typed.options.name });
  },
  show: (answer) => printLine(`config ${wrapped(answer, "config").name} is made`),
};

const remove: ConfigCommand = {
  usage: "delete <config>",
  about: "delete a branch config with its secrets",
  needs: "project",
  options: { "--yes": "without asking" },
  examples: ["rekey configs delete dev_alice --yes"],
  ask: async (typed, connection) => {
    await confirmed(typed.options, `Delete config ${typed.args[0]} with its secrets?`);
    return askConfigApi(connection, "configs/config", { method: "DELETE", query: of(typed) });
  },
  show: (_answer, { args }) => printLine(`config ${args[0]} is deleted`),
};
