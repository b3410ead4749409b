import type { Operation } from "../operation.ts";
import { cliLoginOperations } from "./cli-logins.ts";
import { ownOperations } from "./own-tokens.ts";
import { serviceTokenOperations } from "./service-tokens.ts";
import { trustedIpOperations } from "./trusted-ips.ts";

/** Who may use configs, from where, and who is told of changes. */
export const configAccessOperations: readonly Operation[] = [
  ...serviceTokenOperations,
  ...trustedIpOperations,
  ...cliLoginOperations,
  ...ownOperations,
];
