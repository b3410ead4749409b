import type { Command } from "commander";
import { type Connection, callPages, rowsOf } from "./api-client.ts";
import { type ApiCommand, addApiCommand, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { confirmed } from "./config-command.ts";
import { type Answer, printLine } from "./output.ts";
import { numberOf } from "./typed-values.ts";

/** Commands that manage the agents of networks. */
export function addAgentAdminCommands(noun: Command): void {
  for (const command of [list, enrollToken, revoke]) addApiCommand(noun, command);
}

const kindsOf = ({ kinds }: Answer): string => (kinds as readonly string[]).join(",") || "none";

/** Beyond it the agent refuses every message. */
const worstSkewMs = 30_000;

function clockOf({ clockSkewMs }: Answer): string {
  if (typeof clockSkewMs !== "number") return "";
  const seconds = `${clockSkewMs >= 0 ? "+" : ""}${(clockSkewMs / 1000).toFixed(1)}s`;
  return Math.abs(clockSkewMs) >= worstSkewMs ? `${seconds} WRONG` : seconds;
}

const copiedShownMs = 7 * 24 * 3_600_000;

function stateOf({ state, copiedAt }: Answer): string {
  const isCopied = typeof copiedAt === "string" && Date.now() - Date.parse(copiedAt) < copiedShownMs;
  return isCopied ? `${state} COPIED` : String(state);
}

const list: ApiCommand = {
  usage: "list",
  about: "list agents: live, away (no connection just now) or gone (not seen for 90 seconds)",
  examples: ["rekey agent list", "rekey agent list --network office --json"],
  operation: "agents/list",
  pages: "agents",
  maxPageRows: 200,
  options: { "--network <name>": "of this network only", "--max <number>": "at most so many" },
  input: ({ options }) => ({ network: options.network }),
  show: table(
    "agents",
    {
      NETWORK: "network",
      NAME: "name",
      STATE: stateOf,
      SEEN: "seenAt",
      CLOCK: clockOf,
      VERSION: "version",
      KINDS: kindsOf,
      ID: "agentId",
    },
    "no agents; make one with rekey agent enroll-token",
  ),
};

const enrollToken: ApiCommand = {
  usage: "enroll-token",
  about: "make a token that enrols one agent, once",
  examples: ["rekey agent enroll-token --network office", "rekey agent enroll-token --network office --minutes 10"],
  notes: "The token names the server's signing keys, so that the agent knows the server at its first contact.",
  operation: "agents/create-enrolment",
  options: { "--network <name>": "network that the agent is in", "--minutes <number>": "how long it can be used, default 60" },
  input({ options }) {
    if (options.network === undefined) throw new CommandError(2, "--network is missing: rekey network list shows them");
    const minutes = numberOf(options.minutes, "--minutes");
    return { network: options.network, ...(minutes === undefined ? {} : { expiresInSeconds: minutes * 60 }) };
  },
  show(answer, { options }) {
    printLine(String(answer.token));
    const server = typeof options.endpoint === "string" ? options.endpoint : "URL";
    process.stderr.write(
      `For one agent in network ${answer.network}, until ${answer.expiresAt}; it is not shown again. In the network:
  REKEY_ENROLL=TOKEN rekey agent --server ${server} --data /var/lib/rekey-agent --allow KIND://HOST:PORT
`,
    );
  },
};

const revoke: ApiCommand = {
  usage: "revoke <agent>",
  about: "end an agent for good, by its id, or its name where it is the only one of that name",
  examples: ["rekey agent revoke 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236", "rekey agent revoke db-host-1 --yes"],
  notes: "What is queued for it goes to other agents. What it is working on may still be done.",
  operation: "agents/revoke",
  options: { "--network <name>": "of this network", "--yes": "without being asked" },
  async input({ args, options }, connection) {
    const agentId = await idOf(String(args[0]), options.network, connection);
    await confirmed(options, `Revoke agent ${args[0]}?`);
    return { agentId };
  },
  show({ name, network, movedJobs }) {
    const moved = movedJobs === 0 ? "" : `; ${movedJobs} of its jobs go to others`;
    printLine(`agent ${name} of network ${network} is revoked${moved}`);
  },
};

async function idOf(named: string, network: unknown, connection: Connection): Promise<string> {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(named)) return named;
  const answer = await callPages(connection, "agents/list", "agents", { network, limit: 200 }, undefined);
  const found = rowsOf(answer, "agents").filter(({ name }) => name === named);
  const [one] = found;
  if (found.length === 1 && one) return String(one.agentId);
  throw new CommandError(
    1,
    found.length === 0
      ? `no agent is called ${named}; rekey agent list shows them`
      : `${found.length} agents are called ${named}: name one by its id, as rekey agent list shows it`,
  );
}
