import type { Command } from "commander";
import type { Config } from "../config.ts";
import { auditKeyPurpose } from "../open-store.ts";
import { type ApiCommand, addNoun, pickOptions, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { withKeys } from "./local-store.ts";
import { printJson, printLine } from "./output.ts";
import { addSettings, readSettings } from "./settings-options.ts";
import { numberOf } from "./typed-values.ts";

/** Commands on the audit trail. */
export function addAuditCommands(program: Command): void {
  const noun = addNoun(program, "audit", "Who asked for what, and what came of it", [tail]);
  const command = noun
    .command("verify")
    .description(
      "Prove that no record was changed, removed, reordered or cut off; on the store itself, also while the server runs",
    );
  addSettings(command, "store")
    .option("--json", "print the whole answer as JSON")
    .action(({ json, ...flags }) => verify(readSettings("store", flags), json === true));
}

const tail: ApiCommand = {
  usage: "tail",
  about: "show the newest records",
  operation: "audit/search",
  options: {
    "--max <number>": "how many, 1 to 1000, default 50",
    "--principal <arn>": "of this caller",
    "--action <action>": "of this action, such as secretsmanager:GetSecretValue",
    "--resource <arn>": "on this resource",
    "--outcome <code>": "that ended so: ok, or an error code",
    "--from <time>": "not before this time, such as 2026-01-31T00:00:00Z",
    "--to <time>": "before this time",
  },
  input: ({ options }) => ({
    ...pickOptions(options, {
      principal: "principal",
      action: "action",
      resource: "resource",
      outcome: "outcome",
      from: "from",
      to: "to",
    }),
    limit: numberOf(options.max, "--max") ?? 50,
  }),
  show: table(
    "records",
    { TIME: "time", PRINCIPAL: "principal", ACTION: "action", OUTCOME: "outcome", RESOURCE: "resource", FROM: "sourceIp" },
    "no records",
  ),
};

async function verify(config: Config, json: boolean): Promise<void> {
  const { verifyAudit } = await import("../store/audit-verify.ts");
  const dir = config.databaseUrl === undefined ? { dir: config.data } : {};
  const verdict = await withKeys(config, "read", ({ sql, keys }) =>
    verifyAudit({ sql, key: keys.deriveKey(auditKeyPurpose), ...dir }),
  );
  if (json) printJson(verdict);
  else {
    for (const note of verdict.notes) printLine(`note: ${describe(note)}`);
    for (const problem of verdict.problems) printLine(`problem: ${describe(problem)}`);
    if (verdict.more > 0) printLine(`and ${verdict.more} more`);
  }
  if (!verdict.ok)
    throw new CommandError(1, "the audit trail was tampered with or damaged; keep a copy of it as it is and look into it");
  if (json) return;
  const window = verdict.windowSeconds;
  printLine(`${verdict.records} records of ${verdict.writers} writers are whole and in order`);
  if (window > 0) printLine(`(a cut of the last ${window} s of a writer that is running or crashed would not show)`);
}

function describe({ writer, segment, line, what }: { writer: string; segment?: number; line?: number; what: string }): string {
  const place = [writer, segment === undefined ? "" : `segment ${segment}`, line === undefined ? "" : `line ${line}`];
  const where = place.filter((part) => part !== "").join(", ");
  return where === "" ? what : `${where}: ${what}`;
}
