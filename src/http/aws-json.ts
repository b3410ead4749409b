import type { ServerResponse } from "node:http";
import { type ErrorCode, ServiceError } from "../core/error.ts";
import type { Operation } from "../operations/operation.ts";
import { type Api, type ApiRequest, dispatch, type Identified, logBug } from "./dispatch.ts";
import { readJsonObject } from "./json-body.ts";
import type { RawRequest } from "./raw-request.ts";

const contentType = "application/x-amz-json-1.1";
const targetPrefix = "secretsmanager.";

/** Errors of the front of the service carry `message`; those of its operations `Message`. Source: recorded replies of both. */
const frontCodes: ReadonlySet<ErrorCode> = new Set([
  "ExpiredTokenException",
  "IncompleteSignatureException",
  "InvalidSignatureException",
  "MissingAuthenticationTokenException",
  "RequestEntityTooLarge",
  "SerializationException",
  "ThrottlingException",
  "UnknownOperationException",
  "UnrecognizedClientException",
  "ValidationException",
]);

export interface AwsJsonDoor {
  readonly api: Api;
  readonly operations: ReadonlyMap<string, Operation>;
  authenticate(request: RawRequest): Identified | Promise<Identified>;
}

/** The operation that `X-Amz-Target` names, if there is one. */
export function targetOperation(request: RawRequest, operations: ReadonlyMap<string, Operation>): Operation | undefined {
  const target = request.headers["x-amz-target"];
  return typeof target === "string" && target.startsWith(targetPrefix)
    ? operations.get(target.slice(targetPrefix.length))
    : undefined;
}

/** AWS JSON 1.1: `POST /` with `X-Amz-Target: secretsmanager.<Operation>`. */
export async function answerAwsJson(request: RawRequest, response: ServerResponse, door: AwsJsonDoor): Promise<void> {
  const apiRequest: ApiRequest = {
    door: "aws-json",
    requestId: request.requestId,
    sourceIp: request.sourceIp,
    userAgent: request.userAgent,
    secure: request.secure,
    authenticate: () => door.authenticate(request),
    operation: () => {
      const operation = targetOperation(request, door.operations);
      if (!operation) throw new ServiceError("UnknownOperationException", "The operation is not known to this service.");
      return operation;
    },
    body: () => withoutNulls(readJsonObject(request.body)),
  };
  try {
    const output = await dispatch(apiRequest, door.api);
    const body = Object.keys(output).length === 0 ? "" : JSON.stringify(toWire(output));
    send(response, 200, body, request.requestId);
  } catch (error) {
    logBug(error, request.requestId, door.api.services.log);
    sendAwsError(response, error, request.requestId);
  }
}

export function sendAwsError(response: ServerResponse, error: unknown, requestId: string): void {
  const failure =
    error instanceof ServiceError
      ? error
      : new ServiceError("InternalServiceError", `An error occurred on the server side. Request id: ${requestId}`);
  const text = frontCodes.has(failure.code) ? { message: failure.message } : { Message: failure.message };
  send(response, failure.status, JSON.stringify({ __type: failure.code, ...text }), requestId);
}

function send(response: ServerResponse, status: number, body: string, requestId: string): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, {
    "x-amzn-RequestId": requestId,
    "Content-Type": contentType,
    "Content-Length": Buffer.byteLength(body),
  });
  response.end(body);
}

/** SDKs of some languages send absent members as null. */
function withoutNulls(object: object): object {
  for (const value of Object.values(object))
    if (value === null) return Object.fromEntries(Object.entries(object).filter(([, v]) => v !== null));
  return object;
}

/** Dates become seconds since the epoch, blobs base64 text, absent members stay absent. */
function toWire(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Date) return value.getTime() / 1000;
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(toWire);
  const copy: Record<string, unknown> = {};
  for (const name in value) copy[name] = toWire((value as Record<string, unknown>)[name]);
  return copy;
}
