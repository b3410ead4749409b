import type { ServerResponse } from "node:http";
import type { FastifyReply } from "fastify";
import { type ErrorCode, ServiceError } from "../core/error.ts";

/** Statuses of the config API where they differ from 400. Source: Doppler's OpenAPI document and CLI; RFC 9110. */
const statusOf: Partial<Readonly<Record<ErrorCode, number>>> = {
  AccessDeniedException: 403,
  ExpiredTokenException: 401,
  IncompleteSignatureException: 401,
  InternalServiceError: 500,
  InvalidIdentityToken: 401,
  InvalidSignatureException: 401,
  MissingAuthenticationTokenException: 401,
  PreconditionNotMetException: 409,
  RequestEntityTooLarge: 413,
  ResourceExistsException: 409,
  ResourceNotFoundException: 404,
  ThrottlingException: 429,
  UnknownOperationException: 404,
  UnrecognizedClientException: 401,
};

const retryAfterSeconds = 1;

interface Failure {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON text of `{"messages":[…],"success":false}`. */
  readonly body: string;
}

/** Names of input members as a caller of the config API writes them: `DynamicSecretsTtlSeconds` → `dynamic_secrets_ttl_sec`. */
export type FieldNames = ReadonlyMap<string, string>;

/** An error as Doppler's clients read it; anything but a ServiceError tells its request id alone. */
export function configFailure(error: unknown, requestId: string, names: FieldNames = new Map()): Failure {
  const failure = error instanceof ServiceError ? error : undefined;
  const code = failure?.code ?? "InternalServiceError";
  const status = statusOf[code] ?? failure?.status ?? 500;
  const text = failure?.message ?? `An error occurred on the server side. Request id: ${requestId}`;
  const isThrottled = status === 429;
  return {
    status,
    headers: {
      "content-type": "application/json; charset=utf-8",
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "x-request-id": requestId,
      ...(status === 401 ? { "www-authenticate": 'Bearer realm="rekey"' } : {}),
      ...(isThrottled ? { "retry-after": String(retryAfterSeconds) } : {}),
    },
    body: JSON.stringify({
      messages: status === 401 ? [tokenText(code, text)] : messagesOf(text, names),
      success: false,
      ...(isThrottled ? { data: { isRetryableAfterSec: retryAfterSeconds } } : {}),
    }),
  };
}

export function sendConfigError(reply: FastifyReply, error: unknown, requestId: string, names?: FieldNames): FastifyReply {
  const { status, headers, body } = configFailure(error, requestId, names);
  return reply.code(status).headers(headers).send(body);
}

/** Answers with an error where no router stands between. */
export function writeConfigError(response: ServerResponse, error: unknown, requestId: string): void {
  if (response.headersSent || response.destroyed) return;
  const { status, headers, body } = configFailure(error, requestId);
  response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) }).end(body);
}

/** Doppler's own words come first: scripts look for them. */
function tokenText(code: ErrorCode, text: string): string {
  if (code === "UnrecognizedClientException") return "Invalid Auth token";
  if (code === "ExpiredTokenException") return "Invalid Auth token: it has expired";
  return `Invalid Auth token: ${text}`;
}

/** One message for each member that is wrong, under the name that the caller knows it by. */
function messagesOf(text: string, names: FieldNames): string[] {
  const rename = (member: string): string => names.get(member.slice(0, 1).toUpperCase() + member.slice(1)) ?? member;
  const [, wrongType] = /^([A-Za-z]+)\S* has a JSON value/.exec(text) ?? [];
  if (wrongType !== undefined) return [text.replace(wrongType, rename(wrongType))];
  const [, list] = /^\d+ validation errors? detected: (.*)$/s.exec(text) ?? [];
  // Members of several words only: the others are words of any sentence, too.
  if (list === undefined) return [text.replace(/\b[A-Z][a-z]+[A-Z]\w*/g, rename)];
  return list.split(/; (?=Value)/).map((part) => part.replace(/(?<= at ')[A-Za-z]+/, rename));
}
