import type { ServerResponse } from "node:http";
import type { FastifyReply } from "fastify";
import { type ErrorCode, ServiceError } from "../core/error.ts";

/** What went wrong, as `application/problem+json`. Source: RFC 9457. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly requestId: string;
}

/** Statuses of the native API where they differ from 400; the AWS door keeps AWS's. Source: RFC 9110. */
const statusOf: Partial<Record<ErrorCode, number>> = {
  AccessDeniedException: 403,
  DecryptionFailure: 409,
  EncryptionFailure: 409,
  ExpiredTokenException: 401,
  IncompleteSignatureException: 401,
  InternalServiceError: 500,
  InvalidSignatureException: 401,
  LimitExceededException: 409,
  MissingAuthenticationTokenException: 401,
  PreconditionNotMetException: 409,
  RequestEntityTooLarge: 413,
  ResourceExistsException: 409,
  ResourceNotFoundException: 404,
  ThrottlingException: 429,
  UnknownOperationException: 404,
  UnrecognizedClientException: 401,
};

/** An error as a caller of the native API sees it; anything but a ServiceError tells its request id alone. */
export function toProblem(error: unknown, requestId: string): Problem {
  const failure = error instanceof ServiceError ? error : undefined;
  const code = failure?.code ?? "InternalServiceError";
  return {
    type: `urn:rekey:error:${code}`,
    title: titleOf(code),
    status: statusOf[code] ?? failure?.status ?? 500,
    code,
    detail: failure?.message ?? `An error occurred on the server side. Request id: ${requestId}`,
    requestId,
  };
}

/** Answers with an error where no router stands between. */
export function writeProblem(response: ServerResponse, error: unknown, requestId: string): void {
  if (response.headersSent || response.destroyed) return;
  const problem = toProblem(error, requestId);
  const headers = { "content-type": "application/problem+json", "cache-control": "no-store", "rekey-request-id": requestId };
  response.writeHead(problem.status, headers).end(JSON.stringify(problem));
}

export function sendProblem(reply: FastifyReply, error: unknown, requestId: string): FastifyReply {
  const problem = toProblem(error, requestId);
  if (problem.status === 401) reply.header("www-authenticate", 'Bearer realm="rekey"');
  if (problem.status === 429) reply.header("retry-after", "1");
  return reply.code(problem.status).type("application/problem+json").send(JSON.stringify(problem));
}

/** `ResourceNotFoundException` → `Resource not found`. */
function titleOf(code: string): string {
  const words = code.replace(/Exception$/, "").match(/[A-Z][a-z]*/g) ?? [code];
  return words.map((word, index) => (index === 0 ? word : word.toLowerCase())).join(" ");
}
