// Two agents of a network, real processes that die at points of their work, and a way to the server on which messages are cut,
// lost, late and doubled.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type AgentProcess, startAgent } from "../../support/agent-process.ts";
import { nativeOk } from "../../support/aws.ts";
import { type MessageFault, type MessageProxy, startMessageProxy } from "../../support/message-proxy.ts";
import type { RekeyServer } from "../../support/rekey-server.ts";
import { network, type PlannedDeath, type Points, pointsOf } from "./far-points.ts";
import { type FarSides, stoppedWord } from "./far-sides.ts";

interface Agent {
  readonly folder: string;
  readonly proxy: MessageProxy;
  readonly points: Points;
  process: AgentProcess | undefined;
  isStopped: boolean;
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
  /** Of those who are to die, so many are stopped instead: where what one does late is prevented, or does no harm. In [0, 1]. */
  readonly stopRate: number;
}

const agentsAtOnce = 2;
/** Longer than a call at a target may take. */
const longestDelayMs = 9_000;
/** Of a round; what was stopped in the one before goes on within it. */
const mostMomentMs = 1_500;
/** An agent that goes on does what it had before it. */
const settleMs = 1_000;

export async function startAgents(options: AgentsOptions): Promise<FarSides> {
  const { folder, root, port, rules, random, stopRate } = options;
  const agents: Agent[] = [];
  const logs: string[] = [];
  let rate = 0;
  let nextRound = Promise.withResolvers<void>();
  const later: Promise<void>[] = [];
  let faults = 0;
  const program = join(root, "src/cli.ts");
  const draw = (): MessageFault | undefined => {
    if (random() >= rate) return undefined;
    faults += 1;
    const kind = random();
    if (kind < 0.05) return { requestMs: longestDelayMs * random() };
    if (kind < 0.15) return { answerMs: longestDelayMs * random() };
    return kind < 0.4 ? "cut" : kind < 0.65 ? "lose" : kind < 0.85 ? "twice" : "again";
  };
  for (let index = 1; index <= agentsAtOnce; index += 1) {
    const proxy = await startMessageProxy(port);
    proxy.fault = draw;
    const own = join(folder, `agent-${index}`);
    agents.push({ folder: own, proxy, points: pointsOf(root, own), process: undefined, isStopped: false });
  }
  const start = async (agent: Agent, more: NodeJS.ProcessEnv = {}, flags: readonly string[] = []): Promise<void> => {
    const env = { ...agent.points.env, ...more };
    agent.process = await startAgent({ dataFolder: agent.folder, program, env, flags });
  };
  const end = async (agent: Agent, signal: NodeJS.Signals): Promise<void> => {
    await agent.process?.stop(signal);
    logs.push(agent.process?.log() ?? "");
    agent.process = undefined;
    agent.isStopped = false;
  };
  const living = () => agents.filter(({ process }) => process !== undefined);
  const resume = async (agent: Agent): Promise<void> => {
    if (!agent.process || !agent.isStopped) return;
    agent.isStopped = false;
    await agent.points.resume(agent.process);
    await sleep(settleMs);
  };

  return {
    get faults() {
      return faults;
    },
    get isWhole() {
      return agents.every(({ process, isStopped }) => process && !isStopped);
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
      if (next === 0) return;
      nextRound.resolve();
      nextRound = Promise.withResolvers();
    },
    plan(): PlannedDeath {
      const all = living().filter(({ isStopped }) => !isStopped);
      const agent = all[Math.floor(random() * all.length)];
      if (!agent?.process) throw new Error("no agent lives");
      const { process, points } = agent;
      if (random() < stopRate) {
        const gone = async () => {
          process.suspend();
          agent.isStopped = true;
          return `${stoppedWord} an agent, ${points.stopIn(process.log())}`;
        };
        return points.plan(process, random, { gone, stops: true });
      }
      const gone = async () => {
        await end(agent, "SIGKILL");
        return `an agent, ${points.placeIn(process.log())}`;
      };
      return points.plan(process, random, { gone });
    },
    async revive() {
      for (const agent of agents) {
        const others = living().filter((one) => one !== agent && !one.isStopped);
        if (agent.isStopped && others.length > 0 && random() < 0.4) {
          const momentMs = mostMomentMs * random();
          later.push(nextRound.promise.then(() => sleep(momentMs)).then(() => resume(agent)));
        } else await resume(agent);
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
      nextRound.resolve();
      await Promise.all(later);
      for (const agent of agents) {
        await end(agent, "SIGKILL");
        await agent.proxy[Symbol.asyncDispose]();
      }
    },
  };
}
