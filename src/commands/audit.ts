import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { Config } from "../config.ts";
import { auditKeyPurpose } from "../open-store.ts";
import { type Connection, callPages, rowsOf } from "./api-client.ts";
import { type ApiCommand, addNoun, exampleText, pickOptions, type Typed } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { withKeys } from "./local-store.ts";
import { type Answer, type Columns, growingTable, printJson, printLine, printTable } from "./output.ts";
import { withProgress } from "./progress.ts";
import { addSettings, readSettings } from "./settings-options.ts";

const pollMs = 2_000;
/** Records shown unless --max says how many. */
const most = 50;

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
    .addHelpText("after", exampleText(["rekey audit verify", "rekey audit verify --data /var/lib/rekey --json"]))
    .action(({ json, ...flags }) => verify(readSettings("store", flags), json === true));
}

const columns: Columns = {
  TIME: "time",
  PRINCIPAL: "principal",
  ACTION: "action",
  OUTCOME: "outcome",
  RESOURCE: "resource",
  FROM: "sourceIp",
};

const tail: ApiCommand = {
  usage: "tail",
  about: "show the newest records, the newest last",
  examples: [
    "rekey audit tail --outcome AccessDeniedException --max 200",
    "rekey audit tail --follow --action secretsmanager:GetSecretValue",
  ],
  operation: "audit/search",
  pages: "records",
  most,
  options: {
    "-f, --follow": "go on with records as they are made, until interrupted",
    "--max <number>": `how many, default ${most}`,
    "--principal <arn>": "of this caller",
    "--action <action>": "of this action, such as secretsmanager:GetSecretValue",
    "--resource <arn>": "on this resource",
    "--outcome <code>": "that ended so: ok, or an error code",
    "--from <time>": "not before this time, such as 2026-01-31T00:00:00Z",
    "--to <time>": "before this time",
  },
  notes: `With --follow --json each record is one line. Following searches the trail every ${pollMs / 1000} s; those searches, recorded
like all calls, are left out unless --action asks for them.`,
  input: asked,
  show: (answer) => printTable(rowsOf(answer, "records").toReversed(), columns, "no records"),
  follow,
};

function asked({ options }: Typed): Record<string, unknown> {
  return pickOptions(options, {
    principal: "principal",
    action: "action",
    resource: "resource",
    outcome: "outcome",
    from: "from",
    to: "to",
  });
}

/** Records of several nodes do not come in the order of their times: what is this much older may still be new to us. */
const overlapMs = 10_000;

async function follow(first: Answer, typed: Typed, connection: Connection): Promise<void> {
  const { json, action } = typed.options;
  const table = growingTable(columns);
  const print = (rows: readonly Answer[]) => {
    if (json !== true) table(rows);
    else for (const row of rows) printLine(JSON.stringify(row));
  };
  const wanted = (row: Answer) => action !== undefined || row.action !== "rekey:SearchAudit";
  let fresh = rowsOf(first, "records").toReversed();
  const oldestMs = fresh.length < Number(typed.options.max ?? most) ? 0 : Date.parse(String(fresh[0]?.time));
  let seen = new Map<unknown, number>();
  for (let newestMs = Date.now() - overlapMs; ; ) {
    print(fresh.filter(wanted));
    for (const { requestId, time } of fresh) seen.set(requestId, Date.parse(String(time)));
    newestMs = Math.max(newestMs, ...seen.values());
    const from = Math.max(newestMs - overlapMs, oldestMs + 1); // what is older than the first answer is not asked for
    seen = new Map([...seen].filter(([, atMs]) => atMs >= from));
    await sleep(pollMs);
    const since = { ...asked(typed), limit: 1000, from: new Date(from).toISOString() };
    const { records } = await callPages(connection, "audit/search", "records", since);
    fresh = (records as readonly Answer[]).filter(({ requestId }) => !seen.has(requestId)).toReversed();
  }
}

async function verify(config: Config, json: boolean): Promise<void> {
  const { verifyAudit } = await import("../store/audit-verify.ts");
  const dir = config.databaseUrl === undefined ? { dir: config.data } : {};
  const verdict = await withProgress("reading the audit trail", () =>
    withKeys(config, "read", ({ sql, keys }) => verifyAudit({ sql, key: keys.deriveKey(auditKeyPurpose), ...dir })),
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
