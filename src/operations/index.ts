import { auditOperations } from "./audit/index.ts";
import { identityOperations } from "./identity/index.ts";
import { keyOperations } from "./keys/index.ts";
import type { Operation } from "./operation.ts";
import { awsOperations } from "./secrets/index.ts";

/** Everything that callers may ask for, on one screen for all doors. */
export const operations: readonly Operation[] = [...awsOperations, ...keyOperations, ...identityOperations, ...auditOperations];
