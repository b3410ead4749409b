import type { Command } from "commander";
import type { Config } from "../config.ts";
import { recordLocally } from "./local-audit.ts";
import { withKeys } from "./local-store.ts";
import { printJson, printLine } from "./output.ts";
import { addSettings, readSettings } from "./settings-options.ts";

/** `rekey root-key rotate` */
export function addRootKeyCommand(program: Command): void {
  const noun = program.command("root-key").description("The key that all other keys are under").usage("<command>");
  const command = noun
    .command("rotate")
    .description("Put a store under another root key, with the server stopped")
    .requiredOption("--new-root-key <KEY>", "the key to change to: file:PATH (made if missing), env:NAME or aws-kms:ARN")
    .addHelpText("after", "\nKeep the old root key as long as there are backups made under it.");
  addSettings(command, "store")
    .option("--json", "print the answer as JSON")
    .action(async ({ json, newRootKey, ...flags }) => {
      const { rootKey: next } = readSettings("store", { ...flags, rootKey: newRootKey });
      await rotate(readSettings("store", flags), next, json === true);
    });
}

async function rotate(config: Config, next: string, json: boolean): Promise<void> {
  const { openRootKey } = await import("../crypto/key-provider.ts");
  await withKeys(config, "write", async (store) => {
    await recordLocally(config, store, "rekey:RotateRootKey", { From: config.rootKey, To: next });
    await store.keys.rotateRootKey(await openRootKey(next, { env: process.env, create: true }));
  });
  if (json) printJson({ from: config.rootKey, to: next });
  else printLine(`the store is under ${next} now; start servers with --root-key ${next}`);
}
