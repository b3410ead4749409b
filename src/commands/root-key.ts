import type { Command } from "commander";
import { type Config, settings } from "../config.ts";
import { ConfigError } from "../core/error.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { recordLocally } from "./local-audit.ts";
import { withKeys } from "./local-store.ts";
import { printJson, printLine } from "./output.ts";
import { withProgress } from "./progress.ts";
import { addSettings, readSettings } from "./settings-options.ts";

/** `rekey root-key rotate` */
export function addRootKeyCommand(program: Command): void {
  const noun = program
    .command("root-key")
    .description("The key that all other keys are under")
    .usage("<command>")
    .helpCommand(false);
  const command = noun
    .command("rotate")
    .description("Put a store under another root key, with the server stopped")
    .requiredOption("--new-root-key <KEY>", "the key to change to: file:PATH (made if missing), env:NAME or aws-kms:ARN")
    .addHelpText("after", "\nKeep the old root key as long as there are backups made under it.")
    .addHelpText(
      "after",
      exampleText([
        "rekey root-key rotate --new-root-key file:/etc/rekey/root.key",
        "rekey root-key rotate --new-root-key aws-kms:arn:aws:kms:us-east-1:111122223333:key/…",
      ]),
    );
  addSettings(command, "store")
    .option("--json", "print the answer as JSON")
    .action(async ({ json, newRootKey, ...flags }) => {
      const next = String(newRootKey);
      if (settings.rootKey.parse(next) === undefined)
        throw new CommandError(2, `--new-root-key must be ${settings.rootKey.range}`);
      // The variable that holds the new key may begin with REKEY_, too.
      const env = Object.entries(process.env).filter(([name]) => next !== `env:${name}`);
      await rotate(readSettings("store", flags, Object.fromEntries(env)), next, json === true);
    });
}

async function rotate(config: Config, next: string, json: boolean): Promise<void> {
  if (next === config.rootKey) throw new CommandError(2, "--new-root-key is the root key already; name another one");
  const done = await exchange(config, next).then(
    () => "now",
    async (error: unknown) => {
      if (error instanceof ConfigError && (await isUnder(config, next))) return "already";
      throw error;
    },
  );
  if (json) printJson({ from: config.rootKey, to: next });
  else printLine(`the store is under ${next} ${done}; start servers with --root-key ${next}`);
}

/** Whether an earlier call did it all, though it was cut off before it could say so. */
async function isUnder(config: Config, next: string): Promise<boolean> {
  try {
    return await withKeys({ ...config, rootKey: next }, "read", async () => true);
  } catch (error) {
    if (error instanceof ConfigError) return false;
    throw error;
  }
}

async function exchange(config: Config, next: string): Promise<void> {
  const { openRootKey } = await import("../crypto/key-provider.ts");
  await withProgress("putting all keys under the new root key", () =>
    withKeys(config, "write", async (store) => {
      const key = await openRootKey(next, { env: process.env, create: true });
      await recordLocally(config, store, "rekey:RotateRootKey", { From: config.rootKey, To: next });
      await store.keys.rotateRootKey(key);
    }),
  );
}
