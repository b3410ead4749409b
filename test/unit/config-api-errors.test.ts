import assert from "node:assert/strict";
import { test } from "node:test";
import { type ErrorCode, ServiceError } from "../../src/core/error.ts";
import { configFailure } from "../../src/http/config-api-errors.ts";

const names = new Map([
  ["DynamicSecretsTtlSeconds", "dynamic_secrets_ttl_sec"],
  ["ChangeRequests", "change_requests"],
  ["Name", "name"],
]);
const told = (text: string, code: ErrorCode = "ValidationException") => {
  const { status, body } = configFailure(new ServiceError(code, text), "id", names);
  return { status, ...(JSON.parse(body) as { messages: string[]; success: boolean; data?: object }) };
};

test("each code has the status that Doppler's clients act on", () => {
  const statuses: [ErrorCode, number][] = [
    ["UnrecognizedClientException", 401],
    ["ExpiredTokenException", 401],
    ["MissingAuthenticationTokenException", 401],
    ["InvalidIdentityToken", 401],
    ["AccessDeniedException", 403],
    ["ResourceNotFoundException", 404],
    ["UnknownOperationException", 404],
    ["ResourceExistsException", 409],
    ["PreconditionNotMetException", 409],
    ["RequestEntityTooLarge", 413],
    ["ThrottlingException", 429],
    ["ValidationException", 400],
    ["InvalidParameterException", 400],
    ["InvalidRequestException", 400],
    ["LimitExceededException", 400],
    ["SerializationException", 400],
    ["DecryptionFailure", 400],
    ["InternalServiceError", 500],
  ];
  for (const [code, status] of statuses) assert.deepEqual([code, told("x", code).status], [code, status]);
});

test("a bug tells its request id alone", () => {
  const { status, body, headers } = configFailure(new Error("with a secret"), "the-id");
  assert.equal(status, 500);
  assert.deepEqual(JSON.parse(body), {
    messages: ["An error occurred on the server side. Request id: the-id"],
    success: false,
  });
  assert.deepEqual([headers["x-request-id"], headers["content-type"]], ["the-id", "application/json; charset=utf-8"]);
});

test("who asks too often is told when to come back, in the header and in the body", () => {
  const { headers, body } = configFailure(new ServiceError("ThrottlingException", "Rate exceeded"), "id");
  assert.equal(headers["retry-after"], "1");
  assert.deepEqual(JSON.parse(body), { messages: ["Rate exceeded"], success: false, data: { isRetryableAfterSec: 1 } });
});

test("members go by the names that the caller knows them by, one message for each", () => {
  const two =
    "2 validation errors detected: Value '0' at 'dynamicSecretsTtlSeconds' failed to satisfy constraint: Member must have value greater than or equal to 1; Value null at 'name' failed to satisfy constraint: Member must not be null";
  assert.deepEqual(told(two).messages, [
    "Value '0' at 'dynamic_secrets_ttl_sec' failed to satisfy constraint: Member must have value greater than or equal to 1",
    "Value null at 'name' failed to satisfy constraint: Member must not be null",
  ]);
  const nested =
    "1 validation error detected: Value 'x' at 'changeRequests.1.member.name' failed to satisfy constraint: too long";
  assert.deepEqual(told(nested).messages, [
    "Value 'x' at 'change_requests.1.member.name' failed to satisfy constraint: too long",
  ]);
  assert.deepEqual(told("DynamicSecretsTtlSeconds must be at most 9. Name it.").messages, [
    "dynamic_secrets_ttl_sec must be at most 9. Name it.",
  ]);
  assert.deepEqual(told("dynamicSecretsTtlSeconds has a JSON value of the wrong type.", "SerializationException").messages, [
    "dynamic_secrets_ttl_sec has a JSON value of the wrong type.",
  ]);
});
