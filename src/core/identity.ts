import type { Principal } from "./principal.ts";

/** Source: IAM User Guide, "IAM and AWS STS quotas" (defaults; a trust policy's quota is AWS's raised one). */
export const identityLimits = {
  users: 5000,
  roles: 1000,
  groups: 300,
  groupsPerUser: 10,
  usersPerGroup: 1000,
  policies: 1500,
  oidcProviders: 100,
  clientIdsPerProvider: 100,
  accessKeysPerUser: 2,
  tokensPerPrincipal: 100,
  policiesPerPrincipal: 10,
  versionsPerPolicy: 5,
  tagsPerPrincipal: 50,
  policyChars: 6144,
  trustPolicyChars: 4096,
  sessionPolicyChars: 2048,
  sessionPolicyArns: 10,
  descriptionChars: 1000,
} as const;

/** Names of users, roles, groups and policies. Source: IAM API reference, UserName, RoleName, GroupName, PolicyName. */
export const userNamePattern = /^[\w+=,.@-]{1,64}$/;
export const roleNamePattern = /^[\w+=,.@-]{1,64}$/;
export const groupNamePattern = /^[\w+=,.@-]{1,128}$/;
export const policyNamePattern = /^[\w+=,.@-]{1,128}$/;
/** Source: STS API reference, AssumeRole. */
export const sessionNamePattern = /^[\w+=,.@-]{2,64}$/;
export const externalIdPattern = /^[\w+=,.@:/-]{2,1224}$/;

export const rootArn = (account: string): string => `arn:aws:iam::${account}:root`;
export const userArn = (account: string, name: string): string => `arn:aws:iam::${account}:user/${name}`;
export const roleArn = (account: string, name: string): string => `arn:aws:iam::${account}:role/${name}`;
export const groupArn = (account: string, name: string): string => `arn:aws:iam::${account}:group/${name}`;
export const policyArn = (account: string, name: string): string => `arn:aws:iam::${account}:policy/${name}`;
export const sessionArn = (account: string, role: string, session: string): string =>
  `arn:aws:sts::${account}:assumed-role/${role}/${session}`;

/** `https://issuer.example/path` is named by what follows `://`, in ARNs and in condition keys alike. */
export const issuerName = (url: string): string => url.replace(/^https?:\/\//, "").replace(/\/$/, "");
export const oidcProviderArn = (account: string, url: string): string =>
  `arn:aws:iam::${account}:oidc-provider/${issuerName(url)}`;

/** What stands after the type in `arn:aws:iam::ACCOUNT:user/NAME`; undefined when the ARN is of another type or account. */
export function nameInArn(arn: string, account: string, type: "user" | "role" | "group" | "policy"): string | undefined {
  const prefix = `arn:aws:iam::${account}:${type}/`;
  return arn.startsWith(prefix) && arn.length > prefix.length ? arn.slice(prefix.length) : undefined;
}

const idAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** 20 characters for access keys (`AKIA`, `ASIA`), 21 for users, roles and groups (`AIDA`, `AROA`, `AGPA`). `random` gives one byte a character. */
export function identityId(prefix: "AKIA" | "ASIA" | "AIDA" | "AROA" | "AGPA", random: (bytes: number) => Uint8Array): string {
  const length = prefix === "AKIA" || prefix === "ASIA" ? 16 : 17;
  return prefix + Array.from(random(length), (byte) => idAlphabet[byte & 31]).join("");
}

/** 30 random bytes as the 40 base64 characters that AWS's secret access keys have. */
export const newSecretAccessKey = (random: (bytes: number) => Uint8Array): string => Buffer.from(random(30)).toString("base64");

/** What a bearer token is for. Source: Doppler's reference, "Auth token formats"; those of agents are Rekey's own. */
export const tokenPrefixes = {
  personal: "dp.pt",
  cli: "dp.ct",
  service: "dp.st",
  service_account: "dp.sa",
  service_account_identity: "dp.said",
  agent: "dp.ag",
  agent_enrolment: "dp.ae",
} as const;

export type TokenKind = keyof typeof tokenPrefixes;

/** The kind's prefix, of service tokens the config's name, and 40 letters and digits, each equally likely. */
export function newTokenText(kind: TokenKind, random: (bytes: number) => Uint8Array, config?: string): string {
  const text = randomText(tokenAlphabet, 40, random);
  return `${tokenPrefixes[kind]}.${config === undefined ? "" : `${config}.`}${text}`;
}

/** Letters and digits that people do not mistake for each other. */
const codeAlphabet = "abcdefghjkmnpqrstuvwxyz23456789";

/** What two screens show for people to compare: `k3p9-x7tm`. */
export function newLoginCode(random: (bytes: number) => Uint8Array): string {
  return `${randomText(codeAlphabet, 4, random)}-${randomText(codeAlphabet, 4, random)}`;
}

/** 40 letters and digits, for a program alone. */
export const newPollingCode = (random: (bytes: number) => Uint8Array): string => randomText(tokenAlphabet, 40, random);

function randomText(alphabet: string, length: number, random: (bytes: number) => Uint8Array): string {
  const fair = 256 - (256 % alphabet.length);
  let text = "";
  while (text.length < length) {
    for (const byte of random(64)) {
      if (byte < fair && text.length < length) text += alphabet[byte % alphabet.length];
    }
  }
  return text;
}

/** The account's owner: may do everything without a policy, but a resource policy may still deny. */
export function rootPrincipal(account: string): Principal {
  return { kind: "root", arn: rootArn(account), accountId: account, userId: account, tags: {}, policies: [] };
}
