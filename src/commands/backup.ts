import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import type { Config } from "../config.ts";
import { makeDataFolder } from "../open-store.ts";
import { exampleText } from "./api-command.ts";
import { storeName, withStore } from "./local-store.ts";
import { printJson, printLine } from "./output.ts";
import { withProgress } from "./progress.ts";
import { addSettings, readSettings } from "./settings-options.ts";

/** `rekey backup` and `rekey restore` */
export function addBackupCommands(program: Command): void {
  const backup = program
    .command("backup")
    .description("Copy the whole store to a file, also while the server runs")
    .requiredOption("--to <FILE>", "the file to make; one that is there is never replaced")
    .addHelpText("after", "\nThe file holds no value in the clear and not the root key: keep a copy of that elsewhere.")
    .addHelpText(
      "after",
      exampleText(["rekey backup --to rekey.backup", "rekey backup --data /var/lib/rekey --to /mnt/backups/monday.backup"]),
    );
  addSettings(backup, "store")
    .option("--json", "print the answer as JSON")
    .action(({ json, to, ...flags }) => makeBackup(readSettings("store", flags), String(to), json === true));

  const restore = program
    .command("restore")
    .description("Put a backup into an empty store, of either kind")
    .requiredOption("--from <FILE>", "a file that rekey backup made")
    .addHelpText("after", "\nStart the server with the root key that the backed-up store had then.")
    .addHelpText("after", exampleText(["rekey restore --from rekey.backup --data ./restored"]));
  addSettings(restore, "store")
    .option("--json", "print the answer as JSON")
    .action(({ json, from, ...flags }) => restoreBackup(readSettings("store", flags), String(from), json === true));
}

async function makeBackup(config: Config, to: string, json: boolean): Promise<void> {
  const { backupEmbedded, backupPostgres } = await import("../store/backup-file.ts");
  await withProgress(`copying ${storeName(config)}`, () =>
    config.databaseUrl === undefined
      ? backupEmbedded(config.data, to)
      : withStore(config, "read", (sql) => backupPostgres(sql, to)),
  );
  if (json) printJson({ from: storeName(config), to });
  else printLine(`${storeName(config)} is copied to ${to}; its root key is not in it`);
}

async function restoreBackup(config: Config, from: string, json: boolean): Promise<void> {
  await withProgress(`restoring into ${storeName(config)}`, () => fill(config, from));
  if (json) printJson({ from, to: storeName(config) });
  else
    printLine(
      `${storeName(config)} holds the backup now; rekey doctor checks it and its root key. Its server leaves all targets alone until rekey quarantine release`,
    );
}

async function fill(config: Config, from: string): Promise<void> {
  const { restoreEmbedded, restorePostgres } = await import("../store/restore.ts");
  if (config.databaseUrl === undefined) {
    makeDataFolder(config);
    restoreEmbedded(from, config.data, Date.now());
    return;
  }
  const scratch = mkdtempSync(join(tmpdir(), "rekey-restore-"));
  try {
    await withStore(config, "write", (sql) => restorePostgres(from, sql, { nowMs: Date.now(), scratch }));
  } finally {
    rmSync(scratch, { recursive: true });
  }
}
