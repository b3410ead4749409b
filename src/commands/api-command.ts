import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { type Connection, callApi, connectionFrom } from "./api-client.ts";
import { type Answer, type Columns, printFields, printJson, printLine, printTable } from "./output.ts";
import { addSettings } from "./settings-options.ts";

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
  /** Member of a list's answer: all pages are read. */
  readonly pages?: string;
  /** More to say in help. */
  readonly notes?: string;
  /** What is sent; `connection` is for what has to be looked up first. */
  input?(typed: Typed, connection: Connection): object | Promise<object>;
  readonly show: Show;
}

/** Adds a noun with its commands. */
export function addNoun(program: Command, name: string, about: string, commands: readonly ApiCommand[]): Command {
  const noun = program.command(name).description(about).usage("<command>");
  for (const command of commands) addApiCommand(noun, command);
  return noun;
}

function addApiCommand(noun: Command, spec: ApiCommand): void {
  const command = noun.command(spec.usage).description(spec.about.slice(0, 1).toUpperCase() + spec.about.slice(1));
  for (const [flag, about] of Object.entries(spec.options ?? {})) {
    if (flag.includes("...")) command.option(flag, about, collect);
    else command.option(flag, about);
  }
  addClientOptions(command);
  if (spec.notes) command.addHelpText("after", `\n${spec.notes}`);
  command.action(async (...given: unknown[]) => {
    const options = command.opts();
    const args = given
      .slice(0, -2)
      .filter((arg) => arg !== undefined)
      .flat()
      .map(String);
    const typed: Typed = { args, options };
    const connection = connectionFrom(options);
    const input = (await spec.input?.(typed, connection)) ?? {};
    const answer = await ask(connection, spec, input, options);
    if (options.json === true) printJson(answer);
    else spec.show(answer, typed);
  });
}

/** `--endpoint`, `--token`, `--region` and `--json`. */
export function addClientOptions(command: Command): Command {
  return addSettings(command, "client").option("--json", "print the whole answer as JSON");
}

const collect = (value: string, all: readonly string[] = []): string[] => [...all, value];

async function ask(connection: Connection, { operation, pages }: ApiCommand, input: object, { max }: Flags): Promise<Answer> {
  const first = await callApi(connection, operation, input);
  if (pages === undefined) return first;
  const wanted = typeof max === "string" ? Number(max) : Number.POSITIVE_INFINITY;
  const rows = [...rowsOf(first, pages)];
  let cursor = first.cursor;
  while (cursor !== undefined && rows.length < wanted) {
    const next = await callApi(connection, operation, { ...input, cursor });
    rows.push(...rowsOf(next, pages));
    cursor = next.cursor;
  }
  const { cursor: _, ...rest } = first;
  return { ...rest, [pages]: rows.slice(0, wanted) };
}

const rowsOf = (answer: Answer, member: string): readonly Answer[] => (answer[member] as readonly Answer[] | undefined) ?? [];

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
