import { z } from "zod";
import { agentKindPattern, agentLimits, agentNamePattern } from "../../core/agent.ts";
import { ServiceError } from "../../core/error.ts";
import { networkNamePattern } from "../../core/network.ts";
import type { Principal } from "../../core/principal.ts";
import { agentArn } from "../../core/rekey-arn.ts";
import type { SigningKeyRecord } from "../../core/signing-key.ts";
import { type Agent, agentGoneMs } from "../../store/agents.ts";
import type { Call, Resource } from "../operation.ts";

export const networkName = z.string().min(1).max(64).regex(networkNamePattern);
export const agentId = z.string().min(1).max(64);
export const version = z
  .string()
  .min(1)
  .max(agentLimits.versionChars)
  .regex(/^[\w.+-]+$/);
export const kinds = z.array(z.string().regex(agentKindPattern)).max(agentLimits.kinds);
export const agentName = z.string().min(1).max(agentLimits.nameChars).regex(agentNamePattern);

/** The agent that calls, by its token: whatever else it says, it speaks for itself. @throws ServiceError AccessDeniedException */
export function callingAgent({ principal }: Call): NonNullable<Principal["agent"]> {
  if (principal.agent?.isEnrolled !== true)
    throw new ServiceError(
      "AccessDeniedException",
      "Only an agent, with the token that it got when it was enrolled, may call this.",
    );
  return principal.agent;
}

/** Of agents: itself. */
export function ownAgent(_input: unknown, call: Call): Resource {
  const { principal, services } = call;
  return { arn: principal.agent?.isEnrolled === true ? principal.arn : agentArn(services, "*"), context: {} };
}

export function shownAgent(agent: Agent, nowMs: number) {
  return {
    AgentId: agent.id,
    Arn: agent.arn,
    Network: agent.network,
    Name: agent.name,
    State: stateOf(agent, nowMs),
    Version: agent.version,
    Kinds: agent.kinds,
    EnrolledAt: new Date(agent.enrolledAt),
    EnrolledBy: agent.enrolledBy,
    SeenAt: new Date(agent.seenAt),
    ...(agent.clockSkewMs === undefined ? {} : { ClockSkewMs: agent.clockSkewMs }),
    ...(agent.copiedAt === undefined ? {} : { CopiedAt: new Date(agent.copiedAt) }),
  };
}

function stateOf({ awayAt, seenAt, revokedAt }: Agent, nowMs: number): "live" | "away" | "gone" | "revoked" {
  if (revokedAt !== undefined) return "revoked";
  if (nowMs - seenAt >= agentGoneMs) return "gone";
  return awayAt === undefined ? "live" : "away";
}

/** For those who follow from a key that they trust to the one that signs now. */
export const shownKey = ({ publicKey, endorsement }: SigningKeyRecord) => ({ Key: publicKey, Endorsement: endorsement });
