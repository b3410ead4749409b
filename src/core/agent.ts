/** What agents may be and send. */
export const agentLimits = {
  kinds: 64,
  nameChars: 128,
  versionChars: 64,
  /** Of one poll. */
  waitSeconds: 50,
  jobsAtOnce: 64,
  held: 256,
  answersAtOnce: 64,
  replyChars: 262_144,
  /** Jobs of one agent that are queued or not answered. */
  open: 256,
} as const;

/** As in the tables of rotators and lease targets. */
export const agentKindPattern = /^[a-z0-9][a-z0-9-]{0,63}$/;
/** Control characters would end up in terminals. */
export const agentNamePattern = /^[^\p{Cc}]{1,128}$/u;

/** All that an agent may do: fetch and answer its own jobs. */
export const agentPolicy = (account: string, id: string): string =>
  allow(["PollAgentJobs", "AnswerAgentJobs"], `arn:aws:rekey:*:${account}:agent/${id}`);

/** All that an enrolment token is good for. */
export const enrolmentPolicy = (account: string, network: string): string =>
  allow(["EnrolAgent"], `arn:aws:rekey:*:${account}:network/${network}`);

function allow(names: readonly string[], resource: string): string {
  const statement = { Effect: "Allow", Action: names.map((name) => `rekey:${name}`), Resource: resource };
  return JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
}

/** What somebody hands to a new agent. */
export interface EnrolmentToken {
  readonly id: string;
  /** Bearer token that is good for enrolling one agent. */
  readonly secret: string;
  readonly network: string;
  /** RFC 7638 thumbprints of the keys that the server may sign with: its first answer is not taken on trust. */
  readonly keys: readonly string[];
}

const tokenPrefix = "rekey-enrol.";
const maxTokenChars = 4096;

export const enrolmentTokenText = (token: EnrolmentToken): string =>
  tokenPrefix + Buffer.from(JSON.stringify(token)).toString("base64url");

/** `undefined` when it is none. */
export function parseEnrolmentToken(text: string): EnrolmentToken | undefined {
  if (!text.startsWith(tokenPrefix) || text.length > maxTokenChars) return undefined;
  try {
    const token: unknown = JSON.parse(Buffer.from(text.slice(tokenPrefix.length), "base64url").toString("utf8"));
    return isToken(token) ? token : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isToken(value: unknown): value is EnrolmentToken {
  if (typeof value !== "object" || value === null) return false;
  const { id, secret, network, keys } = value as Record<string, unknown>;
  const texts = [id, secret, network].every((part) => typeof part === "string" && part !== "");
  return texts && Array.isArray(keys) && keys.length > 0 && keys.every((key) => typeof key === "string");
}
