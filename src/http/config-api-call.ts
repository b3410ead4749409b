import type { FastifyRequest } from "fastify";
import { ServiceError } from "../core/error.ts";
import type { Operation } from "../operations/operation.ts";
import { Asked } from "./config-api-input.ts";
import type { Caller, ConfigRoute } from "./config-api-route.ts";
import type { Api, ApiRequest, Identified } from "./dispatch.ts";
import { rawRequest } from "./raw-request.ts";
import { unframedBody } from "./unframed-delete.ts";

export interface ConfigApiDoor {
  readonly api: Api;
  readonly operations: Iterable<Operation>;
  readonly maxBodyBytes: number;
  /** Aborted when streams have to end. */
  readonly closing: AbortSignal;
  /** Most streams at once; half as many for one caller. */
  readonly maxStreams: number;
  /** By a `dp.*` token. @throws ServiceError */
  bearer(token: string, sourceIp: string): Promise<Identified>;
  /** By a token of a configured OIDC issuer. @throws ServiceError */
  webIdentity(token: string, sourceIp: string): Promise<Identified>;
  /** Somebody who is not known and has no rights. @throws ServiceError ThrottlingException */
  anyone(sourceIp: string): Identified;
}

export async function readAsked(request: FastifyRequest): Promise<Asked> {
  const body = (await unframedBody(request.raw)) ?? (Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0));
  return new Asked(rawRequest(request.raw, body, request.id), request.params as Record<string, string>);
}

/** What dispatch wants to know of any request. */
export function about({ raw }: Asked): Pick<ApiRequest, "door" | "requestId" | "sourceIp" | "userAgent" | "secure"> {
  const { requestId, sourceIp, userAgent, secure } = raw;
  return { door: "config-api", requestId, sourceIp, userAgent, secure };
}

/** Absent members stay absent: a null may mean something. */
export function inputOf(asked: Asked, { input }: Pick<ConfigRoute, "input">): object {
  const members = Object.entries(input).map(([member, field]) => [member, field.read(asked)] as const);
  return Object.fromEntries(members.filter(([, value]) => value !== undefined));
}

export function authenticate(
  asked: Asked,
  caller: Caller,
  door: Pick<ConfigApiDoor, "bearer" | "webIdentity" | "anyone">,
): Identified | Promise<Identified> {
  const { headers, sourceIp } = asked.raw;
  if (caller === "anyone") return door.anyone(sourceIp);
  const token = caller === "header" ? tokenIn(headers.authorization) : asked.body.token;
  if (typeof token !== "string" || token === "") throw noToken(caller);
  return caller === "oidc" ? door.webIdentity(token, sourceIp) : door.bearer(token, sourceIp);
}

/** `Bearer TOKEN`, or Basic with the token as user name and no password. */
function tokenIn(authorization = ""): string | undefined {
  const [, scheme = "", credentials = ""] = /^([A-Za-z]+) +(\S+)$/.exec(authorization) ?? [];
  if (scheme.toLowerCase() === "bearer") return credentials;
  if (scheme.toLowerCase() !== "basic") return undefined;
  const [user, ...password] = Buffer.from(credentials, "base64").toString("utf8").split(":");
  return password.join(":") === "" ? user : undefined;
}

const noToken = (caller: Caller) =>
  new ServiceError(
    "MissingAuthenticationTokenException",
    caller === "header"
      ? "send one as Authorization: Bearer TOKEN, or as the user name of Basic without a password."
      : "the body has none as member token.",
  );

/** Where a page of this server is, as the caller reaches it; an address that is whole stays as it is. */
export function pageAt(path: string | undefined, { raw }: Asked): string {
  if (path === undefined || !path.startsWith("/")) return path ?? "";
  return `${raw.secure ? "https" : "http"}://${raw.headers.host ?? ""}${path}`;
}
