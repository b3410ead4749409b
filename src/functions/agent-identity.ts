import type { JWK } from "jose";
import { z } from "zod";
import type { EnrolmentToken } from "../core/agent.ts";
import { parsedJson } from "../core/json-object.ts";
import { type FarKeys, newFarKeys, readFarKeys, readKeySet } from "../crypto/message-keys.ts";

/** Who an agent is: what it keeps in `agent.json`. */
export interface AgentIdentity {
  readonly server: string;
  /** Certificates in PEM to trust for it in place of those of the system. */
  readonly ca?: string | undefined;
  /** Of the token that it was made with. */
  readonly enrolmentId: string;
  /** Private. */
  readonly keys: FarKeys;
  /** Absent: the keys are made, and the server has not answered yet. */
  readonly enrolled?: Enrolled | undefined;
}

export interface Enrolled {
  readonly agentId: string;
  readonly arn: string;
  readonly network: string;
  readonly name: string;
  /** Secret. */
  readonly token: string;
  /** Id of the installation. */
  readonly issuer: string;
  readonly trust: Trust;
}

/** What the server may sign with. */
export interface Trust {
  /** Public. */
  readonly keySet: readonly JWK[];
  /** The last ones: they say when the older of the keys end. */
  readonly endorsements: readonly string[];
}

const name = z.string().min(1).max(256);
const identityShape = z.strictObject({
  version: z.literal(1),
  server: z.string(),
  ca: z.string().optional(),
  enrolmentId: z.string(),
  keys: z.unknown(),
  enrolled: z
    .strictObject({
      agentId: name,
      arn: z.string(),
      network: name,
      name,
      token: z.string(),
      issuer: z.string(),
      trust: z.strictObject({ keySet: z.array(z.unknown()), endorsements: z.array(z.string()) }),
    })
    .optional(),
});

/** `undefined` when the text is not what `writeIdentity` gave, all of it. */
export async function readIdentity(text: string): Promise<AgentIdentity | undefined> {
  const { data } = identityShape.safeParse(parsedJson(text));
  const keys = data && (await readFarKeys(data.keys));
  if (!data || !keys) return undefined;
  const { server, ca, enrolmentId, enrolled } = data;
  const begun = { server, ca, enrolmentId, keys };
  if (!enrolled) return begun;
  const keySet = await readKeySet({ keys: enrolled.trust.keySet });
  const { endorsements } = enrolled.trust;
  return keySet && { ...begun, enrolled: { ...enrolled, trust: { keySet, endorsements } } };
}

/** Holds private keys and a token. */
export const writeIdentity = (identity: AgentIdentity): string => `${JSON.stringify({ version: 1, ...identity }, null, 2)}\n`;

/** One whose keys the server has not seen. */
export const newIdentity = async (at: Pick<AgentIdentity, "server" | "ca">, { id }: EnrolmentToken): Promise<AgentIdentity> => ({
  ...at,
  enrolmentId: id,
  keys: await newFarKeys(),
});
