import type { JWK } from "jose";
import { z } from "zod";
import type { EnrolmentToken } from "../core/agent.ts";
import { type FarKeys, publicFarKeys, readPublicJwk } from "../crypto/message-keys.ts";
import { MessageRefused } from "../crypto/message-refused.ts";
import { openRequest } from "../crypto/messages.ts";
import { followKeys } from "../crypto/signing-key-chain.ts";
import type { AgentConnection } from "./agent-connection.ts";
import type { Enrolled, Trust } from "./agent-identity.ts";

const name = z.string().min(1).max(256);
/** Signing keys of the server as it offers them, oldest first. */
export const offeredKeys = z
  .array(z.object({ key: z.record(z.string(), z.unknown()), endorsement: z.string().max(16_384).optional() }))
  .max(1_000);
export type OfferedKeys = z.output<typeof offeredKeys>;

/** Enough to know when a key ends that was trusted before the newest. */
const mostEndorsements = 4;

/**
 * What to trust from now on: the keys of `trust` that have not ended, and those that follow from them by endorsements.
 * `undefined`: the key that the server signs with now, the last one offered, does not follow from any that is trusted.
 */
export async function trustOffered(trust: Trust, offered: OfferedKeys, nowMs: number): Promise<Trust | undefined> {
  const endorsements = [...trust.endorsements, ...offered.flatMap(({ endorsement = [] }) => endorsement)];
  const keySet = await followKeys(trust.keySet, endorsements, nowMs);
  const newest = offered.at(-1);
  const newestKey = newest && (await readPublicJwk(newest.key, "sig"));
  if (newest && !keySet.some(({ kid }) => kid === newestKey?.kid)) return undefined;
  return { keySet, endorsements: endorsements.slice(-mostEndorsements) };
}

interface Introduction {
  readonly name: string;
  readonly version: string;
  readonly kinds: readonly string[];
}

const answerShape = z.object({ message: z.string(), keys: offeredKeys });
const enrolledShape = z.object({ agentId: name, arn: name, network: name, name, token: z.string().min(1).max(8192) });
const enrolledType = "agent.enrolled";

/**
 * Shows our public keys to the server, and takes its answer if it is signed by a key that the token names, or one that such
 * a key endorsed. May be asked again with the same keys.
 * @throws ServiceError, NoAnswer, MessageRefused
 */
export async function enrol(
  token: EnrolmentToken,
  keys: FarKeys,
  introduction: Introduction,
  { connection, now }: { readonly connection: AgentConnection; now(): number },
): Promise<Enrolled> {
  const publicKeys = publicFarKeys(keys);
  const input = { ...introduction, keys: publicKeys };
  const given = await connection.ask("agents/enrol", input, { token: token.secret, withinMs: 30_000 });
  const answer = answerShape.safeParse(given);
  if (!answer.success) throw new MessageRefused("shape");
  const trust = await firstTrust(token, answer.data.keys, now());
  const audience = publicKeys.signing.kid ?? "";
  const opened = await openRequest(answer.data.message, { keys, keySet: trust.keySet, audience, nowMs: now() });
  const body = enrolledShape.safeParse(opened.body);
  if (opened.type !== enrolledType || !body.success) throw new MessageRefused("shape");
  return { ...body.data, issuer: opened.issuer, trust };
}

/** @throws MessageRefused when no key of the server is one that the token names */
async function firstTrust({ keys: thumbprints }: EnrolmentToken, offered: OfferedKeys, nowMs: number): Promise<Trust> {
  const read = await Promise.all(offered.map(({ key }) => readPublicJwk(key, "sig")));
  const keySet = read.filter((key) => key?.kid !== undefined && thumbprints.includes(key.kid)) as JWK[];
  const trust = keySet.length === 0 ? undefined : await trustOffered({ keySet, endorsements: [] }, offered, nowMs);
  if (!trust) throw new MessageRefused("unknown-key");
  return trust;
}
