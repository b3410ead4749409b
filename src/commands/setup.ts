import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { askConfigApi } from "./config-api.ts";
import { addConfigOptions, askPages } from "./config-command.ts";
import { printJson, printLine, printTable, rows } from "./output.ts";
import { type ConfigConnection, configConnection, findScope, type Scope } from "./scope.ts";
import { scopeFileName, scopeFileText } from "./scope-file.ts";

/** `rekey setup` */
export function addSetupCommand(program: Command): void {
  const command = program
    .command("setup")
    .description(`Choose project and config for this folder and those below; kept in ${scopeFileName}`)
    .option("--show", "tell what holds here, and what said so; changes nothing");
  addConfigOptions(command).addHelpText(
    "after",
    `
Asks on a terminal; what there is only one of is chosen unasked. The file holds no secret, so it may be shared with the code.
Flags win over variables, and those over the nearest ${scopeFileName}.
${exampleText(["rekey setup", "rekey setup --project shop --config dev", "rekey setup --show"])}`,
  );
  command.action(() => setUp(command.opts()));
}

async function setUp(options: Flags): Promise<void> {
  if (options.show === true) {
    show(await findScope(options), options);
    return;
  }
  // What a file above says is what is to be changed.
  const given = { project: flagOrVariable(options, "project"), config: flagOrVariable(options, "config") };
  const connection = await configConnection(options, "server");
  const project = given.project ?? (await chooseProject(connection));
  const config = given.config ?? (await chooseConfig({ ...connection, project }));
  if (given.project !== undefined && given.config !== undefined) await lookUp({ ...connection, project, config });
  const path = join(process.cwd(), scopeFileName);
  writeFileSync(path, await scopeFileText({ project, config }));
  chmodSync(path, 0o644);
  if (options.json === true) printJson({ path, project, config });
  else printLine(`this folder uses project ${project}, config ${config} (${path}); rekey run -- PROGRAM gives it their secrets`);
}

function flagOrVariable(options: Flags, name: "project" | "config"): string | undefined {
  const text = options[name] ?? process.env[`REKEY_${name.toUpperCase()}`];
  return text === undefined || text === "" ? undefined : String(text);
}

async function chooseProject(connection: ConfigConnection): Promise<string> {
  const { projects } = await askPages(connection, "projects", "projects");
  const options = rows(projects).map(({ id, name }) => ({ value: String(id), label: String(name) }));
  return choose("project", options, "there is no project: rekey projects create NAME makes one");
}

async function chooseConfig(connection: ConfigConnection): Promise<string> {
  const { configs } = await askPages(connection, "configs", "configs");
  const options = rows(configs).map(({ name }) => ({ value: String(name), label: String(name) }));
  return choose("config", options, `project ${connection.project} has no config: rekey configs create NAME makes one`);
}

async function choose(what: string, options: { value: string; label: string }[], nothing: string): Promise<string> {
  const [first] = options;
  if (first === undefined) throw new CommandError(1, nothing);
  if (options.length === 1) return first.value;
  if (!process.stdin.isTTY) throw new CommandError(2, `give --${what}, one of: ${options.map(({ value }) => value).join(", ")}`);
  const { isCancel, select } = await import("@clack/prompts");
  const answer = await select({ message: `Which ${what}?`, options, output: process.stderr });
  if (isCancel(answer)) throw new CommandError(1, "nothing was changed");
  return String(answer);
}

/** Says at once when there is no such config; that nobody answers is no reason against it. */
async function lookUp(connection: ConfigConnection): Promise<void> {
  try {
    await askConfigApi(connection, "configs/config", { waitMs: 10_000 });
  } catch (error) {
    if (!(error instanceof CommandError && error.exitCode === 3)) throw error;
    process.stderr.write(`rekey: warning: not looked up: ${error.message}\n`);
  }
}

function show(scope: Scope, options: Flags): void {
  const token = scope.token && { ...scope.token, value: scope.token.value.replace(/^(dp\.[a-z]+\.).*$/, "$1…") };
  const shown = { ...scope, ...(token && { token }) };
  if (options.json === true) {
    printJson(shown);
    return;
  }
  const names = ["endpoint", "token", "project", "config"] as const;
  printTable(
    names.map((name) => ({ name, value: shown[name]?.value, source: shown[name]?.source })),
    { SETTING: "name", VALUE: "value", FROM: "source" },
    "",
  );
}
