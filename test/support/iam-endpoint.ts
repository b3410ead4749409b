// IAM and STS as far as users and access keys go, on loopback: signatures are verified, policies decide, IAM's limits hold, and a
// new key is refused for a while, as IAM's eventual consistency has it.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { ServiceError } from "../../src/core/error.ts";
import { evaluate } from "../../src/core/evaluate.ts";
import { parsePolicy } from "../../src/core/policy.ts";
import { deriveSigningKey, parseAuthorization, verifySignature } from "../../src/core/sigv4.ts";
import { AwsError } from "./aws-request.ts";
import { sessionActions } from "./iam-sessions.ts";
import { userActions } from "./iam-users.ts";
import {
  type Action,
  type Call,
  type Caller,
  type FakeKey,
  type FakeRole,
  type FakeSession,
  type FakeUser,
  type Fault,
  type IamEndpoint,
  type IamWorld,
  newUser,
  randomText,
} from "./iam-world.ts";

export type { FakeKey, Fault, IamEndpoint };

const selfService = ["iam:CreateAccessKey", "iam:ListAccessKeys", "iam:DeleteAccessKey"];

export async function startIamEndpoint(account = "123456789012"): Promise<IamEndpoint> {
  const users = new Map<string, FakeUser>();
  const roles = new Map<string, FakeRole>();
  const sessions = new Map<string, FakeSession>();
  const groups = new Set<string>();
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

  const arnOf = ({ name, path }: FakeUser): string => `arn:aws:iam::${account}:user${path}${name}`;

  function authenticate(request: IncomingMessage, body: Buffer, call: Call): Caller {
    const [path = "/", query = ""] = (request.url ?? "/").split("?");
    const signed = { method: "POST", path, query, headers: request.headers, rawHeaders: request.rawHeaders, body };
    const scope = { services: ["iam", "sts"], isRegion: () => true, nowMs: Date.now() };
    const authorization = parseAuthorization(signed, scope);
    const { accessKeyId, date, region, service, securityToken } = authorization;
    const session = sessions.get(accessKeyId);
    const key = keys.get(accessKeyId);
    const known = session ? session.token === securityToken : key && isKnown(key, service, call.region);
    if (!known) throw new AwsError(403, "InvalidClientTokenId", "The security token included in the request is invalid.");
    const secret = session?.secret ?? key?.secret ?? "";
    if (!verifySignature(signed, authorization, deriveSigningKey(secret, date, region, service))) {
      const text = `The request signature we calculated does not match. The Canonical String was ${securityToken}`;
      throw new AwsError(403, "SignatureDoesNotMatch", text);
    }
    return session ? roleCaller(session) : userCaller(users.get(key?.user ?? ""));
  }

  const roleCaller = (session: FakeSession): Caller => {
    return { arn: `arn:aws:sts::${account}:assumed-role/${session.role.name}/${session.name}`, user: undefined, session };
  };
  const userCaller = (user: FakeUser | undefined): Caller => {
    return { arn: user ? arnOf(user) : `arn:aws:iam::${account}:root`, user, session: undefined };
  };

  function isKnown({ status, unknownFor }: FakeKey, service: string, region: string): boolean {
    const left = service === "sts" ? (unknownFor.get(region) ?? 0) : 0;
    if (left > 0) unknownFor.set(region, left - 1);
    return status === "Active" && left === 0;
  }

  function authorize(caller: Caller, action: string, resource: string, context: Readonly<Record<string, string>> = {}): void {
    if (!isAllowed(caller, action, resource, context)) {
      throw new AwsError(
        403,
        "AccessDenied",
        `User: ${caller.arn} is not authorized to perform: ${action} on resource: ${resource}`,
      );
    }
  }

  function isAllowed({ arn, user, session }: Caller, action: string, resource: string, context: Record<string, string>): boolean {
    const own = user?.policy ?? session?.role.policy;
    if (user && own === undefined) {
      return user.actions.includes(action) && (user.on === "everybody" || resource === arnOf(user));
    }
    const everything = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "*", Resource: "*" }] });
    const identity = [parsePolicy(own ?? everything, "identity")];
    const limits = session?.policy === undefined ? [] : [parsePolicy(session.policy, "session")];
    const values = new Map(Object.entries(context).map(([key, value]) => [key.toLowerCase(), [value]]));
    const principal = { kind: user ? ("user" as const) : ("role" as const), arn, accountId: account };
    return evaluate({ action, resource, context: values, principal }, { identity, session: limits }).allowed;
  }

  const world: IamWorld = { account, users, groups, keys, roles, sessions, settings: () => endpoint, authorize, keysOf };

  const actions: Record<string, Action> = {
    GetCallerIdentity: ({ arn }) => `<Arn>${arn}</Arn><UserId>AIDAEXAMPLE</UserId><Account>${account}</Account>`,
    ...sessionActions(world),
    ...userActions(world),
    CreateAccessKey(caller, form) {
      const user = targetOf(form, caller, "iam:CreateAccessKey");
      if (keysOf(user).length >= 2) {
        throw new AwsError(409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2");
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
    UpdateAccessKey(caller, form) {
      const user = targetOf(form, caller, "iam:UpdateAccessKey");
      const key = keys.get(form.get("AccessKeyId") ?? "");
      if (key?.user !== user) throw new AwsError(404, "NoSuchEntity", "The Access Key cannot be found.");
      key.status = form.get("Status") === "Active" ? "Active" : "Inactive";
      return "";
    },
    DeleteAccessKey(caller, form) {
      const user = targetOf(form, caller, "iam:DeleteAccessKey");
      const id = form.get("AccessKeyId") ?? "";
      if (keys.get(id)?.user !== user) {
        throw new AwsError(404, "NoSuchEntity", `The Access Key with id ${id} cannot be found.`);
      }
      keys.delete(id);
      return "";
    },
  };

  function targetOf(form: URLSearchParams, caller: Caller, action: string): string {
    const user = form.get("UserName") ?? "";
    const found = users.get(user);
    const seen = found && found.unknownFor-- <= 0 ? found : undefined;
    authorize(caller, action, seen ? arnOf(seen) : `arn:aws:iam::${account}:user/${user}`);
    if (!seen) throw new AwsError(404, "NoSuchEntity", `The user with name ${user} cannot be found.`);
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
    userDelay: 0,
    users,
    groups,
    sessions,
    pageSize: 100,
    addUser(name, { actions: allowed = selfService, on = "itself", path = "/", policy } = {}) {
      users.set(name, { ...newUser(name, path), actions: allowed, on, policy });
      return newKey(name, 0);
    },
    addRole(name, externalId, { policy, maxSeconds = 3_600 } = {}) {
      const arn = `arn:aws:iam::${account}:role/${name}`;
      roles.set(arn, { name, externalId, policy, maxSeconds });
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
    const refusal = error instanceof ServiceError ? new AwsError(403, "SignatureDoesNotMatch", error.message) : error;
    if (!(refusal instanceof AwsError)) throw error;
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
      return refuse(response, new AwsError(400, "Throttling", "Rate exceeded"));
    case "error":
      return refuse(response, new AwsError(500, "ServiceFailure", "We failed"));
    case "skewed":
      return refuse(
        response,
        new AwsError(403, "SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than …"),
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

function refuse(response: ServerResponse, { status, code, message }: AwsError): void {
  const text = message.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  response.writeHead(status, { "content-type": "text/xml" });
  response.end(
    `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>${text}</Message></Error><RequestId>r</RequestId></ErrorResponse>`,
  );
}
