import { type Command, Option } from "commander";
import { type Config, type Flags, flagOf, loadConfig, settingsOf, variableOf } from "../config.ts";
import { ConfigError } from "../core/error.ts";
import { CommandError } from "./command-error.ts";

type Part = Parameters<typeof settingsOf>[0];

/** Adds the flags of all settings that a part of Rekey reads; help shows each one's variable and default. */
export function addSettings(command: Command, part: Part): Command {
  for (const [name, setting] of settingsOf(part)) {
    const value = setting.placeholder === undefined ? "" : ` <${setting.placeholder}>`;
    // Clients leave it to the server.
    const isClient = part === "client" || part === "config";
    const standard = setting.default === undefined || value === "" || isClient ? "" : `, default ${setting.default}`;
    const short = setting.short === undefined ? "" : `-${setting.short}, `;
    const option = new Option(`${short}${flagOf(name)}${value}`, `${setting.about} (${variableOf(name)}${standard})`);
    command.addOption(isClient ? option.helpGroup("Connection:") : option);
  }
  return command;
}

/** The settings of a part. @throws CommandError for usage, with everything that is wrong. */
export function readSettings(part: Part, flags: Flags, env: NodeJS.ProcessEnv = process.env): Config {
  try {
    return loadConfig(part, env, flags);
  } catch (error) {
    if (error instanceof ConfigError) throw new CommandError(2, error.problems.join("\n"));
    throw error;
  }
}
