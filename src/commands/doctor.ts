import type { Command } from "commander";
import type { Config } from "../config.ts";
import { ConfigError, ServiceError } from "../core/error.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import {
  checkClock,
  checkEndpoint,
  checkFiles,
  checkKey,
  checkQuarantine,
  checkSettings,
  checkStore,
  checkTargets,
  type Finding,
  serverInUse,
} from "./doctor-checks.ts";
import { withKeys, withStore } from "./local-store.ts";
import { printJson, printLine } from "./output.ts";
import { addSettings, readSettings } from "./settings-options.ts";

/** `rekey doctor` */
export function addDoctorCommand(program: Command): void {
  const command = program
    .command("doctor")
    .description("Check settings, store, files, keys, clock and the systems whose credentials are rotated")
    .addHelpText("after", "\nWith wrong settings nothing else is checked: they say where everything is.")
    .addHelpText(
      "after",
      exampleText(["rekey doctor", "rekey doctor --data /var/lib/rekey --root-key file:/etc/rekey/root.key --json"]),
    );
  addSettings(command, "store")
    .option("--json", "print the findings as JSON")
    .action(async ({ json, ...flags }) => {
      const settings = await checkSettings(flags);
      const usable = settings.every(({ state }) => state !== "problem");
      const findings = usable ? [...settings, ...(await examine(readSettings("store", flags)))] : settings;
      if (json) printJson({ ok: findings.every(({ state }) => state !== "problem"), findings });
      else for (const finding of findings) printFinding(finding);
      const problems = findings.filter(({ state }) => state === "problem").length;
      if (problems > 0)
        throw new CommandError(1, problems === 1 ? "there is a problem; see above" : `there are ${problems} problems; see above`);
    });
}

function printFinding({ check, state, says }: Finding): void {
  printLine(`${state.padEnd(7)}  ${check.padEnd(8)}  ${says}`);
}

/** Every check that can still be made; one that fails says why, in words. */
async function examine(config: Config): Promise<Finding[]> {
  const files = await trying("files", () => checkFiles(config));
  const store = await trying("store", () => withStore(config, "read", (sql) => checkStore(config, sql)));
  if (store.some(({ state }) => state === "problem")) return [...files, ...store];
  const quarantine = await trying("store", () => withStore(config, "read", checkQuarantine));
  const clock = await trying("clock", () => withStore(config, "read", (sql) => checkClock(config, sql)));
  const key = await trying("key", () => withKeys(config, "read", (opened) => checkKey(config, opened)));
  if (key.some(({ state }) => state === "problem")) return [...files, ...store, ...quarantine, ...clock, ...key];
  return [...files, ...store, ...quarantine, ...clock, ...key, ...(await trying("target", () => examineTargets(config)))];
}

async function examineTargets(config: Config): Promise<Finding[]> {
  const server = (await serverInUse(config)) === undefined ? [] : await checkEndpoint(config);
  return [...server, ...(await withKeys(config, "read", checkTargets))];
}

async function trying(check: Finding["check"], examineOne: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await examineOne();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map((says) => ({ check, state: "problem", says }));
    const says =
      error instanceof ServiceError ? `${error.code}: ${error.message}` : error instanceof Error ? error.message : "failed";
    return [{ check, state: "problem", says }];
  }
}
