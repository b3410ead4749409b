import type { Command } from "commander";
import { exampleText } from "./api-command.ts";
import { storeName, withStore } from "./local-store.ts";
import { printJson, printLine } from "./output.ts";
import { addSettings, readSettings } from "./settings-options.ts";

/** `rekey migrate` */
export function addMigrateCommand(program: Command): void {
  const command = program
    .command("migrate")
    .description("Bring a store to this version's schema; run it before the new server")
    .addHelpText(
      "after",
      exampleText(["rekey migrate --data /var/lib/rekey", "REKEY_DATABASE_URL=postgres://rekey@db/rekey rekey migrate"]),
    );
  addSettings(command, "store")
    .option("--json", "print the answer as JSON")
    .action(async ({ json, ...flags }) => {
      const config = readSettings("store", flags);
      const { migrate } = await import("../store/migrate.ts");
      const { applied } = await withStore(config, "write", (sql) => migrate(sql));
      if (json) printJson({ applied });
      else printLine(applied.length === 0 ? `${storeName(config)} is up to date` : `applied ${applied.join(", ")}`);
    });
}
