/** What somebody may do in the whole deployment, or in one project; as managed policies that nobody has to write. */
export const accessRoles = ["admin", "collaborator", "viewer", "no_access"] as const;
export type AccessRole = (typeof accessRoles)[number];

const reading = ["rekey:Get*", "rekey:List*"];
const working = [
  ...reading,
  "rekey:SetConfigSecrets",
  "rekey:SetSecretNote",
  "rekey:CreateEnvironment",
  "rekey:UpdateEnvironment",
  "rekey:DeleteEnvironment",
  "rekey:CreateConfig",
  "rekey:UpdateConfig",
  "rekey:DeleteConfig",
  "rekey:CloneConfig",
  "rekey:LockConfig",
  "rekey:UnlockConfig",
  "rekey:SetConfigInheritable",
  "rekey:SetConfigInherits",
  "rekey:RollbackConfig",
  "rekey:CheckDynamicSecret",
  "rekey:IssueLease",
  "rekey:RenewLease",
  "rekey:RevokeLease",
  "rekey:RevokeLeases",
];
/** Leases are issued by those who work there: reading is not enough. */
const actionsOf: Readonly<Record<AccessRole, readonly string[]>> = {
  admin: ["rekey:*"],
  collaborator: working,
  viewer: reading,
  no_access: [],
};
const inWorkplace: Readonly<Record<AccessRole, readonly string[]>> = {
  admin: ["rekey:*"],
  collaborator: ["rekey:CreateProject", "rekey:GetWorkplace"],
  viewer: ["rekey:GetWorkplace"],
  no_access: [],
};

export const roleNames: Readonly<Record<AccessRole, string>> = {
  admin: "Admin",
  collaborator: "Collaborator",
  viewer: "Viewer",
  no_access: "No access",
};

export function isAccessRole(text: string): text is AccessRole {
  return (accessRoles as readonly string[]).includes(text);
}

/** The actions that a role allows in the whole deployment. */
export const workplaceActions = (role: AccessRole): readonly string[] => inWorkplace[role];

/** A policy of a role in the whole deployment; undefined when it allows nothing. */
export function workplaceRolePolicy(account: string, role: AccessRole): string | undefined {
  return allowing(inWorkplace[role], [`arn:aws:rekey:*:${account}:*`]);
}

/** A policy of a role in one project; `no_access` denies what other policies may allow there. */
export function projectRolePolicy(account: string, projectId: string, role: AccessRole): string {
  const own = [`project/${projectId}`];
  const kinds = ["environment", "config", "rotated-secret", "dynamic-secret", "lease", "webhook"];
  const within = kinds.map((kind) => `${kind}/${projectId}/*`);
  const resources = [...own, ...within].map((resource) => `arn:aws:rekey:*:${account}:${resource}`);
  return allowing(actionsOf[role], resources) ?? document("Deny", ["rekey:*"], resources);
}

function allowing(actions: readonly string[], resources: readonly string[]): string | undefined {
  return actions.length === 0 ? undefined : document("Allow", actions, resources);
}

function document(Effect: "Allow" | "Deny", Action: readonly string[], Resource: readonly string[]): string {
  return JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect, Action, Resource }] });
}
