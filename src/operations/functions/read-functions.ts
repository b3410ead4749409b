import { z } from "zod";
import { functionLimits } from "../../core/function.ts";
import { functionPolicies } from "../../core/function-policy.ts";
import { codeOfFunctions, type FunctionCode } from "../../store/function-code.ts";
import { functionLogs, listFunctions } from "../../store/functions.ts";
import { nextToken, secretId } from "../input.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { readPageToken, writePageToken } from "../secrets/page-token.ts";
import { secretResource } from "../secrets/secret-resource.ts";
import { existing, type FunctionResource, functionName, functionResource, invalid, named, shown } from "./function-input.ts";

const listInput = z.object({ MaxResults: z.number().int().min(1).max(1000).default(100), NextToken: nextToken });

/** Source: AWS Lambda API reference, ListFunctions. */
export const listFunctionsOperation = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListFunctions",
  action: "lambda:ListFunctions",
  noun: "functions",
  verb: "list",
  mode: "read",
  summary: "Lists the registered functions of a region by name.",
  input: listInput,
  resource: () => ({ arn: "*", context: {} }),
  async run({ MaxResults, NextToken }, _found, { sql, region }) {
    const scope = `functions ${region}`;
    const after = NextToken === undefined ? "" : String(readPageToken(NextToken, scope)[0]);
    const found = await listFunctions(sql, region, { after, limit: MaxResults + 1 });
    const last = found.length > MaxResults ? found[MaxResults - 1] : undefined;
    const page = found.slice(0, MaxResults);
    const code = await codeOfFunctions(
      sql,
      page.filter(({ kind }) => kind === "lambda").map(({ arn }) => arn),
    );
    const Functions = page.map((record) => ({ ...shown(record), ...shownCode(code.get(record.arn)) }));
    return { Functions, ...(last && { NextToken: writePageToken(scope, [last.name]) }) };
  },
});

/** Source: AWS Lambda API reference, GetFunction. */
export const getFunction = defineOperation<z.infer<typeof named>, FunctionResource>({
  name: "GetFunction",
  action: "lambda:GetFunction",
  noun: "functions",
  verb: "get",
  mode: "read",
  summary: "Shows a function; the names of its variables, not their values.",
  input: named,
  resource: functionResource,
  async run(_input, found, { sql }) {
    const record = existing(found);
    return { ...shown(record), ...shownCode((await codeOfFunctions(sql, [record.arn])).get(record.arn)) };
  },
});

/** What is known of the code of one of Rekey's own functions at AWS. */
function shownCode(code: FunctionCode | undefined): object {
  if (!code) return {};
  const { state, runs, wanted, message, lookedAt } = code;
  const Code = { State: state, Runs: runs, Newest: wanted, Message: message, LookedDate: lookedAt && new Date(lookedAt) };
  return { Code };
}

const logsInput = z.object({ FunctionName: functionName, MaxResults: z.number().int().min(1).max(50).default(10) });

/** What a function wrote in its last calls. */
export const getFunctionLogs = defineOperation<z.infer<typeof logsInput>, FunctionResource>({
  name: "GetFunctionLogs",
  action: "rekey:GetFunctionLogs",
  noun: "functions",
  verb: "logs",
  mode: "read",
  summary: "Shows what a function wrote in its last calls, newest first, with secret values cut out.",
  input: logsInput,
  resource: functionResource,
  async run({ MaxResults }, found, { sql }) {
    const logs = await functionLogs(sql, existing(found).arn, MaxResults);
    return {
      Logs: logs.map(({ requestId, at, failed, output }) => ({
        RequestId: requestId,
        StartedDate: new Date(at),
        Failed: failed,
        Output: output,
      })),
    };
  },
});

const policyInput = z.object({
  FunctionName: functionName,
  SuperuserSecretArn: z
    .string()
    .min(20)
    .max(2048)
    .regex(/^arn:aws:secretsmanager:[^*?\s]+$/)
    .optional(),
  KeyArns: z
    .array(
      z
        .string()
        .regex(/^arn:aws:kms:[^*?\s]+$/)
        .max(2048),
    )
    .max(20)
    .optional(),
  SecretArn: z
    .string()
    .min(20)
    .max(2048)
    .regex(/^arn:aws:secretsmanager:[^*?\s]+$/)
    .optional(),
});

/** Source: AWS Lambda API reference, GetPolicy; user guide, "Lambda rotation function execution role permissions". */
export const getFunctionPolicy = defineOperation<z.infer<typeof policyInput>, FunctionResource>({
  name: "GetFunctionPolicy",
  action: "lambda:GetPolicy",
  noun: "functions",
  verb: "policy",
  mode: "read",
  summary: "Shows who may invoke a function, and the least policies that let it rotate the secrets that name it.",
  input: policyInput,
  resource: functionResource,
  async run({ SuperuserSecretArn, KeyArns, SecretArn }, found) {
    const record = existing(found);
    const least = functionPolicies(record, { superuserSecretArn: SuperuserSecretArn, keyArns: KeyArns, secretArn: SecretArn });
    return {
      Policy: record.policy,
      LeastRolePolicy: least.role,
      LeastTrustPolicy: least.trust,
      LeastFunctionPolicy: least.resource,
    };
  },
});

const invokeInput = z.object({ FunctionName: functionName, Payload: z.string().max(functionLimits.payloadBytes).default("{}") });

/** Source: AWS Lambda API reference, Invoke. */
export const invokeFunction = defineOperation<z.infer<typeof invokeInput>, FunctionResource>({
  name: "InvokeFunction",
  action: "lambda:InvokeFunction",
  noun: "functions",
  verb: "invoke",
  mode: "write",
  summary: "Calls a function with an event of JSON text and waits for its answer.",
  input: invokeInput,
  sensitive: ["Payload"],
  check: ({ Payload }) => void eventIn(Payload),
  resource: functionResource,
  async run({ Payload }, found, call) {
    const record = existing(found);
    if (record.kind === "http-api") throw invalid("An HTTP API's function cannot be called: rotations use its declaration.");
    const { SecretId } = eventIn(Payload);
    const { data: secretArn } = secretId.safeParse(SecretId);
    const about = secretArn !== undefined && (await mayRead(secretArn, call)) ? { secretArn } : {};
    const { requestId, payload, functionError, failure } = await call.services.functions.call(record, Payload, about);
    return {
      StatusCode: 200,
      RequestId: requestId,
      FunctionError: functionError,
      Payload: payload,
      ...(failure && { Outcome: failure.outcome, Reason: failure.message, Remedy: failure.remedy }),
    };
  },
});

/** Else what is cut out of the answer would tell a caller whether a guess of a value was right. */
async function mayRead(SecretId: string, call: Call): Promise<boolean> {
  const found = await secretResource({ SecretId }, call);
  return call.may("secretsmanager:GetSecretValue", found) === undefined;
}

function eventIn(payload: string): Readonly<Record<string, unknown>> {
  try {
    const event: unknown = JSON.parse(payload);
    return typeof event === "object" && event !== null ? (event as Record<string, unknown>) : {};
  } catch {
    throw invalid("Payload must be JSON text."); // what the parser says quotes it
  }
}
