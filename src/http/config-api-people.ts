import { type Field, json, mapped, param, text } from "./config-api-input.ts";
import { type ConfigRoute, noContent, pageOf, paging, project, route } from "./config-api-route.ts";
import { time } from "./config-api-shapes.ts";

export interface RoleOutput {
  readonly Identifier: string;
  readonly Name: string;
  readonly Permissions: readonly string[];
}

/** A role in the deployment, or in a project, where nobody has one of their own. */
export const roleOf = ({ Identifier, Name, Permissions }: RoleOutput) => ({
  identifier: Identifier,
  name: Name,
  permissions: Permissions,
  created_at: null,
  is_custom_role: false,
  is_inline_role: false,
});

const projectRoleOf = (role: RoleOutput) => {
  const { is_inline_role: _none, ...shown } = roleOf(role);
  return shown;
};

const always = (value: unknown): Field => ({ name: "", read: () => value });

function roleRoutes(path: string, scope: "workplace" | "project"): readonly ConfigRoute[] {
  const shown = scope === "workplace" ? roleOf : projectRoleOf;
  const input = { Scope: always(scope) };
  return [
    route<{ Roles: RoleOutput[] }>(`GET ${path}/roles`, "ListAccessRoles", {
      input,
      answer: ({ Roles }) => ({ roles: Roles.map(shown), success: true }),
    }),
    route<{ Role: RoleOutput }>(`GET ${path}/roles/role/:role`, "GetAccessRole", {
      input: { ...input, Identifier: param("role") },
      answer: ({ Role }) => ({ role: shown(Role), success: true }),
    }),
    route<{ Roles: RoleOutput[] }>(`GET ${path}/permissions`, "ListAccessRoles", {
      input,
      answer: ({ Roles }) => ({
        permissions: [...new Set(Roles.flatMap(({ Permissions }) => Permissions))].sort(),
        success: true,
      }),
    }),
  ];
}

interface UserOutput {
  readonly Id: string;
  readonly Name: string;
  readonly Role: string;
  readonly CreatedAt: Date;
}

/** Who is called by an e-mail address has that one; nothing else is known of people. */
const userOf = ({ Id, Name, Role, CreatedAt }: UserOutput) => ({
  id: Id,
  access: Role,
  created_at: time(CreatedAt),
  user: { email: Name.includes("@") ? Name : null, name: Name, username: Name, profile_image_url: null },
});

const oneUser = ({ User }: { User: UserOutput }) => ({ workplace_user: userOf(User), success: true });
const user = { Id: param("slug") };

const userRoutes: readonly ConfigRoute[] = [
  route<{ Users: UserOutput[] }>("GET /v3/workplace/users", "ListWorkplaceUsers", {
    input: { ...paging, Name: text("email") },
    answer: ({ Users }, asked) => ({ workplace_users: Users.map(userOf), page: pageOf(asked), success: true }),
  }),
  route("GET /v3/workplace/users/:slug", "GetWorkplaceUser", { input: user, answer: oneUser }),
  route("PATCH /v3/workplace/users/:slug", "SetWorkplaceUserRole", {
    input: { ...user, Role: text("access") },
    answer: oneUser,
  }),
];

interface MemberOutput {
  readonly Type: string;
  readonly Id: string;
  readonly Role: string;
  readonly Environments?: readonly string[];
}

const memberOf = ({ Type, Id, Role, Environments }: MemberOutput) => ({
  type: Type,
  slug: Id,
  role: { identifier: Role },
  access_all_environments: Environments === undefined,
  environments: Environments ?? [],
});

const oneMember = ({ Member }: { Member: MemberOutput }) => ({ member: memberOf(Member), success: true });
const members = "/v3/projects/project/members";

/** A member by its kind and id, from the path or the body. */
function member(of: (name: string) => Field) {
  const slugIf = (isGroup: boolean): Field => ({
    name: "slug",
    read: (asked) => ((of("type").read(asked) === "group") === isGroup ? of("slug").read(asked) : undefined),
  });
  return { ...project, Type: of("type"), UserName: slugIf(false), GroupName: slugIf(true) };
}

const roleThere = { Role: text("role"), Environments: json("environments") };
const ofPath = member(param);

const memberRoutes: readonly ConfigRoute[] = [
  route<{ Members: MemberOutput[] }>(`GET ${members}`, "ListProjectMembers", {
    input: { ...project, ...paging },
    answer: ({ Members }, asked) => ({ members: Members.map(memberOf), page: pageOf(asked), success: true }),
  }),
  route(`POST ${members}`, "SetProjectRole", {
    input: { ...member(text), ...roleThere, Only: always("new") },
    answer: oneMember,
  }),
  route(`GET ${members}/member/:type/:slug`, "GetProjectMember", { input: ofPath, answer: oneMember }),
  route(`PATCH ${members}/member/:type/:slug`, "SetProjectRole", {
    input: { ...ofPath, ...roleThere, Only: always("existing") },
    answer: oneMember,
  }),
  route(`DELETE ${members}/member/:type/:slug`, "RemoveProjectMember", { input: ofPath, answer: noContent }),
];

interface GroupOutput {
  readonly GroupId: string;
  readonly GroupName: string;
  readonly Role?: string;
  readonly DefaultProjectRole?: string;
  readonly CreateDate: Date;
}

interface GroupUserOutput {
  readonly UserId: string;
  readonly Kind: string;
}

interface WholeGroup {
  readonly Group: GroupOutput;
  readonly Users?: readonly GroupUserOutput[];
  readonly ProjectRoles?: readonly { readonly Project: string; readonly Role: string }[];
}

const groupOf = ({ GroupId, GroupName, Role, DefaultProjectRole, CreateDate }: GroupOutput) => ({
  name: GroupName,
  slug: GroupId,
  created_at: time(CreateDate),
  default_project_role: { identifier: DefaultProjectRole ?? null },
  workplace_role: { identifier: Role ?? "no_access" },
});

const groupUserOf = ({ UserId, Kind }: GroupUserOutput) => ({
  type: Kind === "person" ? "workplace_user" : "service_account",
  slug: UserId,
});

const oneGroup = ({ Group, Users = [], ProjectRoles = [] }: WholeGroup) => ({
  group: {
    ...groupOf(Group),
    projects: ProjectRoles.map(({ Project, Role }) => ({ name: Project, slug: Project, role: { identifier: Role } })),
    members: Users.map(groupUserOf),
  },
  success: true,
});

const groups = "/v3/workplace/groups";
const group = { GroupName: param("slug") };
const groupRoles = { DefaultProjectRole: json("default_project_role"), Role: text("workplace_role") };
const ofGroup = { ...group, Type: param("type"), UserName: param("member") };
const slugsOf = (value: unknown) => (Array.isArray(value) ? value.map((one: { slug?: unknown } | null) => one?.slug) : value);

const groupRoutes: readonly ConfigRoute[] = [
  route<{ Groups: GroupOutput[] }>(`GET ${groups}`, "ListGroups", {
    input: { ...paging, GroupName: text("name") },
    answer: ({ Groups }, asked) => ({ groups: Groups.map(groupOf), page: pageOf(asked), success: true }),
  }),
  route(`POST ${groups}`, "CreateGroup", { input: { GroupName: text("name"), ...groupRoles }, answer: oneGroup }),
  route(`GET ${groups}/group/:slug`, "GetGroup", { input: group, answer: oneGroup }),
  route(`PATCH ${groups}/group/:slug`, "UpdateGroup", {
    input: { ...group, NewGroupName: text("name"), ...groupRoles },
    answer: oneGroup,
  }),
  route(`DELETE ${groups}/group/:slug`, "DeleteGroup", { input: group, answer: noContent }),
  route<{ Users: GroupUserOutput[] }>(`GET ${groups}/group/:slug/members`, "ListGroupUsers", {
    input: { ...group, ...paging },
    answer: ({ Users }, asked) => ({ members: Users.map(groupUserOf), page: pageOf(asked), success: true }),
  }),
  route(`POST ${groups}/group/:slug/members`, "AddUserToGroup", {
    input: { ...group, Type: text("type"), UserName: text("slug"), OnlyNew: always(true) },
    answer: noContent,
  }),
  route(`PUT ${groups}/group/:slug/members`, "SetGroupUsers", {
    input: { ...group, UserNames: mapped(json("members"), slugsOf) },
    answer: noContent,
  }),
  route(`GET ${groups}/group/:slug/members/:type/:member`, "GetGroupUser", { input: ofGroup, answer: noContent }),
  route(`DELETE ${groups}/group/:slug/members/:type/:member`, "RemoveUserFromGroup", { input: ofGroup, answer: noContent }),
];

/** Who there is, in which groups, and what they may. */
export const peopleRoutes: readonly ConfigRoute[] = [
  ...roleRoutes("/v3/workplace", "workplace"),
  ...roleRoutes("/v3/projects", "project"),
  ...userRoutes,
  ...memberRoutes,
  ...groupRoutes,
];
