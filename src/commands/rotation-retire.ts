import { type ApiCommand, sentence, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { type Answer, type Columns, cell } from "./output.ts";

const columns: Columns = {
  SECRET: "secretName",
  VERSION: "versionId",
  STATE: "state",
  ENDS: "dueDate",
  "NEXT TRY": "nextTryDate",
  TRIES: "failedTries",
  REASON: "reason",
};

/** When the secret's old credential ends, in words; `undefined` when none was left. */
export function oldCredentialText(retirements: readonly Answer[]): string | undefined {
  const newest = retirements.find(({ what }) => what === "credential");
  if (!newest) return undefined;
  const { state, dueDate, endedDate, reason, versionId } = newest;
  const why = reason === undefined ? "" : `: ${reason}`;
  if (state === "done") return `ended ${cell(endedDate)} (version ${versionId})`;
  if (state === "canceled") return `is kept (version ${versionId})`;
  return `ends ${cell(dueDate)} (version ${versionId}, ${state}${why})`;
}

export const retirements: ApiCommand = {
  usage: "retirements [secret]",
  about: "list when old credentials end at their targets, newest first",
  examples: ["rekey rotation retirements app/db", "rekey rotation retirements --state blocked"],
  operation: "retirements/list",
  pages: "retirements",
  options: {
    "--max <number>": "how many, default 100",
    "--state <state>": "only those that are waiting, running, blocked, done or canceled",
  },
  most: 100,
  input: ({ args, options }) => ({ secretId: args[0], state: options.state }),
  show: table("retirements", columns, "no old credential waits to be ended"),
};

export const retire: ApiCommand = {
  usage: "retire <secret> <version>",
  about: "end an old credential at once, before its grace period is over",
  examples: ["rekey rotation retire app/key 7c2b6e0a-31b8-4f0e-8d0e-2f4c4f1d9a55 --now"],
  options: { "--now": "whoever still uses it is refused from now on" },
  operation: "retirements/run-now",
  input({ args, options }) {
    if (options.now !== true)
      throw new CommandError(
        2,
        "by itself it ends when its time has come (rekey rotation retirements): give --now to end it now",
      );
    return { secretId: args[0], versionId: args[1] };
  },
  show: sentence(
    ({ name, versionId }) =>
      `the credential of version ${versionId} of ${name} is being ended; rekey rotation status ${name} shows how it goes`,
  ),
};

export const keep: ApiCommand = {
  usage: "keep <secret> <version>",
  about: "leave an old credential alive at its target until the next rotation",
  examples: ["rekey rotation keep app/key 7c2b6e0a-31b8-4f0e-8d0e-2f4c4f1d9a55"],
  operation: "retirements/cancel",
  input: ({ args }) => ({ secretId: args[0], versionId: args[1] }),
  show: sentence(({ name, versionId }) => `the credential of version ${versionId} of ${name} is not ended`),
};
