import type { Operation } from "../operation.ts";
import { accessRoleOperations } from "./access-roles.ts";
import { accountTokenOperations } from "./account-tokens.ts";
import { cliLoginOperations } from "./cli-logins.ts";
import { oidcIdentityOperations } from "./oidc-identities.ts";
import { ownOperations } from "./own-tokens.ts";
import { projectMemberOperations } from "./project-members.ts";
import { serviceAccountOperations } from "./service-accounts.ts";
import { serviceTokenOperations } from "./service-tokens.ts";
import { trustedIpOperations } from "./trusted-ips.ts";
import { workplaceUserOperations } from "./workplace-users.ts";

/** Who may use configs, and from where. */
export const configAccessOperations: readonly Operation[] = [
  ...serviceTokenOperations,
  ...trustedIpOperations,
  ...projectMemberOperations,
  ...accessRoleOperations,
  ...workplaceUserOperations,
  ...serviceAccountOperations,
  ...accountTokenOperations,
  ...oidcIdentityOperations,
  ...cliLoginOperations,
  ...ownOperations,
];
