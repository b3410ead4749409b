import type { ApiCommand } from "./api-command.ts";
import { exitOnProblem, runJob, showFindings } from "./job-command.ts";
import { type Answer, type Columns, printLine, printTable } from "./output.ts";
import { functionArn } from "./secret.ts";

/** Looks before a rotation leaps. */
export const check: ApiCommand = {
  usage: "check <secret>",
  about: "tell whether a rotation would work, and which step would fail and why; changes nothing",
  examples: [
    "rekey rotation check app/db",
    "rekey rotation check app/db --function SecretsManagerRDSPostgreSQLRotationMultiUser",
  ],
  operation: "rotations/check",
  options: { "--function <name>": "as if this function were configured: its ARN, or the name of a built-in one" },
  notes: "Exit code 1 means that a rotation would fail.",
  async ask({ args, options }, connection) {
    const input = { secretId: args[0], rotationLambdaArn: await functionArn(args[0], options, connection) };
    return exitOnProblem(await runJob(connection, "rotations/check", input, `looking at what a rotation of ${args[0]} needs`));
  },
  show: showFindings,
};

const differences: Columns = { KIND: "kind", WHAT: "what", FIRST: "first", SECOND: "second" };

export const parity: ApiCommand = {
  usage: "parity <secret>",
  about: "compare the two users that take turns: rights, memberships, settings and what they own",
  examples: ["rekey rotation parity app/db"],
  operation: "rotations/parity",
  notes: "Exit code 1 means that they differ. The statements are suggestions: Rekey runs none of them.",
  async ask({ args }, connection) {
    const input = { secretId: args[0] };
    return exitOnProblem(await runJob(connection, "rotations/parity", input, `comparing the users of ${args[0]}`));
  },
  show: showParity,
};

function showParity({ users, differences: found, advice }: Answer): void {
  const [first, second] = users as readonly Answer[];
  for (const user of [first, second]) if (user?.exists === false) printLine(`${user.name} does not exist yet`);
  const rows = found as readonly Answer[];
  printTable(rows, differences, `${first?.name} and ${second?.name} are alike`);
  const statements = rows.flatMap((row) => row.statements as string[]);
  if (statements.length > 0) printLine("\nWhat would make them alike:");
  for (const statement of statements) printLine(`  ${statement};`);
  for (const text of advice as string[]) printLine(`\n${text}`);
}
