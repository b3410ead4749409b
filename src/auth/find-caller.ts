import { agentPolicy, enrolmentPolicy } from "../core/agent.ts";
import { ServiceError } from "../core/error.ts";
import { roleArn, sessionArn } from "../core/identity.ts";
import { Plaintext } from "../core/plaintext.ts";
import type { PolicyText, Principal } from "../core/principal.ts";
import { agentEnrolmentArn, serviceTokenArn } from "../core/rekey-arn.ts";
import { mergeTags } from "../core/rotation-principal.ts";
import { serviceTokenPolicy } from "../core/service-token.ts";
import type { Session } from "../core/session.ts";
import { findEnrolment } from "../store/agent-enrolments.ts";
import { findAgent } from "../store/agents.ts";
import { findAccessKey, findToken, type SealedSecret, type Token } from "../store/credentials.ts";
import { loadPrincipal } from "../store/identity.ts";
import { defaultDocument } from "../store/policies.ts";
import { loadServiceToken } from "../store/service-tokens.ts";
import type { Sql } from "../store/sql.ts";

interface Place {
  readonly sql: Sql;
  readonly account: string;
  readonly region: string;
}

/** A caller as found by its credential. */
export interface Known {
  readonly principal: Principal;
  readonly expiresAt?: number;
}

export const invalidToken = () =>
  new ServiceError("UnrecognizedClientException", "The security token included in the request is invalid.");
export const expiredToken = () =>
  new ServiceError("ExpiredTokenException", "The security token included in the request is expired");

/** Whose long-term access key it is, and its sealed secret; undefined when unknown, disabled, or of nobody. */
export async function findKey({ sql, account }: Place, id: string): Promise<(Known & { secret: SealedSecret }) | undefined> {
  const key = await findAccessKey(sql, id);
  if (key?.state !== "Active") return undefined;
  const principal = await loadPrincipal(sql, account, key.principalArn);
  return principal && { principal: { ...principal, accessKeyId: id }, secret: key };
}

/** Whose bearer token has this hash; undefined when unknown, disabled, or of nobody. An expired one is found. */
export async function findTokenHolder(place: Place, hash: string): Promise<Known | undefined> {
  const token = await findToken(place.sql, hash);
  if (token?.state !== "Active") return undefined;
  const principal = await loadHolder(place, token);
  const expiry = token.expiresAt === undefined ? {} : { expiresAt: token.expiresAt };
  return principal && { principal: { ...principal, accessKeyId: token.id }, ...expiry };
}

function loadHolder(place: Place, { kind, id, principalArn }: Token): Promise<Principal | undefined> {
  if (kind === "service") return loadTokenPrincipal(place, id);
  if (kind === "agent") return loadAgentPrincipal(place, id);
  if (kind === "agent_enrolment") return loadEnrolmentPrincipal(place, id);
  return loadPrincipal(place.sql, place.account, principalArn);
}

/** An agent acts for nobody but itself; undefined when it was revoked. */
async function loadAgentPrincipal({ sql, account }: Place, id: string): Promise<Principal | undefined> {
  const found = await findAgent(sql, id);
  if (found === undefined || found.revokedAt !== undefined) return undefined;
  const policies = [{ name: "agent", document: agentPolicy(account, id) }];
  const agent = { id, network: found.network, isEnrolled: true };
  return tokenPrincipal(found.arn, account, id, { policies, agent });
}

async function loadEnrolmentPrincipal(place: Place, id: string): Promise<Principal | undefined> {
  const found = await findEnrolment(place.sql, id);
  if (!found) return undefined;
  const policies = [{ name: "agent enrolment", document: enrolmentPolicy(place.account, found.network) }];
  const agent = { id, network: found.network, isEnrolled: false };
  return tokenPrincipal(agentEnrolmentArn(place, id), place.account, id, { policies, agent });
}

/** Its policies bound it too, so that no resource policy that means everyone lets it further. */
function tokenPrincipal(
  arn: string,
  accountId: string,
  userId: string,
  rest: Pick<Principal, "policies" | "agent" | "boundConfig">,
): Principal {
  return { kind: "token", arn, accountId, userId, tags: {}, sessionPolicies: rest.policies, ...rest };
}

/** A service token is a principal of its own; undefined when its config was deleted. */
async function loadTokenPrincipal({ sql, account, region }: Place, id: string): Promise<Principal | undefined> {
  const found = await loadServiceToken(sql, id);
  if (!found) return undefined;
  const arn = serviceTokenArn({ region, account }, id);
  const policies = [{ name: "service token", document: serviceTokenPolicy(arn, account, found.bound, found.access) }];
  return tokenPrincipal(arn, account, id, { policies, boundConfig: found.bound });
}

/** The role behind a session, as it is now; undefined when it was deleted, even if another has its name. */
export async function findSession(
  { sql, account }: Place,
  session: Session,
): Promise<(Known & { secret: Plaintext }) | undefined> {
  const rights = await loadPrincipal(sql, account, roleArn(account, session.roleName));
  if (rights?.userId !== session.roleId) return undefined;
  const limits = await sessionPolicies(sql, session);
  const principal: Principal = {
    ...rights,
    arn: sessionArn(account, session.roleName, session.sessionName),
    userId: `${session.roleId}:${session.sessionName}`,
    tags: mergeTags(rights.tags, session.tags ?? {}),
    ...(session.tags === undefined ? {} : { sessionTags: session.tags }),
    ...(limits === undefined ? {} : { sessionPolicies: limits }),
    accessKeyId: session.accessKeyId,
    tokenIssuedAt: session.issuedAt,
    transitiveTagKeys: session.transitiveTagKeys ?? [],
  };
  return { principal, secret: new Plaintext(session.secretAccessKey), expiresAt: session.expiresAt };
}

/** A named policy that is gone allows nothing; the empty list that may be left does so, too. */
async function sessionPolicies(sql: Sql, { policy, policyArns = [] }: Session): Promise<PolicyText[] | undefined> {
  if (policy === undefined && policyArns.length === 0) return undefined;
  const texts: PolicyText[] = policy === undefined ? [] : [{ name: "session policy", document: policy }];
  for (const arn of policyArns) {
    const document = await defaultDocument(sql, arn);
    if (document !== undefined) texts.push({ name: arn, document });
  }
  return texts;
}
