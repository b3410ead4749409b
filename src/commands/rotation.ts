import type { Command } from "commander";
import { callApi, callPages, rowsOf } from "./api-client.ts";
import { type ApiCommand, addNoun, sentence, table } from "./api-command.ts";
import { type Answer, type Columns, cell, printFields, printLine, printTable } from "./output.ts";
import { showQuarantine } from "./quarantine.ts";
import { adopt } from "./rotation-adopt.ts";
import { check, parity } from "./rotation-check.ts";
import { policy } from "./rotation-policy.ts";
import { keep, oldCredentialText, retire, retirements } from "./rotation-retire.ts";
import { setup } from "./rotation-setup.ts";

/** Commands on rotations. */
export function addRotationCommands(program: Command): void {
  addNoun(program, "rotation", "Set up, look at and stop rotations, and end old credentials", [
    setup,
    status,
    check,
    adopt,
    parity,
    history,
    cancel,
    retirements,
    retire,
    keep,
    policy,
  ]);
}

const stands: Columns = {
  SECRET: "secretName",
  STATE: "state",
  STEP: "step",
  TRIES: "failedTries",
  BEGUN: "startedDate",
  "NEXT TRY": "nextTryDate",
  REASON: "reason",
};

const details: Columns = {
  Secret: "secretName",
  Version: "versionId",
  "In place of": "followsVersionId",
  "Goes on as": "followedByVersionId",
  State: "state",
  Step: ({ state, step }) => (state === "succeeded" ? undefined : step),
  "Only a test": ({ testOnly }) => testOnly || undefined,
  How: "strategy",
  "Failed tries": "failedTries",
  Reason: "reason",
  Remedy: "remedy",
  "Waits for": "waitsFor",
  Begun: "startedDate",
  Ended: "endedDate",
  "Next try": "nextTryDate",
  "Gives up": "windowEndsDate",
  "Worked on by": "claimedBy",
  "At the longest until": "claimedUntilDate",
  Function: "functionArn",
  "Old credential": "oldCredential",
  Heartbeat: "heartbeat",
  "Next rotation": "nextRotation",
};

const tryColumns: Columns = { TRIED: "date", STEP: "step", OUTCOME: "outcome", REASON: "reason" };

/** A secret's newest rotation, with its tries that failed, when the old credential ends, and when the next one comes. */
function showNewest(newest: Answer, answer: Answer): void {
  const oldCredential = oldCredentialText(rowsOf(answer, "retirements"));
  const heartbeat = heartbeatText(rowsOf(answer, "heartbeats")[0]);
  printFields({ ...newest, oldCredential, heartbeat, nextRotation: nextRotationText(answer) }, details);
  const tries = rowsOf(newest, "tries");
  if (tries.length === 0) return;
  printLine("");
  printTable(tries, tryColumns, "");
}

const heartbeatColumns: Columns = { SECRET: "secretName", CREDENTIAL: "meaning", SINCE: "sinceDate", "LAST TRY": "lastTryDate" };

/** Those that do not log in. */
function showHeartbeats(heartbeats: readonly Answer[]): void {
  if (heartbeats.length === 0) return;
  printLine("");
  printTable(heartbeats, heartbeatColumns, "");
}

function heartbeatText(heartbeat: Answer | undefined): string | undefined {
  if (!heartbeat) return undefined;
  const { meaning, sinceDate, lastTryDate } = heartbeat;
  return `${meaning}, since ${cell(sinceDate)}; last tried ${cell(lastTryDate)}`;
}

function nextRotationText({ rotationEnabled, nextRotationDate }: Answer): string {
  if (rotationEnabled !== true) return "none, rotation is off";
  return nextRotationDate === undefined ? "when somebody asks for it" : `by ${cell(nextRotationDate)}`;
}

const status: ApiCommand = {
  usage: "status [secret]",
  about: "show a secret's newest rotation, or all that run or are blocked",
  examples: ["rekey rotation status app/db"],
  operation: "rotations/list",
  async ask({ args }, connection) {
    const which = args[0] === undefined ? { failing: true } : { secretId: args[0] };
    const { heartbeats } = await callPages(connection, "rotations/heartbeats", "heartbeats", which);
    if (args[0] !== undefined) {
      const { rotationEnabled, nextRotationDate } = await callApi(connection, "secrets/describe", { secretId: args[0] });
      return {
        rotationEnabled,
        nextRotationDate,
        ...(await callApi(connection, "rotations/list", { secretId: args[0], limit: 1 })),
        ...(await callApi(connection, "retirements/list", { secretId: args[0], limit: 10 })),
        heartbeats,
      };
    }
    const running = await callPages(connection, "rotations/list", "rotations", { state: "running", limit: 1000 });
    const blocked = await callPages(connection, "rotations/list", "rotations", { state: "blocked", limit: 1000 });
    return { ...running, rotations: [...rowsOf(blocked, "rotations"), ...rowsOf(running, "rotations")], heartbeats };
  },
  show: (answer, { args }) => {
    const { rotations, heartbeats, quarantine } = answer;
    showQuarantine(quarantine as Answer | undefined);
    const all = rotations as readonly Answer[];
    const [newest] = all;
    if (args[0] === undefined) printTable(all, stands, "no rotation runs or is blocked");
    else if (newest) showNewest(newest, answer);
    else printLine(`${args[0]} was never rotated. Next rotation: ${nextRotationText(answer)}`);
    if (args[0] === undefined) showHeartbeats(heartbeats as readonly Answer[]);
  },
};

const history: ApiCommand = {
  usage: "history [secret]",
  about: "list the rotations of a secret, or of all, newest first",
  examples: ["rekey rotation history app/db --state failed"],
  operation: "rotations/list",
  pages: "rotations",
  options: {
    "--max <number>": "how many, default 100",
    "--state <state>": "only those that are running, succeeded, failed, canceled, abandoned or blocked",
  },
  most: 100,
  input: ({ args, options }) => ({ secretId: args[0], state: options.state }),
  show: table(
    "rotations",
    {
      BEGUN: "startedDate",
      ENDED: "endedDate",
      SECRET: "secretName",
      STATE: "state",
      TRIES: "failedTries",
      VERSION: "versionId",
      REASON: "reason",
    },
    "no rotations",
  ),
};

const cancel: ApiCommand = {
  usage: "cancel <secret>",
  about: "turn a secret's rotation off and stop the one under way",
  examples: ["rekey rotation cancel app/db"],
  operation: "secrets/cancel-rotation",
  input: ({ args }) => ({ secretId: args[0] }),
  show: sentence(({ name }) => `rotation of ${name} is off; rekey secret rotate ${name} turns it on again`),
};
