import { randomUUID } from "node:crypto";
import { z } from "zod";
import { enrolmentTokenText } from "../../core/agent.ts";
import { ServiceError } from "../../core/error.ts";
import { agentArn, agentEnrolmentArn, networkArn } from "../../core/rekey-arn.ts";
import { type FarKeys, readPublicJwk } from "../../crypto/message-keys.ts";
import { writeRequest } from "../../crypto/messages.ts";
import { findEnrolment, insertEnrolment, useEnrolment } from "../../store/agent-enrolments.ts";
import { type Agent, findNewAgent, insertAgent, replaceAgentToken } from "../../store/agents.ts";
import { addEvent } from "../../store/events.ts";
import { installationId } from "../../store/installation.ts";
import { holdNetwork } from "../../store/networks.ts";
import type { Sql } from "../../store/sql.ts";
import { newToken } from "../identity/new-credentials.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { agentName, kinds, networkName, shownKey, version } from "./agent-input.ts";

const hourSeconds = 3600;
const createInput = z.object({
  Network: networkName,
  ExpiresInSeconds: z
    .number()
    .int()
    .min(60)
    .max(7 * 24 * hourSeconds)
    .default(hourSeconds),
});

export const createAgentEnrolment = defineOperation<z.infer<typeof createInput>, Resource>({
  name: "CreateAgentEnrolment",
  action: "rekey:CreateAgentEnrolment",
  noun: "agents",
  verb: "create-enrolment",
  mode: "write",
  summary: "Makes a token that enrols one agent in a network, once and for a limited time; it is shown in this answer only.",
  input: createInput,
  resource({ Network }, { services }) {
    const arn = networkArn(services, Network);
    return { arn, shown: arn, context: {} };
  },
  async run({ Network: network, ExpiresInSeconds }, _found, call) {
    const { services, principal } = call;
    const createdAt = services.now();
    const expiresAt = createdAt + ExpiresInSeconds * 1000;
    const { id, token: secret, hash: tokenHash } = newToken("agent_enrolment");
    const keys = (await services.signingKeys.served(createdAt)).map(({ kid }) => String(kid));
    const enrolment = { id, network, createdBy: principal.arn, createdAt, expiresAt };
    const arn = agentEnrolmentArn(services, id);
    await call.transaction(async (tx) => {
      await requireNetwork(tx, network);
      await insertEnrolment(tx, { ...enrolment, arn, tokenHash });
    });
    const token = enrolmentTokenText({ id, secret, network, keys });
    return { EnrolmentId: id, Network: network, Token: token, ExpiresAt: new Date(expiresAt) };
  },
});

/** It is not deleted meanwhile. @throws ServiceError ResourceNotFoundException */
async function requireNetwork(tx: Sql, name: string): Promise<void> {
  if (await holdNetwork(tx, name)) return;
  throw new ServiceError("ResourceNotFoundException", `There is no network ${name}; make one: rekey network create ${name}.`);
}

const publicKey = z.record(z.string().max(32), z.unknown());
const enrolInput = z.object({
  Name: agentName,
  Version: version,
  Kinds: kinds,
  Keys: z.object({ Signing: publicKey, Sealing: publicKey }),
});
type EnrolInput = z.infer<typeof enrolInput>;

export const enrolAgent = defineOperation<EnrolInput, Resource>({
  name: "EnrolAgent",
  action: "rekey:EnrolAgent",
  noun: "agents",
  verb: "enrol",
  mode: "write",
  summary:
    "Enrols an agent: the caller shows an enrolment token. The answer is signed by a key that the token names, and sealed to the agent's.",
  input: enrolInput,
  resource({ Name: _name }, { principal, services }) {
    return { arn: networkArn(services, principal.agent?.network ?? "*"), context: {} };
  },
  async run(input, _found, call) {
    const keys = await farKeys(input);
    const { token, hash } = newToken("agent");
    const agent = await enrol(input, keys, hash, call);
    const { signingKeys, sql, now } = call.services;
    const nowMs = now();
    const message = await writeRequest(
      {
        type: "agent.enrolled",
        body: { agentId: agent.id, arn: agent.arn, network: agent.network, name: agent.name, token },
        audience: String(keys.signing.kid),
        id: randomUUID(),
        subject: agent.id,
        step: "enrol",
        fence: 0,
        notBeforeAt: nowMs,
        expiresAt: nowMs + answerMs,
      },
      { key: await signingKeys.current(nowMs), issuer: await installationId(sql), nowMs, receiver: keys },
    );
    return { Message: message.text, Keys: (await signingKeys.chain()).map(shownKey) };
  },
});

const answerMs = 60_000;

/** @throws ServiceError ValidationException */
async function farKeys({ Keys }: EnrolInput): Promise<FarKeys> {
  const [signing, sealing] = [await readPublicJwk(Keys.Signing, "reply"), await readPublicJwk(Keys.Sealing, "enc")];
  if (!signing || !sealing || signing.kid === sealing.kid)
    throw new ServiceError(
      "ValidationException",
      "Keys must be two public keys of P-256, as JWKs, one for signing and another one for sealing.",
    );
  return { signing, sealing };
}

/** A lost answer is healed by asking again with the same keys: nobody else could open it. */
async function enrol(input: EnrolInput, keys: FarKeys, tokenHash: string, call: Call): Promise<Agent> {
  const id = call.principal.agent?.isEnrolled === false ? call.principal.agent.id : undefined;
  const enrolment = id === undefined ? undefined : await findEnrolment(call.sql, id);
  if (!enrolment) throw new ServiceError("AccessDeniedException", "Only an enrolment token can enrol an agent.");
  const [signingKey, sealingKey] = [JSON.stringify(keys.signing), JSON.stringify(keys.sealing)];
  const agentId = randomUUID();
  const enrolledAt = call.services.now();
  return call.transaction(async (tx) => {
    await requireNetwork(tx, enrolment.network);
    if (await useEnrolment(tx, enrolment.id, enrolledAt)) {
      const made = {
        id: agentId,
        arn: agentArn(call.services, agentId),
        network: enrolment.network,
        name: input.Name,
        signingKey,
        sealingKey,
        version: input.Version,
        kinds: input.Kinds,
        enrolledBy: enrolment.createdBy,
        enrolledAt,
      };
      await insertAgent(tx, { ...made, enrolmentId: enrolment.id, tokenHash });
      const detail = { network: made.network, name: made.name };
      await addEvent(tx, { at: enrolledAt, type: "agent.enrolled", resource: made.arn, detail });
      call.describe({ AgentId: agentId });
    } else {
      const known = await findNewAgent(tx, enrolment.id);
      if (known?.signingKey !== signingKey || known.sealingKey !== sealingKey) throw usedBefore();
      await replaceAgentToken(tx, known.id, tokenHash);
      call.describe({ AgentId: known.id });
    }
    const agent = await findNewAgent(tx, enrolment.id);
    if (!agent) throw usedBefore();
    return agent;
  });
}

const usedBefore = () =>
  new ServiceError(
    "PreconditionNotMetException",
    "This enrolment token was used before; make another one: rekey agent enroll-token.",
  );
