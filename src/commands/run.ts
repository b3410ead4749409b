import { hostname } from "node:os";
import { type Command, Option } from "commander";
import type { Flags } from "../config.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { addOptions } from "./config-command.ts";
import type { RunOptions } from "./run/run.ts";
import { configConnection } from "./scope.ts";
import { addSettings } from "./settings-options.ts";
import { chosenOf, fileText, numberOf, secondsOf } from "./typed-values.ts";

/** Options that tell how a config's values are fetched, of every command that writes them somewhere. */
export const leaseOptions = {
  "--ttl <duration>": "life of leases that are taken, such as 90s, 30m or 3h; default what each dynamic secret says",
  "--no-leases": "take no leases of dynamic secrets",
};

const options = {
  "--command <text>": "a text for /bin/sh instead of a program",
  "--watch": "start it anew when secrets change: SIGTERM, 10 s, SIGKILL",
  "--only-secrets <names>": "only these, comma-separated; all of them have to be there",
  "--preserve-env [names]": "what the environment has already wins: of all names, or with = of these",
  "--overwrite <names>": "put secrets also under these reserved names, such as PATH",
  "--mount <file>": "put them into a named pipe at this path instead of the environment",
  "--mount-template <file>": "with --mount: this text, with {{NAME}} and {{json NAME}} replaced",
  "--mount-max-reads <number>": "with --mount: remove it after so many reads",
  ...leaseOptions,
  "--fallback <file>": "offline copy for when nobody answers; default one of Rekey's own",
  "--no-fallback": "neither keep nor use an offline copy",
  "--fallback-only": "use the offline copy without asking the server",
  "--fallback-max-age <duration>": "use none that is older, such as 12h",
  "--allow-missing-leases": "start offline without the credentials that would have to be leased",
};

/** What others call `--ttl`. */
export function addDynamicTtl(command: Command): void {
  command.addOption(new Option("--dynamic-ttl <duration>").hideHelp());
}

/** `rekey run` */
export function addRunCommand(program: Command): void {
  const command = program
    .command("run")
    .argument("[command...]", "program with its arguments")
    .description("Run a program with a config's secrets in its environment, or in a file")
    .usage("[options] -- <program> [arguments]")
    .passThroughOptions();
  addOptions(command, options);
  addFormatOptions(command, "--mount: ");
  addDynamicTtl(command);
  addSettings(command, "config");
  command.addHelpText("after", help);
  command.action(async (words: string[], given: Flags) => {
    const parts = await runOptions(words, given);
    const { runWithSecrets } = await import("./run/run.ts");
    process.exit(await runWithSecrets(parts));
  });
}

/** `--format` and `--name-transformer`. */
export function addFormatOptions(command: Command, before = ""): void {
  command.option("--format <format>", `${before}json, env, yaml, docker, env-no-quotes or dotnet-json; default json`);
  command.option("--name-transformer <name>", "camel, upper-camel, lower-snake, lower-kebab, tf-var, dotnet or dotnet-env");
}

const help = `
Signals go on to the program, and its exit code is ours (128 + the number of the signal that ended it; 126 and 127 when it
cannot be started). Leases of dynamic secrets are renewed while it runs and ended when it exits. When nobody answers, values
come from an encrypted copy of the last ones; leased credentials are never in it.
${exampleText([
  "rekey run -- node server.js",
  'rekey run --watch --command "npm run build && exec npm start"',
  "rekey run --mount secrets.json --mount-max-reads 1 -- ./start",
  "rekey run --ttl 3h --only-secrets DB_USERNAME,DB_PASSWORD -- psql",
])}`;

async function runOptions(words: readonly string[], given: Flags): Promise<RunOptions> {
  const task = taskOf(words, given.command);
  const { configFormats } = await import("../core/config-formats.ts");
  const { nameTransformers } = await import("../core/config-transformers.ts");
  const format = chosenOf(given.format, configFormats, "--format");
  const transformer = chosenOf(given.nameTransformer, nameTransformers, "--name-transformer");
  if (given.mount === undefined && (format ?? given.mountTemplate ?? given.mountMaxReads) !== undefined)
    throw new CommandError(2, "--format, --mount-template and --mount-max-reads go with --mount");
  if (format !== undefined && given.mountTemplate !== undefined) throw new CommandError(2, "give --format or --mount-template");
  const connection = await configConnection(given, "config");
  const only = given.onlySecrets === undefined ? undefined : listOf(given.onlySecrets);
  const template = given.mountTemplate === undefined ? undefined : await fileText(String(given.mountTemplate));
  const maxReads = numberOf(given.mountMaxReads, "--mount-max-reads");
  if (maxReads === 0) throw new CommandError(2, "--mount-max-reads must be at least 1");
  return {
    task,
    connection,
    environment: {
      ...(given.preserveEnv !== undefined && { preserve: given.preserveEnv === true ? "all" : listOf(given.preserveEnv) }),
      ...(given.overwrite !== undefined && { overwrite: listOf(given.overwrite) }),
    },
    offline: await offlineRules(given, connection, only),
    only,
    transformer,
    ...(given.mount !== undefined && { mount: { path: String(given.mount), format: format ?? "json", template, maxReads } }),
    watch: given.watch === true,
    leases: given.leases !== false,
    ttlSeconds: secondsOf(given.ttl ?? given.dynamicTtl, "--ttl"),
    workload: `${hostname()}/${("shellText" in task ? task.shellText : task.program).split(/\\s/)[0]}`.slice(0, 128),
  };
}

function taskOf([program, ...args]: readonly string[], shellText: unknown): RunOptions["task"] {
  if (typeof shellText === "string") {
    if (program !== undefined) throw new CommandError(2, "give --command or a program, not both");
    return { shellText };
  }
  if (program === undefined) throw new CommandError(2, "give a program behind --, or --command; rekey run --help shows examples");
  return { program, args };
}

async function offlineRules(
  given: Flags,
  connection: RunOptions["connection"],
  names: RunOptions["only"],
): Promise<RunOptions["offline"]> {
  const { fallback, fallbackOnly, fallbackMaxAge, allowMissingLeases } = given;
  if (fallback === false && (fallbackOnly ?? fallbackMaxAge ?? allowMissingLeases) !== undefined)
    throw new CommandError(2, "--no-fallback leaves nothing for the other options on it");
  const { OfflineFile } = await import("./run/offline-file.ts");
  return {
    ...(fallback !== false && {
      file: new OfflineFile(connection, { path: typeof fallback === "string" ? fallback : undefined, names }),
    }),
    only: fallbackOnly === true,
    maxAgeSeconds: secondsOf(fallbackMaxAge, "--fallback-max-age"),
    allowMissingLeases: allowMissingLeases === true,
  };
}

const listOf = (text: unknown): string[] =>
  String(text)
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
