import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import {
  environmentNameProblem,
  type FunctionRecord,
  type FunctionSettings,
  fileRuntimes,
  functionArn,
  functionLimits,
  functionNamePattern,
  lambdaProtocols,
} from "../../core/function.ts";
import { externalIdPattern } from "../../core/identity.ts";
import { parsePolicy } from "../../core/policy.ts";
import { findFunction } from "../../store/functions.ts";
import { isPlainHost } from "../../targets/http-api-address.ts";
import { parseHttpApiDeclaration } from "../../targets/http-api-declaration.ts";
import type { Call, Permission, Resource } from "../operation.ts";
import { lambdaIn, shownLambda } from "./lambda-input.ts";

const { timeoutSeconds, memoryMiB, concurrency } = functionLimits;
/** ARNs at AWS: of a function, with or without version or alias, and of a role. */
export const functionAtAws = /^arn:aws(-cn|-us-gov)?:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9_-]{1,64}(:[A-Za-z0-9$_-]+)?$/;
export const roleAtAws = /^arn:aws(-cn|-us-gov)?:iam::\d{12}:role\/[\w+=,.@/-]{1,512}$/;

/** A name, or the ARN. */
export const functionName = z.string().min(1).max(200);
export const named = z.object({ FunctionName: functionName });

/** What create and update have in common. */
export const settingMembers = {
  Process: z
    .object({
      Runtime: z.enum(fileRuntimes),
      File: z.string().min(1).max(512),
      Handler: z.string().min(1).max(128).optional(),
    })
    .optional(),
  Lambda: z
    .object({
      FunctionArn: z.string().max(2048).regex(functionAtAws).optional(),
      AssumeRoleArn: z.string().max(2048).regex(roleAtAws).optional(),
      ExternalId: z.string().min(2).max(1224).regex(externalIdPattern).optional(),
      Protocol: z.enum(lambdaProtocols).optional(),
      FarKey: z.string().min(2).max(4096).optional(),
      AutoUpdate: z.boolean().optional(),
      SignedCode: z
        .object({
          Bucket: z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/),
          Key: z.string().min(1).max(1024),
          ObjectVersion: z.string().min(1).max(1024).optional(),
          Sha256: z.string().regex(/^[A-Za-z0-9+/]{43}=$/),
        })
        .optional(),
    })
    .optional(),
  HttpApi: z.record(z.string(), z.unknown()).optional(),
  Description: z.string().max(256).optional(),
  Role: z.string().min(20).max(2048).optional(),
  Timeout: z.number().int().min(timeoutSeconds.least).max(timeoutSeconds.most).optional(),
  MemorySize: z.number().int().min(memoryMiB.least).max(memoryMiB.most).optional(),
  Concurrency: z.number().int().min(concurrency.least).max(concurrency.most).optional(),
  Environment: z.record(z.string().max(128), z.string().max(4096)).optional(),
};
const settings = z.object(settingMembers);
export type SettingsInput = z.infer<typeof settings>;

/** A function as authorization sees it, whether it exists or not. */
export interface FunctionResource extends Resource {
  readonly record: FunctionRecord | undefined;
}

export async function functionResource({ FunctionName }: { FunctionName: string }, call: Call): Promise<FunctionResource> {
  const arn = FunctionName.startsWith("arn:") ? FunctionName : functionArn(call.region, call.account, FunctionName);
  const record = await findFunction(call.sql, arn);
  return { arn, shown: arn, context: {}, record, ...(record?.policy === undefined ? {} : { policy: record.policy }) };
}

/** @throws ServiceError ResourceNotFoundException */
export function existing({ record, arn }: FunctionResource): FunctionRecord {
  if (!record) throw new ServiceError("ResourceNotFoundException", `Function not found: ${arn}`);
  return record;
}

/** @throws ServiceError InvalidParameterException for names that none may have. */
export function requireName(name: string): void {
  if (!functionNamePattern.test(name)) throw invalid("FunctionName must have 1 to 64 letters, digits, - and _.");
}

/**
 * How it does its work, as given; `undefined` when nothing is. A Lambda without FunctionArn changes what it names of `before`.
 * @throws ServiceError InvalidParameterException
 */
export function settingsIn(input: SettingsInput, before?: FunctionSettings): FunctionSettings | undefined {
  const { Process, Lambda, HttpApi } = input;
  if ([Process, Lambda, HttpApi].filter(Boolean).length > 1) throw invalid("Give one of Process, Lambda and HttpApi.");
  if (Process) return { kind: "process", process: { runtime: Process.Runtime, file: Process.File, handler: Process.Handler } };
  if (HttpApi) {
    parseHttpApiDeclaration(HttpApi);
    return { kind: "http-api", declaration: HttpApi };
  }
  return Lambda && { kind: "lambda", lambda: lambdaIn(Lambda, before?.kind === "lambda" ? before.lambda : undefined) };
}

/** @throws ServiceError InvalidParameterException naming the variable and the rule, never its value. */
export function checkEnvironment(environment: Readonly<Record<string, string>> | undefined): void {
  for (const [name, value] of Object.entries(environment ?? {})) {
    const problem = environmentNameProblem(name) ?? (value.includes("\0") ? "has a value with a NUL character" : undefined);
    if (problem !== undefined) throw invalid(`Environment variable ${name.slice(0, 128)} ${problem}.`);
  }
  const bytes = Buffer.byteLength(JSON.stringify(environment ?? {}));
  if (bytes > functionLimits.environmentBytes)
    throw invalid(`Environment takes ${bytes} bytes; it may take ${functionLimits.environmentBytes}.`);
}

/** @throws ServiceError MalformedPolicyDocumentException */
export function checkPolicy(document: string): void {
  parsePolicy(document, "resource", "function policy");
}

/** Who gives a function a role must be allowed to hand that role on: else making a function would be a way to it. */
export function passRole(roleArn: string | undefined): readonly Permission[] {
  if (roleArn === undefined) return [];
  const context = { "iam:PassedToService": ["lambda.amazonaws.com"] };
  return [{ action: "iam:PassRole", resource: { arn: roleArn, shown: roleArn, context } }];
}

/** Who has Rekey put code in place at AWS, and says which, needs leave for that: Rekey's own rights there do it. */
export function putCode(given: SettingsInput["Lambda"], resource: FunctionResource): readonly Permission[] {
  const { AutoUpdate, SignedCode, FunctionArn, AssumeRoleArn } = given ?? {};
  const isAutomatic = resource.record?.kind === "lambda" && resource.record.lambda.autoUpdate === true;
  const isOther = FunctionArn !== undefined || AssumeRoleArn !== undefined;
  return AutoUpdate || SignedCode || (isAutomatic && isOther) ? [{ action: "lambda:UpdateFunctionCode", resource }] : [];
}

/** What listens on the server's own machine, or tells it who it is, trusts the machine: few may have the server ask there. */
export function askSpecialAddresses(
  declaration: Readonly<Record<string, unknown>> | undefined,
  resource: FunctionResource,
): readonly Permission[] {
  const { origin = "", allowAddresses = [] } = declaration ?? {};
  const url = URL.canParse(String(origin)) ? new URL(String(origin)) : undefined;
  const isSpecial = (url && isPlainHost(url.hostname)) || !Array.isArray(allowAddresses) || allowAddresses.length > 0;
  return isSpecial ? [{ action: "rekey:AllowFunctionAddresses", resource }] : [];
}

export function invalid(message: string): ServiceError {
  return new ServiceError("InvalidParameterException", message);
}

/** What callers see of a function. */
export function shown(record: FunctionRecord) {
  return {
    FunctionName: record.name,
    FunctionArn: record.arn,
    Kind: record.kind,
    ...shownSettings(record),
    Description: record.description,
    Role: record.roleArn,
    Timeout: record.timeoutSeconds,
    MemorySize: record.memoryMiB,
    Concurrency: record.concurrency,
    EnvironmentNames: record.environmentNames,
    Policy: record.policy,
    CreatedDate: new Date(record.createdAt),
    LastModifiedDate: new Date(record.updatedAt),
  };
}

function shownSettings(record: FunctionSettings): object {
  if (record.kind === "process") {
    const { runtime, file, handler } = record.process;
    return { Process: { Runtime: runtime, File: file, Handler: handler } };
  }
  // The declaration's own keys are data.
  if (record.kind === "http-api") return { HttpApi: JSON.stringify(record.declaration) };
  return { Lambda: shownLambda(record.lambda) };
}
