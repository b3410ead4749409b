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
  const Action = inWorkplace[role];
  return Action.length === 0 ? undefined : document({ Effect: "Allow", Action, Resource: [`arn:aws:rekey:*:${account}:*`] });
}

/** The actions that a role allows in one project. */
export const projectActions = (role: AccessRole): readonly string[] => actionsOf[role];

/**
 * A policy of a role in one project; `no_access` denies what other policies may allow there. `environments` narrows
 * collaborators and viewers to these, `null` does not.
 */
export function projectRolePolicy(
  account: string,
  projectId: string,
  role: AccessRole,
  environments: readonly string[] | null = null,
): string {
  const named = (...resources: readonly string[]) => resources.map((resource) => `arn:aws:rekey:*:${account}:${resource}`);
  const within = (...kinds: readonly string[]) => named(...kinds.map((kind) => `${kind}/${projectId}/*`));
  const project = `project/${projectId}`;
  const all = [...named(project), ...within(...ofEnvironments, "lease", "webhook")];
  if (role === "no_access") return document({ Effect: "Deny", Action: ["rekey:*"], Resource: all });
  const listing = { Effect: "Allow", Action: ["rekey:ListProjects"], Resource: named("project/*") } as const;
  if (environments === null || !isNarrowable(role))
    return document(listing, { Effect: "Allow", Action: actionsOf[role], Resource: all });
  return document(
    listing,
    { Effect: "Allow", Action: seeingProject, Resource: named(project) },
    ...(environments.length === 0 ? [] : narrowed(role, environments, within)),
  );
}

/** Whether the role may be given for some environments of a project only. */
export const isNarrowable = (role: AccessRole): boolean => role === "collaborator" || role === "viewer";

/** Kinds of resources that tell which environment they are of. */
const ofEnvironments = ["environment", "config", "rotated-secret", "dynamic-secret"];
const seeingProject = ["rekey:GetProject", "rekey:ListEnvironments", "rekey:ListConfigs"];

function narrowed(role: AccessRole, environments: readonly string[], within: (...kinds: string[]) => string[]): Statement[] {
  const there = { StringEquals: { "rekey:Environment": environments } };
  const own = { StringEquals: { "rekey:LeasePrincipal": `\${aws:PrincipalArn}` } };
  const leasing = ["rekey:GetLease", "rekey:RenewLease", "rekey:RevokeLease"];
  const working: Statement = { Effect: "Allow", Action: actionsOf[role], Resource: within(...ofEnvironments), Condition: there };
  if (role === "viewer") return [working];
  return [working, { Effect: "Allow", Action: leasing, Resource: within("lease"), Condition: own }];
}

interface Statement {
  readonly Effect: "Allow" | "Deny";
  readonly Action: readonly string[];
  readonly Resource: readonly string[];
  readonly Condition?: object;
}

const document = (...Statement: readonly Statement[]): string => JSON.stringify({ Version: "2012-10-17", Statement });
