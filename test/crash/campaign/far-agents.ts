// Two agents of a network, real processes that die at points of their work, and a way to the server on which messages are cut,
// lost, late and doubled.
import { join } from "node:path";
import { type AgentProcess, startAgent } from "../../support/agent-process.ts";
import { nativeOk } from "../../support/aws.ts";
import { type MessageFault, type MessageProxy, startMessageProxy } from "../../support/message-proxy.ts";
import type { RekeyServer } from "../../support/rekey-server.ts";
import { network, type PlannedDeath, type Points, pointsOf } from "./far-points.ts";
import type { FarSides } from "./far-sides.ts";

interface Agent {
  readonly folder: string;
  readonly proxy: MessageProxy;
  readonly points: Points;
  process: AgentProcess | undefined;
}

interface AgentsOptions {
  /** Of the campaign; each agent gets a folder of its own there. */
  readonly folder: string;
  readonly root: string;
  /** Of the server. */
  readonly port: number;
  /** As `--allow` takes them. */
  readonly rules: readonly string[];
  readonly random: () => number;
}

const agentsAtOnce = 2;
/** Longer than a call at a target may take. */
const longestDelayMs = 9_000;

export async function startAgents(options: AgentsOptions): Promise<FarSides> {
  const { folder, root, port, rules, random } = options;
  const agents: Agent[] = [];
  const logs: string[] = [];
  let rate = 0;
  let faults = 0;
  const program = join(root, "src/cli.ts");
  const draw = (): MessageFault | undefined => {
    if (random() >= rate) return undefined;
    faults += 1;
    const kind = random();
    if (kind < 0.1) return longestDelayMs * random();
    return kind < 0.4 ? "cut" : kind < 0.7 ? "lose" : "twice";
  };
  for (let index = 1; index <= agentsAtOnce; index += 1) {
    const proxy = await startMessageProxy(port);
    proxy.fault = draw;
    const own = join(folder, `agent-${index}`);
    agents.push({ folder: own, proxy, points: pointsOf(root, own), process: undefined });
  }
  const start = async (agent: Agent, more: NodeJS.ProcessEnv = {}, flags: readonly string[] = []): Promise<void> => {
    const env = { ...agent.points.env, ...more };
    agent.process = await startAgent({ dataFolder: agent.folder, program, env, flags });
  };
  const end = async (agent: Agent, signal: NodeJS.Signals): Promise<void> => {
    await agent.process?.stop(signal);
    logs.push(agent.process?.log() ?? "");
    agent.process = undefined;
  };
  const living = () => agents.filter(({ process }) => process !== undefined);

  return {
    get faults() {
      return faults;
    },
    serverFlags: [],
    serverEnv: {},
    async introduce(server: RekeyServer) {
      await nativeOk(server, "networks/create", { name: network });
      for (const [index, agent] of agents.entries()) {
        const { token } = await nativeOk(server, "agents/create-enrolment", { network });
        const place = ["--server", `http://127.0.0.1:${agent.proxy.port}`, "--name", `agent-${index + 1}`];
        await start(agent, { REKEY_ENROLL: String(token) }, [...place, ...rules.flatMap((rule) => ["--allow", rule])]);
      }
    },
    faultRate(next) {
      rate = next;
    },
    plan(): PlannedDeath {
      const all = living();
      const agent = all[Math.floor(random() * all.length)];
      if (!agent?.process) throw new Error("no agent lives");
      const { process } = agent;
      return agent.points.plan(process, random, async () => {
        await end(agent, "SIGKILL");
        return `an agent, ${agent.points.placeIn(process.log())}`;
      });
    },
    async revive() {
      for (const agent of agents) {
        if (agent.process) continue;
        // Sometimes it dies once more while it starts.
        const again = random() < 0.2;
        const dies = { POINTS_KILL_AT: String(1 + Math.floor(random() * 25)) };
        if (again)
          await start(agent, dies).then(
            () => undefined,
            () => undefined,
          ); // it may die before it works
        if (again) await end(agent, "SIGKILL");
        await start(agent);
      }
    },
    output: () => [...logs, ...living().map(({ process }) => process?.log() ?? "")].join(""),
    async [Symbol.asyncDispose]() {
      for (const agent of agents) {
        await end(agent, "SIGKILL");
        await agent.proxy[Symbol.asyncDispose]();
      }
    },
  };
}
