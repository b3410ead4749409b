import type { Operation } from "../operation.ts";
import { searchAuditOperation } from "./search.ts";

/** What callers may ask of the audit trail. */
export const auditOperations: readonly Operation[] = [searchAuditOperation];
