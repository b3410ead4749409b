import { type ErrorCode, ServiceError } from "../core/error.ts";
import type { Operation } from "../operations/operation.ts";
import { type Api, type ApiRequest, dispatch, type Identified, logBug } from "./dispatch.ts";
import { formMembers, isTooLong, tooLong, toXml } from "./query-form.ts";
import type { RawRequest } from "./raw-request.ts";

/** An answer in the query protocol, to be sent with `x-amzn-RequestId`. */
export interface QueryAnswer {
  readonly status: number;
  readonly contentType: "text/xml";
  readonly body: string;
}

export interface AwsQueryDoor {
  readonly api: Api;
  /** By name: those of STS. */
  readonly operations: ReadonlyMap<string, Operation>;
  /** By Signature Version 4 for the service `sts`. */
  authenticate(request: RawRequest): Identified | Promise<Identified>;
  /** By the OIDC token that an unsigned AssumeRoleWithWebIdentity brings. */
  webIdentity(token: string, sourceIp: string): Promise<Identified>;
}

const version = "2011-06-15";
const namespace = `https://sts.amazonaws.com/doc/${version}/`;
const webIdentityAction = "AssumeRoleWithWebIdentity";

/** Whether a request to `/` speaks the query protocol: a form, where JSON protocols have `X-Amz-Target`. */
export function isQueryRequest({ headers }: Pick<RawRequest, "headers">): boolean {
  return headers["x-amz-target"] === undefined && /^application\/x-www-form-urlencoded\b/i.test(headers["content-type"] ?? "");
}

/** The AWS query protocol: `POST /` with a form that names `Action` and `Version`; XML out. Never rejects. */
export async function answerAwsQuery(request: RawRequest, door: AwsQueryDoor): Promise<QueryAnswer> {
  const refused = isTooLong(request.body);
  const form = new URLSearchParams(refused ? "" : request.body.toString("utf8"));
  const action = form.get("Action") ?? "";
  const apiRequest: ApiRequest = {
    door: "aws-query",
    requestId: request.requestId,
    sourceIp: request.sourceIp,
    userAgent: request.userAgent,
    secure: request.secure,
    authenticate() {
      if (refused) throw tooLong();
      return action === webIdentityAction ? door.webIdentity(requireToken(form), request.sourceIp) : door.authenticate(request);
    },
    operation: () => findOperation(door.operations, action, form.get("Version")),
    body: () => formMembers(form),
  };
  try {
    const output = await dispatch(apiRequest, door.api);
    const result = Object.keys(output).length === 0 ? "" : `<${action}Result>${toXml(output)}</${action}Result>`;
    const metadata = `<ResponseMetadata>${toXml({ RequestId: request.requestId })}</ResponseMetadata>`;
    return xml(200, `<${action}Response xmlns="${namespace}">${result}${metadata}</${action}Response>`);
  } catch (error) {
    logBug(error, request.requestId, door.api.services.log);
    return errorAnswer(error, action, request.requestId);
  }
}

function requireToken(form: URLSearchParams): string {
  const token = form.get("WebIdentityToken");
  if (token) return token;
  const text =
    "1 validation error detected: Value null at 'webIdentityToken' failed to satisfy constraint: Member must not be null";
  throw new ServiceError("ValidationException", text);
}

function findOperation(operations: ReadonlyMap<string, Operation>, action: string, asked: string | null): Operation {
  const operation = asked === version ? operations.get(action) : undefined;
  if (operation) return operation;
  throw new ServiceError(
    "UnknownOperationException",
    `Could not find operation ${action} for version ${asked ?? "NO_VERSION_SPECIFIED"}`,
  );
}

/** The query family has names of its own, and statuses. Source: STS API reference, "Common errors" and each operation's. */
const queryErrors: Partial<Readonly<Record<ErrorCode, readonly [code: string, status: number]>>> = {
  AccessDeniedException: ["AccessDenied", 403],
  ExpiredTokenException: ["ExpiredToken", 403],
  IncompleteSignatureException: ["IncompleteSignature", 400],
  InternalServiceError: ["InternalFailure", 500],
  InvalidParameterException: ["InvalidParameterValue", 400],
  InvalidSignatureException: ["SignatureDoesNotMatch", 403],
  MalformedPolicyDocumentException: ["MalformedPolicyDocument", 400],
  MissingAuthenticationTokenException: ["MissingAuthenticationToken", 403],
  SerializationException: ["MalformedInput", 400],
  ThrottlingException: ["Throttling", 400],
  UnknownOperationException: ["InvalidAction", 400],
  UnrecognizedClientException: ["InvalidClientTokenId", 403],
  ValidationException: ["ValidationError", 400],
};

/** The error's answer; `action` as far as it is known. */
export function errorAnswer(error: unknown, action: string, requestId: string): QueryAnswer {
  const failure =
    error instanceof ServiceError
      ? error
      : new ServiceError("InternalServiceError", `An error occurred. Request id: ${requestId}`);
  // Of a web identity it is the OIDC token that expired, which has the name that AWS's JSON services use.
  const ofOidcToken = failure.code === "ExpiredTokenException" && action === webIdentityAction;
  const [code, status] = (ofOidcToken ? undefined : queryErrors[failure.code]) ?? [failure.code, failure.status];
  const fault = { Type: status >= 500 ? "Receiver" : "Sender", Code: code, Message: failure.message };
  return xml(
    status,
    `<ErrorResponse xmlns="${namespace}"><Error>${toXml(fault)}</Error>${toXml({ RequestId: requestId })}</ErrorResponse>`,
  );
}

const xml = (status: number, body: string): QueryAnswer => ({ status, contentType: "text/xml", body });
