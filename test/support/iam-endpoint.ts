// IAM and STS as far as access keys go, on loopback: signatures are verified, IAM's limit of two keys holds, and a new key is
// refused for a while, as IAM's eventual consistency has it.
import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { ServiceError } from "../../src/core/error.ts";
import { deriveSigningKey, parseAuthorization, verifySignature } from "../../src/core/sigv4.ts";

export interface FakeKey {
  readonly id: string;
  readonly secret: string;
  readonly user: string;
  readonly createdAt: number;
  status: "Active" | "Inactive";
  /** Calls to STS, by region, that still do not know the key. */
  readonly unknownFor: Map<string, number>;
  unlistedFor: number;
}

interface User {
  readonly name: string;
  readonly path: string;
  /** Actions that it may do, e.g. `iam:CreateAccessKey`; on whom: itself, or everybody. */
  readonly actions: readonly string[];
  readonly on: "itself" | "everybody";
}

interface Role {
  readonly name: string;
  readonly externalId?: string | undefined;
}

interface Session {
  readonly secret: string;
  readonly token: string;
  readonly role: string;
  readonly policy: string | undefined;
}

interface Call {
  readonly action: string;
  readonly accessKeyId: string;
  readonly region: string;
  readonly host: string;
}

/** What a request meets in place of an answer: `lost` does the work, then cuts the connection. */
export type Fault =
  | "lost"
  | "cut"
  | "throttle"
  | "error"
  | "hang"
  | "slow-body"
  | "endless-body"
  | "garbage"
  | "skewed"
  | "not-aws";

export interface IamEndpoint extends AsyncDisposable {
  readonly url: string;
  readonly account: string;
  readonly keys: Map<string, FakeKey>;
  readonly calls: Call[];
  /** Calls to STS in each region that a new key is refused for. */
  delay: number;
  /** Faults to come, the next first, by action. */
  readonly faults: Map<string, Fault[]>;
  /** Calls to ListAccessKeys that do not show a new key yet. */
  listDelay: number;
  addUser(name: string, rights?: { actions?: readonly string[]; on?: "itself" | "everybody"; path?: string }): FakeKey;
  addRole(name: string, externalId?: string): string;
  keysOf(user: string): FakeKey[];
}

const selfService = ["iam:CreateAccessKey", "iam:ListAccessKeys", "iam:DeleteAccessKey"];

class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

interface Caller {
  readonly arn: string;
  readonly user: User | undefined;
  readonly policy: string | undefined;
}

export async function startIamEndpoint(account = "123456789012"): Promise<IamEndpoint> {
  const users = new Map<string, User>();
  const roles = new Map<string, Role>();
  const sessions = new Map<string, Session>();
  const keys = new Map<string, FakeKey>();

  const newKey = (user: string, delay: number, unlistedFor = 0): FakeKey => {
    const id = `AKIA${randomText(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")}`;
    const secret = randomBytes(30).toString("base64");
    const unknownFor = new Map(["us-east-1", "eu-west-1", "ap-south-1"].map((region) => [region, delay]));
    const key: FakeKey = { id, secret, user, createdAt: Date.now(), status: "Active", unknownFor, unlistedFor };
    keys.set(id, key);
    return key;
  };
  const keysOf = (user: string): FakeKey[] => [...keys.values()].filter((key) => key.user === user);

  const arnOf = ({ name, path }: User): string => `arn:aws:iam::${account}:user${path}${name}`;

  function authenticate(request: IncomingMessage, body: Buffer, call: Call): Caller {
    const [path = "/", query = ""] = (request.url ?? "/").split("?");
    const signed = { method: "POST", path, query, headers: request.headers, rawHeaders: request.rawHeaders, body };
    const scope = { services: ["iam", "sts"], isRegion: () => true, nowMs: Date.now() };
    const authorization = parseAuthorization(signed, scope);
    const { accessKeyId, date, region, service, securityToken } = authorization;
    const session = sessions.get(accessKeyId);
    const key = keys.get(accessKeyId);
    const known = session ? session.token === securityToken : key && isKnown(key, service, call.region);
    if (!known) throw new Refusal(403, "InvalidClientTokenId", "The security token included in the request is invalid.");
    const secret = session?.secret ?? key?.secret ?? "";
    if (!verifySignature(signed, authorization, deriveSigningKey(secret, date, region, service))) {
      const text = `The request signature we calculated does not match. The Canonical String was ${securityToken}`;
      throw new Refusal(403, "SignatureDoesNotMatch", text);
    }
    return session ? roleCaller(session) : userCaller(users.get(key?.user ?? ""));
  }

  const roleCaller = ({ role, policy }: Session): Caller => {
    return { arn: `arn:aws:sts::${account}:assumed-role/${role}/rekey`, user: undefined, policy };
  };
  const userCaller = (user: User | undefined): Caller => {
    return { arn: user ? arnOf(user) : `arn:aws:iam::${account}:root`, user, policy: undefined };
  };

  function isKnown({ status, unknownFor }: FakeKey, service: string, region: string): boolean {
    const left = service === "sts" ? (unknownFor.get(region) ?? 0) : 0;
    if (left > 0) unknownFor.set(region, left - 1);
    return status === "Active" && left === 0;
  }

  function authorize({ arn, user, policy }: Caller, action: string, target: string): void {
    const own = user?.actions.includes(action) && (user.on === "everybody" || user.name === target);
    const about = users.get(target);
    const bySession = user === undefined && (policy === undefined || (about && allows(policy, action, arnOf(about))));
    if (own || bySession) return;
    throw new Refusal(403, "AccessDenied", `User: ${arn} is not authorized to perform: ${action} on resource: user ${target}`);
  }

  const actions: Record<string, (caller: Caller, form: URLSearchParams) => string> = {
    GetCallerIdentity: ({ arn }) => `<Arn>${arn}</Arn><UserId>AIDAEXAMPLE</UserId><Account>${account}</Account>`,
    AssumeRole(_caller, form) {
      const role = roles.get(form.get("RoleArn") ?? "");
      if (!role || (role.externalId !== undefined && role.externalId !== form.get("ExternalId"))) {
        throw new Refusal(403, "AccessDenied", "not authorized to perform: sts:AssumeRole");
      }
      const id = `ASIA${randomText(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")}`;
      const session = { secret: randomBytes(30).toString("base64"), token: `token-${randomBytes(30).toString("hex")}` };
      sessions.set(id, { ...session, role: role.name, policy: form.get("Policy") ?? undefined });
      return `<Credentials><AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${session.secret}</SecretAccessKey><SessionToken>${session.token}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>`;
    },
    CreateAccessKey(caller, form) {
      const user = targetOf(form, caller, "iam:CreateAccessKey");
      if (keysOf(user).length >= 2) {
        throw new Refusal(409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2");
      }
      const key = newKey(user, endpoint.delay, endpoint.listDelay);
      return `<AccessKey><UserName>${user}</UserName><AccessKeyId>${key.id}</AccessKeyId><Status>Active</Status><SecretAccessKey>${key.secret}</SecretAccessKey></AccessKey>`;
    },
    ListAccessKeys(caller, form) {
      const user = targetOf(form, caller, "iam:ListAccessKeys");
      const members = keysOf(user)
        .filter((key) => key.unlistedFor-- <= 0)
        .map(({ id, status, createdAt }) => {
          const made = new Date(createdAt).toISOString();
          return `<member><UserName>${user}</UserName><AccessKeyId>${id}</AccessKeyId><Status>${status}</Status><CreateDate>${made}</CreateDate></member>`;
        });
      return `<AccessKeyMetadata>${members.join("")}</AccessKeyMetadata><IsTruncated>false</IsTruncated>`;
    },
    DeleteAccessKey(caller, form) {
      const user = targetOf(form, caller, "iam:DeleteAccessKey");
      const id = form.get("AccessKeyId") ?? "";
      if (keys.get(id)?.user !== user) {
        throw new Refusal(404, "NoSuchEntity", `The Access Key with id ${id} cannot be found.`);
      }
      keys.delete(id);
      return "";
    },
  };

  function targetOf(form: URLSearchParams, caller: Caller, action: string): string {
    const user = form.get("UserName") ?? "";
    authorize(caller, action, user);
    if (!users.has(user)) throw new Refusal(404, "NoSuchEntity", `The user with name ${user} cannot be found.`);
    return user;
  }

  const server = createServer(async (request, response) => {
    const body = await buffer(request);
    const form = new URLSearchParams(body.toString());
    const action = form.get("Action") ?? "";
    const scope = /Credential=([^/]+)\/\d+\/([^/]+)\//.exec(request.headers.authorization ?? "");
    const call: Call = { action, accessKeyId: scope?.[1] ?? "", region: scope?.[2] ?? "", host: request.headers.host ?? "" };
    endpoint.calls.push(call);
    const fault = endpoint.faults.get(action)?.shift();
    const run = (): string => answer(action, actions[action]?.(authenticate(request, body, call), form) ?? "");
    if (fault === undefined) return reply(response, run);
    await meet(fault, request, response, run);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const endpoint: IamEndpoint = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    account,
    keys,
    calls: [],
    delay: 0,
    faults: new Map(),
    listDelay: 0,
    addUser(name, { actions: allowed = selfService, on = "itself", path = "/" } = {}) {
      users.set(name, { name, path, actions: allowed, on });
      return newKey(name, 0);
    },
    addRole(name, externalId) {
      const arn = `arn:aws:iam::${account}:role/${name}`;
      roles.set(arn, { name, externalId });
      return arn;
    },
    keysOf,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return endpoint;
}

function reply(response: ServerResponse, run: () => string): void {
  try {
    response.setHeader("content-type", "text/xml").end(run());
  } catch (error) {
    const refusal = error instanceof ServiceError ? new Refusal(403, "SignatureDoesNotMatch", error.message) : error;
    if (!(refusal instanceof Refusal)) throw error;
    refuse(response, refusal);
  }
}

async function meet(fault: Fault, request: IncomingMessage, response: ServerResponse, run: () => string): Promise<void> {
  switch (fault) {
    case "lost":
      run();
      request.socket.destroy();
      return;
    case "cut":
      request.socket.destroy();
      return;
    case "throttle":
      return refuse(response, new Refusal(400, "Throttling", "Rate exceeded"));
    case "error":
      return refuse(response, new Refusal(500, "ServiceFailure", "We failed"));
    case "skewed":
      return refuse(
        response,
        new Refusal(403, "SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than …"),
      );
    case "not-aws":
      response.writeHead(403, { "content-type": "text/html" }).end("<html><body>blocked by policy</body></html>");
      return;
    case "garbage":
      response.setHeader("content-type", "text/xml").end(run().replace("SecretAccessKey", "Secret<"));
      return;
    case "slow-body":
      response.setHeader("content-type", "text/xml").write(run().slice(0, 20));
      return;
    case "endless-body":
      Readable.from(spaces()).pipe(response.setHeader("content-type", "text/xml"));
      return;
    case "hang":
  }
}

function* spaces(): Generator<string> {
  for (;;) yield " ".repeat(65_536);
}

function answer(action: string, result: string): string {
  return `<${action}Response><${action}Result>${result}</${action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></${action}Response>`;
}

function refuse(response: ServerResponse, { status, code, message }: Refusal): void {
  const text = message.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  response.writeHead(status, { "content-type": "text/xml" });
  response.end(
    `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>${text}</Message></Error><RequestId>r</RequestId></ErrorResponse>`,
  );
}

/** Whether a session policy of one statement allows an action. */
function allows(policy: string, action: string, arn: string): boolean {
  const { Statement: statements } = JSON.parse(policy) as { Statement: { Action: string[]; Resource: string[] }[] };
  const matches = (pattern: string): boolean => {
    const pieces = pattern.split("*").map((piece) => piece.replaceAll(/[.+^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`^${pieces.join(".*")}$`).test(arn);
  };
  return statements.some(({ Action, Resource }) => Action.includes(action) && Resource.some(matches));
}

function randomText(length: number, characters: string): string {
  return Array.from({ length }, () => characters[randomInt(characters.length)]).join("");
}
