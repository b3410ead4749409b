import { type Connection, callApi } from "./api-client.ts";
import type { ApiCommand } from "./api-command.ts";
import { exitOnProblem, runJob, showFindings } from "./job-command.ts";
import { type Answer, printLine } from "./output.ts";
import { functionArn, ruleOptions, rulesOf } from "./secret.ts";

/** Takes over the rotation of an account that is there already. */
export const adopt: ApiCommand = {
  usage: "adopt <secret>",
  about: "have an existing account rotated from now on, without changing anything at its target now",
  examples: [
    'rekey rotation adopt app/db --function SecretsManagerRDSPostgreSQLRotationMultiUser --schedule "rate(10 days)"',
    "rekey rotation adopt app/db --function SecretsManagerRDSMySQLRotationSingleUser --after-days 30 --yes",
  ],
  operation: "rotations/adopt",
  options: {
    "--function <name>": "rotation function: its ARN, or the name of a built-in one",
    ...ruleOptions,
    "--yes": "configure it when the plan is good, without asking",
  },
  notes: "Shows the plan first. Exit code 1 means that a rotation would fail; nothing is configured then.",
  async ask({ args, options }, connection) {
    const secretId = args[0];
    const rotationLambdaArn = await functionArn(secretId, options, connection);
    const input = { secretId, rotationLambdaArn, rotationRules: rulesOf(options) };
    const plan = exitOnProblem(await runJob(connection, "rotations/adopt", input, `looking at what rotating ${secretId} needs`));
    if (plan.ok !== true) return plan;
    if (options.json !== true) showPlan(plan);
    const go = options.yes === true || (options.json !== true && (await agreed()));
    return { ...plan, configured: go ? await apply(connection, plan) : undefined };
  },
  show(answer, typed) {
    if (answer.ok !== true) return showFindings(answer, typed);
    const { configured } = answer as { configured?: Answer };
    if (configured) printLine(`rotation of ${configured.name} is configured; rekey rotation status ${configured.name} shows it`);
    else printLine("nothing was configured; --yes does it");
  },
};

function showPlan(plan: Answer): void {
  for (const text of plan.passed as string[]) printLine(`ok: ${text}`);
  for (const { problem, remedy } of plan.findings as readonly Answer[]) printLine(`warning: ${problem}. ${remedy}`);
  printLine("\nThe plan:");
  for (const text of plan.plan as string[]) printLine(`  ${text}`);
}

async function agreed(): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return false;
  const { confirm } = await import("@clack/prompts");
  return (await confirm({ message: "Configure rotation so?", initialValue: false })) === true;
}

const apply = (connection: Connection, { jobId }: Answer): Promise<Answer> =>
  callApi(connection, "rotations/apply-adoption", { jobId });
