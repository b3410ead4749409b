import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Logger } from "pino";
import type { Authorize } from "./auth/authorize.ts";
import type { Config } from "./config.ts";
import { RotatorError, ServiceError } from "./core/error.ts";
import type { FunctionRecord } from "./core/function.ts";
import { identityId, nameInArn, newSecretAccessKey } from "./core/identity.ts";
import type { Principal } from "./core/principal.ts";
import type { Secret } from "./core/secret.ts";
import type { SessionTokens } from "./core/session.ts";
import type { InvokedFunction } from "./engine/invoke.ts";
import type { RotatorFunction } from "./engine/parts.ts";
import { inspectFunction } from "./function-inspection.ts";
import { builtinFunction, cannotInvoke, templateRefusal } from "./functions/builtin.ts";
import { type CallAbout, createFunctions, type Functions } from "./functions/functions.ts";
import type { RoleSession } from "./functions/process-environment.ts";
import type { FunctionDirectory } from "./operations/services.ts";
import { createRotationRights } from "./rotation-rights.ts";
import type { StoreParts } from "./server-parts.ts";
import { createSigningKeys } from "./signing-keys.ts";
import type { AuditLog } from "./store/audit.ts";
import { findFunction } from "./store/functions.ts";
import { findRole } from "./store/identity.ts";
import { findSecret } from "./store/secrets.ts";

/** Where functions of this machine find the server: plain HTTP on loopback, whatever TLS the server speaks to others. */
export interface FunctionDoor {
  /** Opens it the first time. */
  endpoint(): Promise<string>;
  close(): void;
}

/** `handle` answers requests as the server's own listener does. */
export function createFunctionDoor(handle: (incoming: IncomingMessage, response: ServerResponse) => void): FunctionDoor {
  let opened: Promise<Server> | undefined;
  const open = (): Promise<Server> =>
    new Promise((resolve, reject) => {
      const server = createServer(handle).listen(0, "127.0.0.1");
      server.once("error", reject).once("listening", () => resolve(server));
    });
  return {
    async endpoint() {
      opened ??= open();
      const server = await opened;
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    },
    close() {
      void opened?.then((server) => {
        server.close();
        server.closeAllConnections();
      });
    },
  };
}

export interface ServerFunctionParts extends StoreParts {
  readonly audit: Pick<AuditLog, "append">;
  readonly log: Logger;
  readonly authorize: Authorize;
  readonly sessionTokens: SessionTokens;
  readonly door: Pick<FunctionDoor, "endpoint">;
}

/** Registered functions, as operations and the engine use them. */
export interface ServerFunctions extends FunctionDirectory, Pick<Functions, "noteRead" | "close"> {
  /** A function that answers rotation events; `undefined` for every other ARN. */
  invoked(functionArn: string): Promise<InvokedFunction | undefined>;
  /** A function that is a declaration, e.g. of an HTTP API; `undefined` for every other ARN. */
  declared(functionArn: string): Promise<RotatorFunction | undefined>;
  /** Those at AWS that are ways into networks. */
  readonly farSides: Functions["farSides"];
  lookAtCode: Functions["lookAtCode"];
}

export function createServerFunctions(config: Config, parts: ServerFunctionParts): ServerFunctions {
  const { sql, envelope, keys, audit, log, authorize, door } = parts;
  const { account } = config;
  const functions = createFunctions({
    sql,
    envelope,
    keys,
    log,
    audit,
    code: {
      folder: config.functionsDir,
      signing: config.codeSigning,
      publishers: config.codePublishers,
      copies: join(config.data, "code"),
    },
    python: config.functionsPython,
    users: config.functionsUsers === "same" ? undefined : config.functionsUsers,
    lambda: config.functionsLambda ?? false,
    lambdaPrefix: config.functionsLambdaPrefix,
    releases: releasesIn(config),
    signingKeys: createSigningKeys({ sql, envelope, now: Date.now }),
    now: Date.now,
    endpoint: () => door.endpoint(),
    openSession: (record, seconds) => openSession(record, seconds, account, parts),
  });

  const registered = async (functionArn: string): Promise<FunctionRecord | undefined> =>
    builtinFunction(functionArn) ? undefined : findFunction(sql, functionArn);

  /** Whether the function's own policy lets the service invoke it for the secret. */
  const serviceRefusal = (record: FunctionRecord | undefined, secret: Secret): ServiceError | undefined => {
    if (!record?.policy) return cannotInvoke();
    const context = { "aws:SourceArn": [secret.arn], "aws:SourceAccount": [account] };
    const resource = { arn: record.arn, policy: record.policy, context };
    const facts = { sourceIp: "", userAgent: rotationService.arn, secure: true, region: record.region, now: Date.now() };
    const refusal = authorize(rotationService, "lambda:InvokeFunction", resource, facts);
    return refusal && cannotInvoke(refusal);
  };
  const { mayRead, mayKnow } = createRotationRights({ sql, keys, account, now: Date.now }, authorize);
  const refusal = async (functionArn: string, secret: Secret): Promise<ServiceError | undefined> => {
    const [, , , region, owner] = functionArn.split(":");
    if (region !== secret.region || owner !== account) return cannotInvoke();
    if (builtinFunction(functionArn)) return undefined;
    const record = await findFunction(sql, functionArn);
    const refused = (record ? farSideRefusal(record) : templateRefusal(functionArn)) ?? serviceRefusal(record, secret);
    if (refused || record?.kind !== "http-api") return refused;
    // A declaration says where the value is sent: as good as reading it.
    return secret.rotationPrincipal ? mayRead(secret.rotationPrincipal, secret) : cannotInvoke();
  };
  /** Of the secret that a rotation calls it for. One at AWS has credentials of its own that nothing here knows. */
  const aboutOf = async ({ kind, region, roleArn = "" }: FunctionRecord, secretArn: string): Promise<CallAbout> => {
    const secret = await findSecret(sql, region, secretArn);
    if (!secret) return {};
    if (kind === "process") return (await mayKnow(roleArn, secret)) ? { secretArn } : {};
    const { rotationPrincipal: configured } = secret;
    return configured && !(await mayRead(configured, secret)) ? { secretArn } : { withhold: true };
  };
  const requireRole = (record: FunctionRecord) => openSession(record, 0, account, parts);
  return {
    refusal,
    async check(record) {
      if (builtinFunction(record.arn)) throw new ServiceError("InvalidParameterException", `${record.name} is built in.`);
      await functions.check(record).catch(asServiceError);
      if (record.kind === "lambda" && record.lambda.protocol) await functions.probe(record).catch(asServiceError);
    },
    farSides: functions.farSides,
    lookAtCode: functions.lookAtCode,
    timeoutAtAws: functions.timeoutAtAws,
    policyOf: async (functionArn) => (await registered(functionArn))?.policy,
    call: functions.call,
    seal: functions.seal,
    forget: functions.forget,
    noteRead: functions.noteRead,
    close: functions.close,
    async declared(functionArn) {
      const record = await findFunction(sql, functionArn);
      if (record?.kind !== "http-api") return undefined;
      const { kind, declaration } = record;
      return { kind, strategy: "issuer", declaration, refusal: (secret) => refusal(functionArn, secret) };
    },
    async invoked(functionArn) {
      const record = await registered(functionArn);
      if (!record || record.kind === "http-api" || isFarSide(record)) return undefined;
      return {
        longestMs: functions.longestMs(record),
        outlivesServer: record.kind === "lambda",
        refusal: (secret) => refusal(functionArn, secret),
        inspect: (secret, superuserArn) =>
          inspectFunction({ sql, keys, account, authorize, functions, requireRole }, record, secret, superuserArn),
        call: async (payload, { secretArn, signal }) =>
          functions.call(record, payload, { ...(await aboutOf(record, secretArn)), signal }),
      };
    },
  };
}

/** Else those of this very package: their key is as trustworthy as the program itself. */
function releasesIn({ functionsReleases: folder, functionsReleaseKey: key }: Config) {
  if (folder !== undefined && key !== undefined) return { folder, key };
  const own = join(import.meta.dirname, "lambda");
  return existsSync(join(own, "manifest.json")) ? { folder: own, key: join(own, "release-key.json") } : undefined;
}

/** It takes messages of ours, and no rotation events. */
const isFarSide = (record: FunctionRecord): boolean => record.kind === "lambda" && record.lambda.protocol !== undefined;

function farSideRefusal(record: FunctionRecord): ServiceError | undefined {
  if (!isFarSide(record)) return undefined;
  const what = `Function ${record.name} runs built-in rotators for networks`;
  return new ServiceError("InvalidParameterException", `${what}: name it for a network, and a built-in function here.`);
}

const service = (name: string): Principal => ({ kind: "service", arn: name, accountId: "", userId: "", tags: {}, policies: [] });
const rotationService = service("secretsmanager.amazonaws.com");
const functionService = service("lambda.amazonaws.com");

/** Temporary credentials of the function's role, which must let functions in. @throws RotatorError `denied` */
async function openSession(
  { name, arn, region, roleArn = "" }: FunctionRecord,
  seconds: number,
  account: string,
  { sql, authorize, sessionTokens }: Pick<ServerFunctionParts, "sql" | "authorize" | "sessionTokens">,
): Promise<RoleSession> {
  const roleName = nameInArn(roleArn, account, "role");
  const role = roleName === undefined ? undefined : await findRole(sql, roleName);
  const issuedAt = Date.now();
  const context = { "aws:SourceArn": [arn], "aws:SourceAccount": [account] };
  const resource = { arn: roleArn, isTrustPolicy: true, context, ...(role && { policy: role.trustPolicy }) };
  const facts = { sourceIp: "", userAgent: functionService.arn, secure: true, region, now: issuedAt };
  if (!role || authorize(functionService, "sts:AssumeRole", resource, facts))
    throw new RotatorError("denied", `its role ${roleArn} does not exist, or does not trust ${functionService.arn}`);
  const session = {
    accessKeyId: identityId("ASIA", randomBytes),
    secretAccessKey: newSecretAccessKey(randomBytes),
    issuedAt,
    expiresAt: issuedAt + seconds * 1_000,
  };
  const sessionToken = sessionTokens.seal({ ...session, roleId: role.id, roleName: role.name, sessionName: name });
  return { ...session, sessionToken };
}

function asServiceError(error: unknown): never {
  if (error instanceof RotatorError) throw new ServiceError("InvalidParameterException", error.message, { cause: error });
  throw error;
}
