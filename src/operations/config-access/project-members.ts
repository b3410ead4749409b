import { z } from "zod";
import { accessRoles, roleNames } from "../../core/access-role.ts";
import { ServiceError } from "../../core/error.ts";
import { nameInArn } from "../../core/identity.ts";
import { logActivity } from "../../store/activity.ts";
import { findUser, raiseIdentityVersion } from "../../store/identity.ts";
import { projectMembers, removeMembership, setMembership } from "../../store/project-members.ts";
import { existingProject, type ProjectResource, projectResource } from "../configs/config-resource.ts";
import { userName } from "../identity/identity-input.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { actor, projectMembers as projectInput } from "./access-input.ts";

const ofProject = z.object(projectInput);
const setInput = z.object({ ...projectInput, UserName: userName, Role: z.enum(accessRoles) });
const removeInput = z.object({ ...projectInput, UserName: userName });

/** @throws ServiceError ResourceNotFoundException */
async function memberArn({ sql }: Call, name: string): Promise<string> {
  const user = await findUser(sql, name);
  if (!user) throw new ServiceError("ResourceNotFoundException", `The user with name ${name} cannot be found.`);
  return user.arn;
}

const listMembers = defineOperation<z.infer<typeof ofProject>, ProjectResource>({
  name: "ListProjectMembers",
  action: "rekey:ListProjectMembers",
  noun: "project-members",
  verb: "list",
  mode: "read",
  summary: "Lists users and service accounts with a role in a project.",
  input: ofProject,
  resource: projectResource,
  async run(_input, found, call) {
    const members = await projectMembers(call.sql, existingProject(found).id);
    return {
      Members: members.map(({ principalArn, role, createdAt }) => ({
        UserName: nameInArn(principalArn, call.account, "user") ?? principalArn,
        Role: role,
        CreatedAt: new Date(createdAt),
      })),
    };
  },
});

const setRole = defineOperation<z.infer<typeof setInput>, ProjectResource>({
  name: "SetProjectRole",
  action: "rekey:SetProjectRole",
  noun: "project-members",
  verb: "set",
  mode: "write",
  summary: "Gives a user or service account a role in a project, in place of the one before.",
  input: setInput,
  resource: projectResource,
  async run({ UserName, Role }, found, call) {
    const { id: projectId } = existingProject(found);
    const principalArn = await memberArn(call, UserName);
    const createdAt = call.services.now();
    await call.transaction(async (tx) => {
      await raiseIdentityVersion(tx);
      await setMembership(tx, { projectId, principalArn, role: Role, createdAt });
      await logActivity(tx, { ...actor(call), project: projectId, text: `gave ${UserName} the role ${roleNames[Role]}` });
    });
    return { Member: { UserName, Role } };
  },
});

const removeMember = defineOperation<z.infer<typeof removeInput>, ProjectResource>({
  name: "RemoveProjectMember",
  action: "rekey:SetProjectRole",
  noun: "project-members",
  verb: "remove",
  mode: "write",
  summary: "Takes a role in a project away; what policies allow stays.",
  input: removeInput,
  resource: projectResource,
  async run({ UserName }, found, call) {
    const { id: projectId } = existingProject(found);
    const principalArn = await memberArn(call, UserName);
    await call.transaction(async (tx) => {
      await raiseIdentityVersion(tx);
      if (!(await removeMembership(tx, projectId, principalArn)))
        throw new ServiceError("ResourceNotFoundException", `${UserName} has no role in project ${projectId}.`);
      await logActivity(tx, { ...actor(call), project: projectId, text: `took the role of ${UserName} away` });
    });
    return {};
  },
});

export const projectMemberOperations: readonly Operation[] = [listMembers, setRole, removeMember];
