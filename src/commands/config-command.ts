import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { exampleText, type Typed } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { askConfigApi } from "./config-api.ts";
import { type Answer, type Columns, printFields, printJson, rows } from "./output.ts";
import { type ConfigConnection, configConnection } from "./scope.ts";
import { addSettings } from "./settings-options.ts";

/** One command about projects and their configs. */
export interface ConfigCommand {
  /** `create <name>` */
  readonly usage: string;
  readonly about: string;
  readonly options?: Readonly<Record<string, string>>;
  /** What has to be told for it. */
  readonly needs: "server" | "project" | "config";
  readonly examples: readonly string[];
  /** More to say in help. */
  readonly notes?: string;
  /** What is done when the noun stands alone. */
  readonly isDefault?: true;
  ask(typed: Typed, connection: ConfigConnection): Promise<Answer>;
  show(answer: Answer, typed: Typed): void;
}

/** Adds a noun with its commands. */
export function addConfigNoun(program: Command, name: string, about: string, commands: readonly ConfigCommand[]): Command {
  const noun = program.command(name).description(about).usage("[command]").helpCommand(false);
  for (const command of commands) addConfigCommand(noun, command);
  return noun;
}

/** Adds one command to a noun, or to the program itself. */
export function addConfigCommand(noun: Command, spec: ConfigCommand): Command {
  const about = spec.about.slice(0, 1).toUpperCase() + spec.about.slice(1);
  const command = noun.command(spec.usage, spec.isDefault ? { isDefault: true } : {}).description(about);
  addOptions(command, spec.options ?? {});
  addConfigOptions(command);
  command.addHelpText("after", `${spec.notes ? `\n${spec.notes}\n` : ""}${exampleText(spec.examples)}`);
  command.action(async (...given: unknown[]) => {
    const options = command.opts<Flags>();
    const args = given
      .slice(0, -2)
      .filter((arg) => arg !== undefined)
      .flat()
      .map(String);
    const typed: Typed = { args, options };
    const answer = await spec.ask(typed, await configConnection(options, needsOf(spec, typed)));
    if (options.json === true) printJson(answer);
    else spec.show(answer, typed);
  });
  return command;
}

/** What an argument names need not be told otherwise. */
function needsOf({ needs, usage }: ConfigCommand, { args }: Typed): ConfigCommand["needs"] {
  if (args.length === 0) return needs;
  if (usage.endsWith("[config]")) return "project";
  return usage.endsWith("[project]") ? "server" : needs;
}

/** A flag with `...` may be given several times. */
export function addOptions(command: Command, options: Readonly<Record<string, string>>): void {
  for (const [flag, about] of Object.entries(options)) {
    if (flag.includes("...")) command.option(flag, about, (value: string, all: readonly string[] = []) => [...all, value]);
    else command.option(flag, about);
  }
}

/** `--json`, `--project`, `--config`, `--endpoint` and `--token`. */
export function addConfigOptions(command: Command): Command {
  return addSettings(command.option("--json", "print the whole answer as JSON"), "config");
}

const maxPage = 100;

/** All pages of a list, or its first `most` rows, in `member` of the answer. */
export async function askPages(
  connection: ConfigConnection,
  path: string,
  member: string,
  query: Readonly<Record<string, string>> = {},
  most = Number.POSITIVE_INFINITY,
): Promise<Answer> {
  const found: Answer[] = [];
  const perPage = Math.min(most, maxPage);
  for (let page = 1; found.length < most; page++) {
    const answer = await askConfigApi(connection, path, { query: { ...query, page, per_page: perPage } });
    const more = rows(answer[member]);
    found.push(...more);
    if (more.length < perPage) break;
  }
  return { [member]: found.slice(0, most) };
}

/** The object that an answer holds under its noun. */
export const wrapped = (answer: Answer, member: string): Answer => (answer[member] as Answer | undefined) ?? {};

/** It, a line for each field. */
export const wrappedFields =
  (member: string, columns: Columns) =>
  (answer: Answer): void =>
    printFields(wrapped(answer, member), columns);

/** Asks before what cannot be taken back. @throws CommandError when refused, and for usage when nobody can be asked. */
export async function confirmed(options: Flags, message: string): Promise<void> {
  if (options.yes === true) return;
  if (!process.stdin.isTTY) throw new CommandError(2, "nothing was changed: give --yes to do it without being asked");
  const { confirm } = await import("@clack/prompts");
  if ((await confirm({ message, initialValue: false, output: process.stderr })) !== true)
    throw new CommandError(1, "nothing was changed");
}
