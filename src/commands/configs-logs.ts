import type { Command } from "commander";
import type { Typed } from "./api-command.ts";
import { askConfigApi } from "./config-api.ts";
import { addConfigCommand, askPages, confirmed, wrapped } from "./config-command.ts";
import { type Answer, type Columns, printFields, printLine, printTable, rows } from "./output.ts";
import { numberOf } from "./typed-values.ts";

/** How many of the newest are shown unless `--max` says otherwise. */
const most = 20;

/** `rekey configs logs …`: what became of a config's values, and the way back. */
export function configLogs(configs: Command): void {
  const noun = configs
    .command("logs")
    .description("What was changed in a config, and by whom")
    .usage("[command]")
    .helpCommand(false);
  addConfigCommand(noun, {
    usage: "list",
    about: "list the changes of a config, the newest first",
    isDefault: true,
    needs: "config",
    options: { "--max <number>": `how many, default ${most}` },
    examples: ["rekey configs logs", "rekey configs logs --config prd --max 5"],
    ask: ({ options }, connection) =>
      askPages(connection, "configs/config/logs", "logs", {}, numberOf(options.max, "--max") ?? most),
    show: (answer) => printTable(rows(answer.logs), logColumns, "no changes"),
  });
  addConfigCommand(noun, {
    usage: "get <log>",
    about: "show one change; values only with --values",
    needs: "config",
    options: { "--values": "with what was there before and after" },
    examples: ["rekey configs logs get 3f0b", "rekey configs logs get 3f0b --values"],
    ask: ({ args }, connection) => askConfigApi(connection, "configs/config/logs/log", { query: { log: args[0] } }),
    show: showLog,
  });
  addConfigCommand(noun, {
    usage: "rollback <log>",
    about: "take a change back, as a further change",
    needs: "config",
    options: { "--yes": "without asking" },
    examples: ["rekey configs logs rollback 3f0b --yes"],
    ask: async ({ args, options }, connection) => {
      await confirmed(options, `Take change ${args[0]} back?`);
      return askConfigApi(connection, "configs/config/logs/log/rollback", { method: "POST", query: { log: args[0] } });
    },
    show: (answer, { args }) => printLine(`change ${args[0]} is taken back by change ${wrapped(answer, "log").id}`),
  });
}

/** Of one entry of an activity log. */
export const logColumns: Columns = {
  ID: "id",
  TIME: "created_at",
  WHO: (row) => whoOf(row),
  WHAT: "text",
};

/** Whoever did it. */
export const whoOf = ({ user }: Answer): unknown =>
  typeof user === "object" && user !== null && "name" in user ? user.name : undefined;

function showLog(answer: Answer, { options }: Typed): void {
  const log = wrapped(answer, "log");
  printFields(log, { Id: "id", Time: "created_at", Who: whoOf, What: "text", Config: "config" });
  printLine("");
  const change = (row: Answer): string => (row.added ? (row.removed ? "changed" : "added") : "removed");
  const columns: Columns = {
    NAME: "name",
    CHANGE: change,
    ...(options.values === true && { BEFORE: "removed", AFTER: "added" }),
  };
  printTable(rows(log.diff), columns, "no secret was changed");
}
