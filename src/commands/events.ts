import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { type Connection, callApi, rowsOf } from "./api-client.ts";
import { type ApiCommand, addNoun, pickOptions, type Typed } from "./api-command.ts";
import { type Answer, type Columns, cell, growingTable, printLine, printTable } from "./output.ts";
import { numberOf } from "./typed-values.ts";

const pollMs = 1_000;
/** Shown unless --max says how many. */
const most = 50;

/** Commands on events. */
export function addEventsCommands(program: Command): void {
  addNoun(program, "events", "What changed: secrets, rotations, credentials", [tail]);
}

const columns: Columns = {
  TIME: "date",
  TYPE: "type",
  RESOURCE: "resource",
  DETAIL: ({ detail }) => detailText(detail as Answer),
};

const tail: ApiCommand = {
  usage: "tail",
  about: "show the newest events, the newest last",
  examples: ["rekey events tail --type rotation.", "rekey events tail --follow --json --resource arn:aws:secretsmanager:…"],
  operation: "events/list",
  options: {
    "-f, --follow": "go on with events as they happen, until interrupted",
    "--max <number>": `how many to begin with, default ${most}`,
    "--type <type>": "of this type, such as rotation.succeeded; all that begin so when it ends with a full stop",
    "--resource <arn>": "of this resource",
  },
  notes: "With --follow --json each event is one line.",
  ask: (typed, connection) =>
    callApi(connection, "events/list", { ...asked(typed), newest: numberOf(typed.options.max, "--max") ?? most }),
  show: (answer) => printTable(rowsOf(answer, "events"), columns, "no events"),
  follow,
};

function asked({ options }: Typed): Record<string, unknown> {
  return pickOptions(options, { type: "type", resource: "resource" });
}

async function follow(first: Answer, typed: Typed, connection: Connection): Promise<void> {
  const table = growingTable(columns);
  const print = (answer: Answer) => {
    const events = rowsOf(answer, "events");
    if (typed.options.json === true) for (const event of events) printLine(JSON.stringify(event));
    else if (events.length > 0) table(events);
  };
  for (let answer = first; ; ) {
    print(answer);
    if (answer.more !== true) await sleep(pollMs);
    answer = await callApi(connection, "events/list", { ...asked(typed), limit: 1000, cursor: answer.cursor });
  }
}

/** Names that end in At hold epoch milliseconds. */
const isMoment = (name: string, value: unknown): value is number => name.endsWith("At") && typeof value === "number";

const detailText = (detail: Answer): string =>
  Object.entries(detail)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${isMoment(name, value) ? cell(new Date(value).toISOString()) : String(value)}`)
    .join(" ");
