import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { agentArn } from "../../core/rekey-arn.ts";
import { agentHint } from "../../store/agent-desk.ts";
import { type Agent, findAgent, listAgents, revokeAgent } from "../../store/agents.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { agentId, networkName, shownAgent } from "./agent-input.ts";
import { createAgentEnrolment, enrolAgent } from "./enrol.ts";
import { answerAgentJobs, pollAgentJobs } from "./work.ts";

const pageRows = 200;
const listInput = z.object({
  Network: networkName.optional(),
  MaxResults: z.number().int().min(1).max(pageRows).optional(),
  NextToken: z.string().min(1).max(64).optional(),
});

const listAgentsOperation = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListAgents",
  action: "rekey:ListAgents",
  noun: "agents",
  verb: "list",
  mode: "read",
  summary: "Lists agents, of one network or of all, with when each was seen last.",
  input: listInput,
  resource: (_input, { services }) => ({ arn: agentArn(services, "*"), context: {} }),
  async run({ Network: network, MaxResults: limit = pageRows, NextToken: after = "" }, _found, { sql, services }) {
    const agents = await listAgents(sql, { network, after, limit: limit + 1 });
    const page = agents.slice(0, limit);
    const last = agents.length > limit ? page.at(-1)?.id : undefined;
    return { Agents: page.map((agent) => shownAgent(agent, services.now())), ...(last === undefined ? {} : { NextToken: last }) };
  },
});

interface AgentResource extends Resource {
  readonly agent: Agent | undefined;
}

const ofAgent = z.object({ AgentId: agentId });

async function agentResource({ AgentId }: z.infer<typeof ofAgent>, call: Call): Promise<AgentResource> {
  const agent = await findAgent(call.sql, AgentId);
  return { arn: agent?.arn ?? agentArn(call.services, AgentId), shown: agentArn(call.services, AgentId), context: {}, agent };
}

const revokeAgentOperation = defineOperation<z.infer<typeof ofAgent>, AgentResource>({
  name: "RevokeAgent",
  action: "rekey:RevokeAgent",
  noun: "agents",
  verb: "revoke",
  mode: "write",
  summary: "Ends an agent for good: its token is refused from now on, and what is queued for it goes to others.",
  input: ofAgent,
  resource: agentResource,
  async run({ AgentId }, { agent }, call) {
    const revoked = agent && (await call.transaction((tx) => revokeAgent(tx, agent.id, call.services.now())));
    if (!revoked) throw new ServiceError("ResourceNotFoundException", `There is no agent ${AgentId}.`);
    call.services.hints.give(agentHint(agent.id));
    return { AgentId: agent.id, Network: agent.network, Name: agent.name, MovedJobs: revoked.moved };
  },
});

/** Agents in private networks: their enrolment, what they fetch and answer, and their end. */
export const agentOperations: readonly Operation[] = [
  createAgentEnrolment,
  enrolAgent,
  pollAgentJobs,
  answerAgentJobs,
  listAgentsOperation,
  revokeAgentOperation,
];
