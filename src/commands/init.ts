import type { Command } from "commander";
import type { Config } from "../config.ts";
import { credentialsFile } from "../open-store.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { storeName, withKeys } from "./local-store.ts";
import { printFields, printJson, printLine } from "./output.ts";
import { addSettings, readSettings } from "./settings-options.ts";

/** `rekey init` */
export function addInitCommand(program: Command): void {
  const command = program
    .command("init")
    .description("Make an empty store: schema, root key and the root user's credentials")
    .addHelpText(
      "after",
      `
Needed once for PostgreSQL, where the credentials are printed this once; keep them. The embedded store is made by the first
start of the server as well, and keeps them in DIR/root-credentials.json.
${exampleText(["rekey init --data /var/lib/rekey", "REKEY_DATABASE_URL=postgres://rekey@db/rekey rekey init --root-key file:/etc/rekey/root.key"])}`,
    );
  addSettings(command, "store")
    .option("--endpoint <URL>", "address at which the server will answer", "http://127.0.0.1:7353")
    .option("--json", "print the answer as JSON")
    .action(async ({ json, endpoint, ...flags }) => init(readSettings("store", flags), { json: json === true, endpoint }));
}

async function init(config: Config, { json, endpoint }: { json: boolean; endpoint: string }): Promise<void> {
  const { initialise, writeCredentialsFile } = await import("../initialise.ts");
  const made = await withKeys(config, "create", ({ sql, keys, envelope }) =>
    initialise({ sql, keys, envelope, account: config.account, region: config.region, endpoint, now: Date.now }, (fresh) => {
      if (config.databaseUrl === undefined) writeCredentialsFile(config.data, fresh);
    }),
  );
  if (!made)
    throw new CommandError(
      1,
      `${storeName(config)} is initialised already and was not changed; if its credentials are lost: rekey access-key create --root`,
    );
  const kept = config.databaseUrl === undefined ? credentialsFile(config.data) : undefined;
  if (json) {
    printJson({ store: storeName(config), rootKey: config.rootKey, ...(kept ? { credentialsFile: kept } : made) });
    return;
  }
  printLine(`made an empty store: ${storeName(config)}`);
  printLine(`its root key: ${config.rootKey} (without it nothing can be read again: keep a copy elsewhere)`);
  if (kept) printLine(`credentials of its root user: ${kept}`);
  else printCredentials(made);
}

/** Credentials on the terminal, shown this once. */
export function printCredentials(credentials: object): void {
  printLine("credentials of its root user, shown this once:");
  printFields(credentials as Readonly<Record<string, unknown>>, {
    Account: "account",
    "Access key": "accessKeyId",
    "Secret access key": "secretAccessKey",
    Token: "token",
  });
}
