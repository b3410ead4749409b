import { callApi, rowsOf } from "./api-client.ts";
import type { ApiCommand } from "./api-command.ts";
import { runJob } from "./job-command.ts";
import { type Columns, printLine, printTable } from "./output.ts";

/** Back to an older version that was seen to work. */
export const rollback: ApiCommand = {
  usage: "rollback <name>",
  about: "make the previous version current again, once it was seen to log in",
  examples: ["rekey secret rollback app/db", "rekey secret rollback app/db --to 8c1f… --set-again"],
  operation: "rotations/rollback",
  options: {
    "--to <version>": "go back to this version instead",
    "--set-again": "set its password at the target again when that is refused there",
  },
  notes: `Nothing is changed when the target cannot be reached, or refuses the version and --set-again is not given. A rotation that
runs must end or be canceled first.`,
  async ask({ args, options }, connection) {
    const input = { secretId: args[0], versionId: options.to, ...(options.setAgain === true && { setAgain: true }) };
    return runJob(connection, "rotations/rollback", input, `rolling ${args[0]} back`);
  },
  show: ({ versionId, formerVersionId, setAgain }, { args }) =>
    printLine(
      `${args[0]} is back at version ${versionId}, which ${setAgain === true ? "was set again and " : ""}logs in; version ${formerVersionId} is AWSPREVIOUS now`,
    ),
};

const columns: Columns = {
  STAGE: "stage",
  VERSION: "versionId",
  GENERATION: "generation",
  "IN FORCE": "inForce",
  "VALID UNTIL": "validUntil",
};

/** All values that may work now. */
export const candidates: ApiCommand = {
  usage: "candidates <name>",
  about: "show which versions may work at the target now; --json gives their values too",
  examples: ["rekey secret candidates app/db", "rekey secret candidates app/db --json"],
  operation: "secrets/candidates",
  ask: ({ args }, connection) => callApi(connection, "secrets/candidates", { secretId: args[0] }),
  show: (answer) => printTable(rowsOf(answer, "candidates"), columns, "no version has a value"),
};
