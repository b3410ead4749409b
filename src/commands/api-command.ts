import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { type Connection, callApi, callPages, connectionFrom, rowsOf } from "./api-client.ts";
import { CommandError } from "./command-error.ts";
import { type Answer, type Columns, printFields, printJson, printLine, printTable } from "./output.ts";
import { addSettings } from "./settings-options.ts";
import { numberOf } from "./typed-values.ts";

/** What the caller typed: arguments by position, options by name. */
export interface Typed {
  readonly args: readonly string[];
  readonly options: Flags;
}

/** How an answer is shown to people. */
export type Show = (answer: Answer, typed: Typed) => void;

/** One command that makes one call of the native API. */
export interface ApiCommand {
  /** `create <name>` */
  readonly usage: string;
  readonly about: string;
  /** `noun/verb` */
  readonly operation: string;
  /** Flag and what it is for. */
  readonly options?: Readonly<Record<string, string>>;
  /** Member of a list's answer: all pages are read, or as many rows as option `--max` or else `most` says. */
  readonly pages?: string;
  readonly most?: number;
  /** The most rows that the server gives at once, default 1,000. */
  readonly maxPageRows?: number;
  /** Whole command lines, for help. */
  readonly examples: readonly string[];
  /** More to say in help. */
  readonly notes?: string;
  /** What is sent; `connection` is for what has to be looked up first. */
  input?(typed: Typed, connection: Connection): object | Promise<object>;
  /** Instead of one call: several, made into one answer. */
  ask?(typed: Typed, connection: Connection): Promise<Answer>;
  readonly show: Show;
  /** Shows the answer and what comes after it, until interrupted, when option `--follow` was given. */
  follow?(answer: Answer, typed: Typed, connection: Connection): Promise<void>;
}

/** Adds a noun with its commands. */
export function addNoun(program: Command, name: string, about: string, commands: readonly ApiCommand[]): Command {
  const noun = program.command(name).description(about).usage("<command>").helpCommand(false);
  for (const command of commands) addApiCommand(noun, command);
  return noun;
}

/** Adds one command to a noun. */
export function addApiCommand(noun: Command, spec: ApiCommand): void {
  const command = noun.command(spec.usage).description(spec.about.slice(0, 1).toUpperCase() + spec.about.slice(1));
  for (const [flag, about] of Object.entries(spec.options ?? {})) {
    if (flag.includes("...")) command.option(flag, about, collect);
    else command.option(flag, about);
  }
  addClientOptions(command);
  command.addHelpText("after", `${spec.notes ? `\n${spec.notes}\n` : ""}${exampleText(spec.examples)}`);
  command.action(async (...given: unknown[]) => {
    const options = command.opts();
    const args = given
      .slice(0, -2)
      .filter((arg) => arg !== undefined)
      .flat()
      .map(String);
    const typed: Typed = { args, options };
    const connection = connectionFrom(options);
    const answer = await (spec.ask ? spec.ask(typed, connection) : ask(typed, connection, spec));
    if (options.follow === true && spec.follow) await spec.follow(answer, typed, connection);
    else if (options.json === true) printJson(answer);
    else spec.show(answer, typed);
  });
}

/** Examples at the end of help. */
export const exampleText = (examples: readonly string[]): string =>
  `\n${examples.length > 1 ? "Examples:" : "Example:"}\n${examples.map((example) => `  ${example}`).join("\n")}`;

/** `--json`, `--endpoint`, `--token` and `--region`; in this order, so that help shows what is the command's own first. */
export function addClientOptions(command: Command): Command {
  return addSettings(command.option("--json", "print the whole answer as JSON"), "client");
}

const collect = (value: string, all: readonly string[] = []): string[] => [...all, value];

const maxPage = 1000;

async function ask(
  typed: Typed,
  connection: Connection,
  { operation, pages, most, maxPageRows, input }: ApiCommand,
): Promise<Answer> {
  const wanted = numberOf(typed.options.max, "--max") ?? most;
  if (wanted === 0) throw new CommandError(2, "--max must be at least 1");
  const given = (await input?.(typed, connection)) ?? {};
  if (pages === undefined) return callApi(connection, operation, given);
  const limit = Math.min(wanted ?? Number.POSITIVE_INFINITY, maxPageRows ?? maxPage);
  return callPages(connection, operation, pages, { ...given, limit }, wanted);
}

/** A table of one member of the answer. */
export const table =
  (member: string, columns: Columns, nothing: string): Show =>
  (answer) =>
    printTable(rowsOf(answer, member), columns, nothing);

/** The answer, or one member of it, a line for each field. */
export const fields =
  (columns: Columns, member?: string): Show =>
  (answer) =>
    printFields(member === undefined ? answer : ((answer[member] as Answer | undefined) ?? {}), columns);

/** A sentence. */
export const sentence =
  (text: (answer: Answer, typed: Typed) => string): Show =>
  (answer, typed) =>
    printLine(text(answer, typed));

/** Only what was given, under the API's names: `{ description: "note" }` sends option `--note` as member `description`. */
export function pickOptions(options: Flags, names: Readonly<Record<string, string>>): Record<string, unknown> {
  const entries = Object.entries(names).map(([member, option]) => [member, options[option]] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0)));
}
