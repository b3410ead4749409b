// All of "who may call" over one store: real keys, authentication, authorization, dispatch and STS door; only no socket.
import { hash, randomBytes, randomUUID } from "node:crypto";
import { pino } from "pino";
import { createAuthenticator } from "../../src/auth/authenticate.ts";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import type { LimiterOptions } from "../../src/auth/login-limiter.ts";
import { createSessionTokens } from "../../src/auth/session-token.ts";
import { createWebIdentities } from "../../src/auth/web-identity.ts";
import type { AuditRecord } from "../../src/core/audit.ts";
import type { ServiceError } from "../../src/core/error.ts";
import { identityId, newSecretAccessKey, rootArn } from "../../src/core/identity.ts";
import { Plaintext } from "../../src/core/plaintext.ts";
import { isRegion } from "../../src/core/region.ts";
import { deriveSigningKey, type SignedRequest, stringToSign } from "../../src/core/sigv4.ts";
import { canonicalRequest } from "../../src/core/sigv4-canonical.ts";
import { Envelope } from "../../src/crypto/envelope.ts";
import { SealedCache } from "../../src/crypto/sealed-cache.ts";
import { answerAwsQuery, type QueryAnswer } from "../../src/http/aws-query.ts";
import { type Api, dispatch, type Identified } from "../../src/http/dispatch.ts";
import type { RawRequest } from "../../src/http/raw-request.ts";
import { stsOperations } from "../../src/operations/identity/index.ts";
import { operations } from "../../src/operations/index.ts";
import type { Services } from "../../src/operations/services.ts";
import { createSigningKeys } from "../../src/signing-keys.ts";
import { AgentDesk } from "../../src/store/agent-desk.ts";
import { createAccessKey } from "../../src/store/credentials.ts";
import { Hints } from "../../src/store/hints.ts";
import { createIdentityVersion } from "../../src/store/identity-version.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import { SecretCache } from "../../src/store/secret-cache.ts";
import type { Sql } from "../../src/store/sql.ts";
import { changeCounter } from "../../src/store/sqlite.ts";
import { account, openRing, randomRootKey, region } from "./keys.ts";
import { noFunctions } from "./no-functions.ts";

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

interface Signing {
  readonly service?: string;
  readonly body?: string;
  readonly at?: number;
  readonly sourceIp?: string;
}

const amzDate = (atMs: number): string => `${new Date(atMs).toISOString().slice(0, 19).replace(/[-:]/g, "")}Z`;

/** A request as a client signs it. */
export function signedRequest(credentials: Credentials, signing: Signing = {}): RawRequest {
  const { service = "secretsmanager", body = "{}", at = Date.now(), sourceIp = "127.0.0.1" } = signing;
  const date = amzDate(at);
  const headers: Record<string, string> = { host: "rekey.example", "x-amz-date": date };
  if (credentials.sessionToken !== undefined) headers["x-amz-security-token"] = credentials.sessionToken;
  const names = Object.keys(headers).sort();
  const bytes = Buffer.from(body);
  const base: SignedRequest = { method: "POST", path: "/", query: "", headers, body: bytes };
  const canonical = canonicalRequest(base, names, hash("sha256", bytes)) ?? "";
  const scope = { amzDate: date, date: date.slice(0, 8), region, service };
  const key = deriveSigningKey(credentials.secretAccessKey, scope.date, region, service);
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope.date}/${region}/${service}/aws4_request, SignedHeaders=${names.join(";")}, Signature=${key.sign(stringToSign(scope, canonical))}`;
  return {
    requestId: randomUUID(),
    method: "POST",
    path: "/",
    query: "",
    headers: { ...headers, authorization },
    rawHeaders: [],
    body: bytes,
    sourceIp,
    userAgent: "tests",
    secure: false,
  };
}

/** Several make one deployment of several nodes when they share the store and `key`. */
export async function identityWorld(sql: Sql, { failedLogins = {} as LimiterOptions, clock = { now: Date.now() } } = {}) {
  const now = () => clock.now;
  const keys = await openRing(ringKeyStore(sql), await randomRootKey());
  const envelope = new Envelope(keys, { maxDataKeys: 100 });
  const records: AuditRecord[] = [];
  const append = async (record: AuditRecord) => void records.push(record);
  const sessionTokens = createSessionTokens(keys.deriveKey("session tokens"));
  const hints = new Hints();
  const services: Services = {
    sql,
    envelope,
    keys,
    secrets: new SecretCache(sql, changeCounter(sql)),
    audit: {
      append,
      inTransaction: (_tx, record) => append(record),
      search: async () => ({ records, complete: true }),
    },
    sessionTokens,
    signingKeys: createSigningKeys({ sql, envelope, now }),
    log: pino({ level: "silent" }),
    account,
    region,
    functions: noFunctions,
    findLeaseTarget: async () => undefined,
    findRotator: async () => undefined,
    extendedSchedules: false,
    readBarrierMs: 0,
    agents: new AgentDesk(sql, hints),
    hints,
    digest: (value) => value,
    now,
    reschedule: (secret) => secret,
    wakeEngine: () => undefined,
    noteRead: () => undefined,
    noteFetch: () => undefined,
    downloads: new SealedCache(),
  };
  /** Another process on the same store has another one. */
  const node = () =>
    createAuthenticator({
      sql,
      identity: createIdentityVersion(sql),
      account,
      region,
      sessionTokens,
      webIdentities: createWebIdentities({ sql, account, now, timeoutMs: 2000 }),
      openSecret: (secret, context) => envelope.open(secret, { ...context }),
      isRegion,
      now,
      failedLogins,
    });
  const authenticator = node();
  const authorize = createAuthorizer();
  const api: Api = { services, authorize };
  const byName = new Map(stsOperations.map((operation) => [operation.name, operation]));
  const facts = { sourceIp: "127.0.0.1", userAgent: "tests", secure: false, region, now: clock.now };

  const rootKey = { accessKeyId: identityId("AKIA", randomBytes), secretAccessKey: newSecretAccessKey(randomBytes) };
  const ringKey = await keys.resolve(undefined, region);
  const context = { AccessKeyId: rootKey.accessKeyId };
  const secret = await envelope.seal(new Plaintext(rootKey.secretAccessKey), context, ringKey.id);
  await sql.transaction((tx) =>
    createAccessKey(tx, { id: rootKey.accessKeyId, principalArn: rootArn(account), createdAt: clock.now, secret }),
  );

  const signed = async (credentials: Credentials, by = authenticator): Promise<Identified> =>
    by.signed(signedRequest(credentials, { at: clock.now }), ["secretsmanager"]);

  const ask = async (
    name: string,
    input: object,
    authenticate: () => Promise<Identified>,
    sourceIp = facts.sourceIp,
  ): Promise<Record<string, unknown>> => {
    const operation = operations.find(({ noun, verb }) => `${noun} ${verb}` === name);
    if (!operation) throw new Error(`no operation ${name}`);
    const { userAgent, secure } = facts;
    const request = { door: "rekey-api" as const, requestId: randomUUID(), sourceIp, userAgent, secure };
    return (await dispatch({ ...request, authenticate, operation: () => operation, body: () => input }, api)) as Record<
      string,
      unknown
    >;
  };

  /** `<noun> <verb>` of the native API. */
  const call = (name: string, input: object, as: Credentials = rootKey): Promise<Record<string, unknown>> =>
    ask(name, input, () => signed(as));

  const sts = (action: string, form: Record<string, string>, as: Credentials = rootKey): Promise<QueryAnswer> => {
    const body = new URLSearchParams({ Action: action, Version: "2011-06-15", ...form }).toString();
    return answerAwsQuery(signedRequest(as, { service: "sts", body, at: clock.now }), {
      api,
      operations: byName,
      authenticate: (request) => authenticator.signed(request, ["sts"]),
      webIdentity: (token, sourceIp) => authenticator.webIdentity(token, sourceIp),
    });
  };

  return {
    clock,
    records,
    rootKey,
    sessionTokens,
    authenticator,
    node,
    call,
    sts,
    signed,
    services,
    /** As the holder of a bearer token, from an address. */
    bearer: (token: string, name: string, input: object, sourceIp?: string) =>
      ask(name, input, () => authenticator.bearer(token, sourceIp ?? facts.sourceIp), sourceIp),
    /** As the subject of an issuer's token. */
    webIdentity: (token: string, name: string, input: object) =>
      ask(name, input, () => authenticator.webIdentity(token, facts.sourceIp)),
    mayDo: (principal: Identified["principal"], action: string, arn: string): boolean =>
      authorize(principal, action, { arn, context: {} }, facts) === undefined,
    /** As somebody who shows no credential. */
    stranger: (name: string, input: object, sourceIp?: string) =>
      ask(name, input, async () => authenticator.anonymous(sourceIp ?? facts.sourceIp), sourceIp),
    /** Why the holder of the credentials may not do this; undefined when it may. */
    async refusal(credentials: Credentials, action: string, arn = "*", by = authenticator): Promise<ServiceError | undefined> {
      const { principal } = await signed(credentials, by);
      return authorize(principal, action, { arn, shown: arn, context: {} }, facts);
    },
    async newUser(name: string): Promise<Credentials> {
      await call("users create", { UserName: name });
      const { AccessKeyId, SecretAccessKey } = await call("access-keys create", { UserName: name });
      return { accessKeyId: String(AccessKeyId), secretAccessKey: String(SecretAccessKey) };
    },
    /** Its ARN. */
    async newPolicy(name: string, ...statements: object[]): Promise<string> {
      const PolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: statements });
      return String((await call("policies create", { PolicyName: name, PolicyDocument })).Arn);
    },
    /** Its ARN. */
    async newRole(name: string, ...trust: object[]): Promise<string> {
      const AssumeRolePolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: trust });
      return String((await call("roles create", { RoleName: name, AssumeRolePolicyDocument })).Arn);
    },
    async assume(role: string, as: Credentials, more: Record<string, string> = {}): Promise<Credentials> {
      const { status, body } = await sts("AssumeRole", { RoleArn: role, RoleSessionName: "session", ...more }, as);
      if (status !== 200) throw new Error(body);
      return credentialsIn(body);
    },
  };
}

export type IdentityWorld = Awaited<ReturnType<typeof identityWorld>>;

/** The text of the first element of this name. */
export function element(xml: string, name: string): string {
  const text = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1] ?? "";
  return text
    .replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");
}

export function credentialsIn(xml: string): Credentials {
  return {
    accessKeyId: element(xml, "AccessKeyId"),
    secretAccessKey: element(xml, "SecretAccessKey"),
    sessionToken: element(xml, "SessionToken"),
  };
}
