import { z } from "zod";
import { type AccessRole, accessRoles, isNarrowable, roleNames } from "../../core/access-role.ts";
import { ServiceError } from "../../core/error.ts";
import { logActivity } from "../../store/activity.ts";
import type { Group } from "../../store/group-members.ts";
import { raiseIdentityVersion, type User } from "../../store/identity.ts";
import { findMember, type Member, projectMembers, removeMembership, setMembership } from "../../store/project-members.ts";
import { existingProject, type ProjectResource, projectResource } from "../configs/config-resource.ts";
import { paging, readPage } from "../configs/paging.ts";
import { defineOperation, type Operation } from "../operation.ts";
import { actor, projectMembers as projectInput } from "./access-input.ts";
import { checkEnvironments, checkMember, memberInput, memberNamed, shownMember } from "./member-input.ts";

const listInput = z.object({ ...projectInput, ...paging });
const ofMember = z.object({ ...projectInput, ...memberInput });
const setInput = z.object({
  ...projectInput,
  ...memberInput,
  /** Absent: the one before, or a group's default. */
  Role: z.enum(accessRoles).optional(),
  /** Slugs; null: all. Absent: as before, or all. */
  Environments: z.array(z.string().min(1).max(64)).max(100).nullable().optional(),
  /** `new`: refuse who has a role there already; `existing`: who has none. */
  Only: z.enum(["new", "existing"]).optional(),
});

const listMembers = defineOperation<z.infer<typeof listInput>, ProjectResource>({
  name: "ListProjectMembers",
  action: "rekey:ListProjectMembers",
  noun: "project-members",
  verb: "list",
  mode: "read",
  summary: "Lists users, service accounts and groups with a role in a project.",
  input: listInput,
  resource: projectResource,
  async run(request, found, call) {
    const { id } = existingProject(found);
    const { rows, ...next } = await readPage(request, {
      scope: `members of ${id}`,
      fetch: ({ after = "", skip, limit }) => projectMembers(call.sql, id, { after, skip, limit }),
      key: ({ principalArn }) => principalArn,
    });
    return { Members: rows.map(shownMember), ...next };
  },
});

const getMember = defineOperation<z.infer<typeof ofMember>, ProjectResource>({
  name: "GetProjectMember",
  action: "rekey:ListProjectMembers",
  noun: "project-members",
  verb: "get",
  mode: "read",
  summary: "Shows the role of a user, service account or group in a project.",
  input: ofMember,
  check: checkMember,
  resource: projectResource,
  async run(input, found, call) {
    const { id } = existingProject(found);
    const { arn, name } = await memberNamed(input, call);
    const member = await findMember(call.sql, id, arn);
    if (!member) throw noRole(name, id);
    return { Member: shownMember(member) };
  },
});

const setRole = defineOperation<z.infer<typeof setInput>, ProjectResource>({
  name: "SetProjectRole",
  action: "rekey:SetProjectRole",
  noun: "project-members",
  verb: "set",
  mode: "write",
  summary:
    "Gives a user, service account or group a role in a project, or in some of its environments, in place of the one before.",
  input: setInput,
  check: checkMember,
  resource: projectResource,
  async run({ Role, Environments, Only, ...input }, found, call) {
    const { id: projectId } = existingProject(found);
    const holder = await memberNamed(input, call);
    const member = await call.transaction(async (tx) => {
      await raiseIdentityVersion(tx);
      const before = await findMember(tx, projectId, holder.arn);
      checkOnly(Only, before, () => `${holder.name} has ${before ? "a" : "no"} role in project ${projectId}`);
      const role = roleOf(Role, before, holder);
      const asked = Environments === undefined && isNarrowable(role) ? before?.environments : Environments;
      const environments = await checkEnvironments(tx, { projectId, role, environments: asked ?? null });
      const createdAt = call.services.now();
      await setMembership(tx, { projectId, principalArn: holder.arn, role, environments, createdAt });
      const where = environments === null ? "" : ` in ${environments.join(", ") || "no environment"}`;
      await logActivity(tx, {
        ...actor(call),
        project: projectId,
        text: `gave ${holder.name} the role ${roleNames[role]}${where}`,
      });
      return findMember(tx, projectId, holder.arn);
    });
    if (!member) throw noRole(holder.name, projectId);
    return { Member: shownMember(member) };
  },
});

/** @throws ServiceError ResourceExistsException, ResourceNotFoundException */
function checkOnly(only: "new" | "existing" | undefined, before: Member | undefined, text: () => string): void {
  if (only === "new" && before) throw new ServiceError("ResourceExistsException", `${text()} already.`);
  if (only === "existing" && !before) throw new ServiceError("ResourceNotFoundException", `${text()}.`);
}

/** @throws ServiceError ValidationException when none is given and there is none to keep */
function roleOf(given: AccessRole | undefined, before: Member | undefined, holder: User | Group): AccessRole {
  const role = given ?? before?.role ?? ("defaultProjectRole" in holder ? holder.defaultProjectRole : null);
  if (role === null) throw new ServiceError("ValidationException", `Role must be one of ${accessRoles.join(", ")}.`);
  return role;
}

const removeMember = defineOperation<z.infer<typeof ofMember>, ProjectResource>({
  name: "RemoveProjectMember",
  action: "rekey:SetProjectRole",
  noun: "project-members",
  verb: "remove",
  mode: "write",
  summary: "Takes a role in a project away; what policies and groups allow stays.",
  input: ofMember,
  check: checkMember,
  resource: projectResource,
  async run(input, found, call) {
    const { id: projectId } = existingProject(found);
    const { arn, name } = await memberNamed(input, call);
    await call.transaction(async (tx) => {
      await raiseIdentityVersion(tx);
      if (!(await removeMembership(tx, projectId, arn))) throw noRole(name, projectId);
      await logActivity(tx, { ...actor(call), project: projectId, text: `took the role of ${name} away` });
    });
    return {};
  },
});

const noRole = (name: string, project: string) =>
  new ServiceError("ResourceNotFoundException", `${name} has no role in project ${project}.`);

export const projectMemberOperations: readonly Operation[] = [listMembers, getMember, setRole, removeMember];
