/** Paths that leased users may stand under. */
export const leasePaths = ["/rekey/", "/doppler/"] as const;
export type LeasePath = (typeof leasePaths)[number];

/** What the managing user does to leased users, each of it at issue or at revocation. */
export const userActions = [
  "iam:CreateUser",
  "iam:TagUser",
  "iam:PutUserPolicy",
  "iam:CreateAccessKey",
  "iam:GetUser",
  "iam:ListUsers",
  "iam:ListAccessKeys",
  "iam:UpdateAccessKey",
  "iam:DeleteAccessKey",
  "iam:ListUserPolicies",
  "iam:DeleteUserPolicy",
  "iam:ListAttachedUserPolicies",
  "iam:DetachUserPolicy",
  "iam:ListGroupsForUser",
  "iam:DeleteLoginProfile",
  "iam:DeleteUser",
] as const;

export const groupActions = ["iam:AddUserToGroup", "iam:RemoveUserFromGroup"] as const;
/** Only with the boundary are users made and given rights, where one is asked for. */
const boundedActions: readonly string[] = ["iam:CreateUser", "iam:PutUserPolicy"];

export interface ManagingPolicyOptions {
  readonly path: LeasePath;
  /** Groups that leased users join; `*` for any. */
  readonly groups?: readonly string[] | undefined;
  /** ARN of a managed policy; leased users cannot be made without it then. */
  readonly permissionsBoundary?: string | undefined;
  /** Default: `aws`. */
  readonly partition?: string | undefined;
}

/**
 * An identity policy with the fewest rights that leasing IAM users under a path takes: for the managing user or the role.
 * Source: Service Authorization Reference, AWS IAM.
 */
export function managingPolicy({ path, groups = [], permissionsBoundary, partition = "aws" }: ManagingPolicyOptions): unknown {
  const users = `arn:${partition}:iam::*:user${path}*`;
  const named = groups.map((group) => `arn:${partition}:iam::*:group/${group}`);
  const free = userActions.filter((action) => permissionsBoundary === undefined || !boundedActions.includes(action));
  return {
    Version: "2012-10-17",
    Statement: [
      { Sid: "LeasedUsers", Effect: "Allow", Action: free, Resource: users },
      ...(permissionsBoundary === undefined
        ? []
        : [
            {
              Sid: "LeasedUsersWithBoundary",
              Effect: "Allow",
              Action: [...boundedActions, "iam:PutUserPermissionsBoundary"],
              Resource: users,
              Condition: { StringEquals: { "iam:PermissionsBoundary": permissionsBoundary } },
            },
          ]),
      ...(named.length === 0 ? [] : [{ Sid: "Groups", Effect: "Allow", Action: [...groupActions], Resource: named }]),
    ],
  };
}
