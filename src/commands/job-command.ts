import { setTimeout as sleep } from "node:timers/promises";
import { type Connection, callApi } from "./api-client.ts";
import type { Show } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { type Answer, type Columns, printLine, printTable } from "./output.ts";
import { withProgress } from "./progress.ts";

const firstPollMs = 50;
const longestPollMs = 1_000;

/** Begins work at a target and waits for its end. @throws CommandError when it could not be done, in its own words */
export async function runJob(connection: Connection, operation: string, input: object, what: string): Promise<Answer> {
  const { jobId } = await callApi(connection, operation, input);
  const ended = await withProgress(what, () => waitFor(connection, String(jobId)));
  if (ended.state === "failed") throw new CommandError(1, String(ended.error));
  return { jobId, ...(ended.result as Answer) };
}

async function waitFor(connection: Connection, jobId: string): Promise<Answer> {
  for (let pauseMs = firstPollMs; ; pauseMs = Math.min(pauseMs * 1.5, longestPollMs)) {
    const job = await callApi(connection, "rotations/get-job", { jobId });
    if (job.state !== "queued" && job.state !== "running") return job;
    await sleep(pauseMs);
  }
}

const findingColumns: Columns = {
  STEP: "step",
  FINDING: ({ warning }) => (warning === true ? "warning" : "problem"),
  WHY: "problem",
  "WHAT HELPS": "remedy",
};

/** What a pre-flight found. */
export const showFindings: Show = (answer) => {
  for (const text of (answer.passed ?? []) as string[]) printLine(`ok: ${text}`);
  const findings = answer.findings as readonly Answer[];
  if (findings.length > 0) printTable(findings, findingColumns, "");
  printLine(answer.ok === true ? "a rotation would work" : "a rotation would fail");
};

/** Scripts ask the exit code whether something was found. */
export function exitOnProblem(answer: Answer): Answer {
  if (answer.ok === false) process.exitCode = 1;
  return answer;
}
