// Writes the reference in docs/command-line.md from the program itself: `npm run docs`. What stands above the mark is left alone.
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Argument, Command, Option } from "commander";
import { makeProgram } from "../src/program.ts";

const page = resolve(import.meta.dirname, "../docs/command-line.md");
const mark = "<!-- What follows is written by npm run docs. -->";

/** The page as it is, and as it should be. */
export function commandLinePage(): { readonly is: string; readonly shouldBe: string } {
  const is = readFileSync(page, "utf8");
  const end = is.indexOf(mark);
  if (end === -1) throw new Error(`${page} lacks the line ${mark}`);
  return { is, shouldBe: `${is.slice(0, end)}${mark}\n\n${reference(makeProgram())}` };
}

function reference(program: Command): string {
  const leaves = leavesOf(program);
  const groups = Map.groupBy(leaves, (command) => groupOf(command, program));
  const overview = [...groups].map(([group, commands]) => `### ${group.replace(/:$/, "")}\n\n${tableOf(commands)}`);
  return `## All commands\n\n${[...overview, "## Each command", ...leaves.map(section)].join("\n\n")}\n`;
}

/** What can be run. A noun without options does something by itself only as a shorter name of its default command. */
function leavesOf(command: Command): Command[] {
  const below = command.commands.flatMap(leavesOf);
  const isRun = command.commands.length === 0 || (command.parent !== null && command.options.length > 0);
  return isRun ? [command, ...below] : below;
}

/** The heading of the help under which its noun stands. */
function groupOf(command: Command, program: Command): string {
  let noun = command;
  while (noun.parent && noun.parent !== program) noun = noun.parent;
  return noun.helpGroup();
}

function tableOf(commands: readonly Command[]): string {
  const rows = commands.map((command) => {
    const words = [pathOf(command), ...command.registeredArguments.map(usageOf)].join(" ");
    return `| [\`${words}\`](#${pathOf(command).replaceAll(" ", "-")}) | ${cell(command.description())} |`;
  });
  return ["| command | does |", "| --- | --- |", ...rows].join("\n");
}

function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}

function usageOf(argument: Argument): string {
  const text = `${argument.name()}${argument.variadic ? "..." : ""}`;
  return argument.required ? `<${text}>` : `[${text}]`;
}

/** Options that many commands have, explained above the mark. */
const isShared = ({ helpGroupHeading, long }: Option): boolean => helpGroupHeading === "Connection:" || long === "--json";

function section(command: Command): string {
  const { notes, examples } = moreOf(command);
  const options = command.options.filter((option) => !option.hidden);
  const own = options.filter((option) => !isShared(option));
  const rows = own.map(({ flags, description }) => `| \`${flags}\` | ${cell(description)} |`);
  const described = command.registeredArguments.filter(({ description }) => description !== "");
  const taken = described.map((argument) => `| \`${usageOf(argument)}\` | ${cell(argument.description)} |`);
  const shared = options.filter(isShared).map(({ long }) => `\`${long}\``);
  return [
    `### ${pathOf(command)}`,
    `${prose(command.description())}.`,
    `\`${pathOf(command)} ${command.usage()}\``,
    [...taken, ...rows].length > 0 && ["| option | |", "| --- | --- |", ...taken, ...rows].join("\n"),
    shared.length > 0 && `Also ${shared.join(", ")}.`,
    notes !== "" && prose(notes),
    examples !== "" && `\`\`\`sh\n${examples}\n\`\`\``,
  ]
    .filter((part) => part !== false)
    .join("\n\n");
}

/** What its help says after the options: notes, then examples. */
function moreOf(command: Command): { notes: string; examples: string } {
  let text = "";
  const writeOut = (more: string) => {
    text += more;
  };
  command.configureOutput({ writeOut }).outputHelp();
  text = text.replace(command.helpInformation(), "");
  const [notes = "", examples = ""] = text.split(/^Examples?:$/m);
  return { notes: notes.trim(), examples: examples.replaceAll(/^ {2}/gm, "").trim() };
}

const prose = (text: string): string => text.replaceAll("<", "&lt;");
const cell = (text: string): string => prose(text).replaceAll("|", "\\|").replaceAll("\n", " ");

if (process.argv[1] === import.meta.filename) writeFileSync(page, commandLinePage().shouldBe);
