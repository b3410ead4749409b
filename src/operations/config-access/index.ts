import type { Operation } from "../operation.ts";
import { serviceTokenOperations } from "./service-tokens.ts";
import { trustedIpOperations } from "./trusted-ips.ts";

/** Who may use configs, from where, and who is told of changes. */
export const configAccessOperations: readonly Operation[] = [...serviceTokenOperations, ...trustedIpOperations];
