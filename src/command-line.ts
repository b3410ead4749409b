import { CommanderError } from "commander";
import { CommandError, isUnreachable } from "./commands/command-error.ts";
import { ConfigError, ServiceError } from "./core/error.ts";
import { makeProgram } from "./program.ts";

const program = makeProgram();

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (["server", "agent"].includes(program.args[0] ?? "")) return; // its work is not what it prints
  if (error.code === "EPIPE") process.exit(0); // whoever read our output has seen enough
  process.stderr.write(`rekey: the output cannot be written (${error.code}); what was asked is done\n`);
  process.exit(1);
});
process.stderr.on("error", () => undefined); // nobody is left to be told
hideSecrets();

try {
  await refuseUnknown(process.argv.slice(2));
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Other users see the arguments of every process: what could be a secret in ours is shown to them as `***`. */
function hideSecrets(): void {
  const secret = /^--(token|database-url|enroll)(=|$)/;
  const args = process.argv.slice(2);
  const assigns = args[0] === "secrets" && args[1] === "set";
  if (!assigns && !args.some((arg) => secret.test(arg))) return;
  const shown = args.map((arg, index) => {
    if (assigns && /^[^-][^=]*=/.test(arg)) return arg.replace(/=.*/s, "=***");
    if (secret.test(arg) && arg.includes("=")) return arg.replace(/=.*/s, "=***");
    return secret.test(args[index - 1] ?? "") && !args[index - 1]?.includes("=") ? "***" : arg;
  });
  process.title = `rekey ${shown.join(" ")}`;
}

/** Says on standard error what went wrong and what to do, and gives the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return reportUsage(error);
  const lines = error instanceof ConfigError ? error.problems : [describe(error)];
  for (const line of lines.join("\n").split("\n")) process.stderr.write(`rekey: ${line}\n`);
  if (error instanceof CommandError) return error.exitCode;
  return isUnreachable(error) ? 3 : 1;
}

/** With `--help` behind it, commander would show the help of all commands for one that does not exist. */
async function refuseUnknown(args: readonly string[]): Promise<void> {
  let within = program;
  for (const [index, name] of args.entries()) {
    if (within.commands.length === 0 || name.startsWith("-")) return;
    const found = within.commands.find((command) => command.name() === name);
    if (!found) await program.parseAsync(args.slice(0, index + 1), { from: "user" });
    else within = found;
  }
}

/** Help asked for is no error; help shown because a command is missing is. */
function reportUsage({ code, message }: CommanderError): number {
  if (code === "commander.helpDisplayed" || code === "commander.version") return 0;
  if (code === "commander.help") return 2;
  // An option that does not exist may hold a secret after its `=`.
  const said = message
    .replace(/^error: /, "")
    .replace(/\.$/, "")
    .replace(/(option '[^'=]*)=[^']*'/, "$1'");
  const isValue = code === "commander.excessArguments" && process.argv[2] === "secret" && /'(?:create|put)'/.test(message);
  const hint = isValue ? "; values of secrets come from a file, standard input or a prompt" : "";
  process.stderr.write(`rekey: ${said.replaceAll("\n", " ")}${hint}; --help shows what there is\n`);
  return 2;
}

function describe(error: unknown): string {
  if (error instanceof CommandError) return error.message;
  if (error instanceof ServiceError) return `${error.code}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
