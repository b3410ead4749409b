import type { Operation } from "../operations/operation.ts";
import { type Shape, shapeOf, toNativeShape } from "./member-names.ts";

/** The native API's description, made from the table of operations. Source: OpenAPI Specification 3.1. */
export function describeApi(root: string, operations: readonly Operation[]): object {
  return {
    openapi: "3.1.0",
    info: {
      title: "Rekey",
      version: "1",
      description: "Every operation of Rekey. Times are ISO 8601, bytes are base64 text, absent members are left out.",
    },
    security: [{ bearer: [] }, { signature: [] }],
    paths: Object.fromEntries(
      operations.map((operation) => [`${root}/${operation.noun}/${operation.verb}`, { post: describe(operation) }]),
    ),
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "A token that begins with dp." },
        signature: {
          type: "apiKey",
          in: "header",
          name: "Authorization",
          description: "AWS Signature Version 4 for the service rekey or secretsmanager; its region is the request's.",
        },
      },
      schemas: { Problem: problemShape },
    },
  };
}

function describe(operation: Operation): object {
  const { $schema: _, ...shape } = shapeOf(operation.input);
  return {
    operationId: operation.name.slice(0, 1).toLowerCase() + operation.name.slice(1),
    tags: [operation.noun],
    summary: operation.summary,
    ...(operation.action && { "x-action": operation.action }),
    parameters: parameters(shape),
    requestBody: { required: isNeeded(shape), content: { "application/json": { schema: toNativeShape(shape) } } },
    responses: {
      "200": { description: "Done.", content: { "application/json": { schema: { type: "object" } } } },
      default: {
        description: "Refused or failed.",
        content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
      },
    },
  };
}

const isNeeded = (shape: Shape): boolean => (shape.required ?? []).length > 0;

function parameters(shape: Shape): object[] {
  const region = {
    name: "Rekey-Region",
    in: "header",
    schema: { type: "string" },
    description: "Region, if not the server's default.",
  };
  const key = {
    name: "Idempotency-Key",
    in: "header",
    schema: { type: "string" },
    description: "Makes a repeated request safe.",
  };
  return shape.properties?.ClientRequestToken ? [region, key] : [region];
}

const problemShape = {
  type: "object",
  required: ["type", "title", "status", "code", "detail", "requestId"],
  properties: {
    type: { type: "string" },
    title: { type: "string" },
    status: { type: "integer" },
    code: { type: "string" },
    detail: { type: "string" },
    requestId: { type: "string" },
  },
};
