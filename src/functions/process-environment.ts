import type { FunctionRecord, ProcessSettings } from "../core/function.ts";

/** Temporary credentials of a role. */
export interface RoleSession {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly expiresAt: number;
}

/** A process function with its settings. */
export type ProcessFunction = FunctionRecord & { readonly kind: "process"; readonly process: ProcessSettings };

/**
 * All that a process is given but for the function's own variables, and its folder: nothing of the server's environment.
 * Source: AWS Lambda Developer Guide, "Defined runtime environment variables".
 */
export function environmentOf(record: ProcessFunction, session: RoleSession, endpoint: string): Record<string, string> {
  const { name, region, memoryMiB, process } = record;
  return {
    PATH: "/usr/local/bin:/usr/bin:/bin",
    LANG: "C.UTF-8",
    TZ: ":UTC",
    PYTHONUNBUFFERED: "1",
    PYTHONDONTWRITEBYTECODE: "1",
    AWS_ACCESS_KEY_ID: session.accessKeyId,
    AWS_SECRET_ACCESS_KEY: session.secretAccessKey,
    AWS_SESSION_TOKEN: session.sessionToken,
    AWS_REGION: region,
    AWS_DEFAULT_REGION: region,
    AWS_EC2_METADATA_DISABLED: "true",
    AWS_LAMBDA_FUNCTION_NAME: name,
    AWS_LAMBDA_FUNCTION_VERSION: "$LATEST",
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(memoryMiB),
    AWS_LAMBDA_FUNCTION_TIMEOUT: String(record.timeoutSeconds),
    AWS_LAMBDA_INITIALIZATION_TYPE: "on-demand",
    AWS_ENDPOINT_URL_SECRETS_MANAGER: endpoint,
    AWS_ENDPOINT_URL_STS: endpoint,
    SECRETS_MANAGER_ENDPOINT: endpoint,
    _HANDLER: process.handler ?? "",
  };
}
