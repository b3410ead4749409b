import type { Operation } from "../operation.ts";
import {
  createAccessKeyOperation,
  deleteAccessKeyOperation,
  disableAccessKeyOperation,
  enableAccessKeyOperation,
  listAccessKeysOperation,
} from "./access-keys.ts";
import { groupUserOperations } from "./group-users.ts";
import { groupOperations } from "./groups.ts";
import { createOidcProviderOperation, deleteOidcProviderOperation, listOidcProvidersOperation } from "./oidc-providers.ts";
import {
  createPolicyOperation,
  createPolicyVersionOperation,
  deletePolicyOperation,
  deletePolicyVersionOperation,
  getPolicyOperation,
  listPoliciesOperation,
  setDefaultPolicyVersionOperation,
} from "./policies.ts";
import { attachPolicyOperation, detachPolicyOperation } from "./policy-attachments.ts";
import {
  createRoleOperation,
  deleteRoleOperation,
  getRoleOperation,
  listRolesOperation,
  setTrustOperation,
  tagRoleOperation,
  untagRoleOperation,
} from "./roles.ts";
import { simulatePolicyOperation } from "./simulate-policy.ts";
import { assumeRoleOperation, assumeRoleWithWebIdentityOperation } from "./sts-assume-role.ts";
import { getCallerIdentityOperation } from "./sts-get-caller-identity.ts";
import { createTokenOperation, deleteTokenOperation, listTokensOperation } from "./tokens.ts";
import {
  createUserOperation,
  deleteUserOperation,
  getUserOperation,
  listUsersOperation,
  tagUserOperation,
  untagUserOperation,
} from "./users.ts";

/** STS, which has a door of its own besides the native API. */
export const stsOperations: readonly Operation[] = [
  getCallerIdentityOperation,
  assumeRoleOperation,
  assumeRoleWithWebIdentityOperation,
];

/** Who may call, and what they may do. */
export const identityOperations: readonly Operation[] = [
  ...stsOperations,
  createUserOperation,
  getUserOperation,
  listUsersOperation,
  tagUserOperation,
  untagUserOperation,
  deleteUserOperation,
  ...groupOperations,
  ...groupUserOperations,
  createRoleOperation,
  getRoleOperation,
  listRolesOperation,
  setTrustOperation,
  tagRoleOperation,
  untagRoleOperation,
  deleteRoleOperation,
  createAccessKeyOperation,
  listAccessKeysOperation,
  enableAccessKeyOperation,
  disableAccessKeyOperation,
  deleteAccessKeyOperation,
  createTokenOperation,
  listTokensOperation,
  deleteTokenOperation,
  createPolicyOperation,
  createPolicyVersionOperation,
  deletePolicyVersionOperation,
  setDefaultPolicyVersionOperation,
  getPolicyOperation,
  listPoliciesOperation,
  deletePolicyOperation,
  attachPolicyOperation,
  detachPolicyOperation,
  simulatePolicyOperation,
  createOidcProviderOperation,
  listOidcProvidersOperation,
  deleteOidcProviderOperation,
];
