import type { Command } from "commander";
import { callApi } from "./api-client.ts";
import { type ApiCommand, addNoun, fields } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { type Answer, printFields, printLine, printTable } from "./output.ts";

/** Commands on a store that was restored. */
export function addQuarantineCommands(program: Command): void {
  addNoun(program, "quarantine", "After a restore: what Rekey holds back until somebody allows it", [status, plan, release]);
}

const stands = { Quarantined: "quarantined", Since: "sinceDate", Why: "reason" };

const status: ApiCommand = {
  usage: "status",
  about: "tell whether rotations and all else at targets are held back, and why",
  examples: ["rekey quarantine status"],
  operation: "quarantine/status",
  show: fields(stands),
};

const plan: ApiCommand = {
  usage: "plan",
  about: "list what would be done once the quarantine is over; nothing is touched for that",
  examples: ["rekey quarantine plan"],
  operation: "quarantine/plan",
  show: showPlan,
};

function showPlan(answer: Answer): void {
  printFields(answer, stands);
  const columns = { SECRET: "secretName", WHAT: "what", DUE: "dueDate", "WHAT IS DONE": "will" };
  printTable(answer.plan as readonly Answer[], columns, "nothing waits to be done");
  if (answer.complete === false) printLine("There is more than is shown.");
}

const release: ApiCommand = {
  usage: "release",
  about: "end the quarantine: rotations go on, with the check of what each target takes",
  examples: ["rekey quarantine release", "rekey quarantine release --yes"],
  notes:
    "Values that were changed after the backup was made log in nowhere: their rotations use the superuser that masterarn names, or are blocked and say what would help.",
  operation: "quarantine/release",
  options: {
    "--keep-retirements": "end old credentials when the restored store says so; else that is called off",
    "--yes": "do not ask",
  },
  async ask({ options }, connection) {
    if (options.yes !== true) {
      if (options.json !== true) showPlan(await callApi(connection, "quarantine/plan", {}));
      if (!(await agreed())) throw new CommandError(1, "nothing was changed; --yes ends the quarantine without asking");
    }
    return callApi(connection, "quarantine/release", options.keepRetirements === true ? { keepRetirements: true } : {});
  },
  show: ({ retirementsCalledOff, rotationsGivenUp }) => {
    printLine("the quarantine is over; rekey rotation status shows how rotations go on");
    if (Number(retirementsCalledOff) > 0)
      printLine(`${retirementsCalledOff} old credentials stay at their targets: end them by hand`);
    if (Number(rotationsGivenUp) > 0)
      printLine(`${rotationsGivenUp} rotations were given up: look at their targets, then start them again`);
  },
};

/** Above what is held back by it. */
export function showQuarantine(quarantine: Answer | undefined): void {
  if (!quarantine) return;
  printLine(`Quarantined: ${quarantine.reason}. Nothing is done at any target before rekey quarantine release;`);
  printLine("rekey quarantine plan shows what would be.\n");
}

async function agreed(): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return false;
  const { confirm } = await import("@clack/prompts");
  return (await confirm({ message: "End the quarantine?", initialValue: false })) === true;
}
