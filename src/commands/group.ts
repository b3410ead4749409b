import type { Command } from "commander";
import { type ApiCommand, addNoun, fields, sentence, table } from "./api-command.ts";
import type { Answer } from "./output.ts";
import { chosenOf } from "./typed-values.ts";

/** Commands on groups of users. */
export function addGroupCommands(program: Command): void {
  addNoun(program, "group", "Users that are given rights together", commands);
}

/** What users, service accounts and groups may have in the deployment and in projects. */
export const accessRoles = ["admin", "collaborator", "viewer", "no_access"] as const;

const groupFields = {
  Name: "groupName",
  Id: "groupId",
  ARN: "arn",
  Role: "role",
  "Role in new projects": "defaultProjectRole",
  Created: "createDate",
};
const roleOptions = {
  "--role <role>": `of its users in the whole deployment: ${accessRoles.join(", ")}`,
  "--project-role <role>": "what it becomes in a project when nothing else is said there",
};
const rolesOf = ({ role, projectRole }: Readonly<Record<string, unknown>>) => ({
  role: chosenOf(role, accessRoles, "--role"),
  defaultProjectRole: chosenOf(projectRole, accessRoles, "--project-role"),
});

/** `shop: viewer in dev, stg` */
export const projectRoleTexts = ({ projectRoles }: Answer): string[] =>
  Array.isArray(projectRoles)
    ? projectRoles.map(({ project, role, environments }) => `${project}: ${role}${placesOf(environments)}`)
    : [];
const placesOf = (environments: unknown): string =>
  Array.isArray(environments) ? ` in ${environments.join(", ") || "no environment"}` : "";

const commands: readonly ApiCommand[] = [
  {
    usage: "create <name>",
    about: "make a group",
    examples: ["rekey group create backend", "rekey group create backend --project-role collaborator"],
    operation: "groups/create",
    options: roleOptions,
    input: ({ args, options }) => ({ groupName: args[0], ...rolesOf(options) }),
    show: fields(groupFields, "group"),
  },
  {
    usage: "list",
    about: "list groups",
    examples: ["rekey group list"],
    operation: "groups/list",
    pages: "groups",
    show: table("groups", { NAME: "groupName", ID: "groupId", ROLE: "role", CREATED: "createDate" }, "no groups"),
  },
  {
    usage: "show <name>",
    about: "show a group with its users, policies and roles in projects",
    examples: ["rekey group show backend"],
    operation: "groups/get",
    input: ({ args }) => ({ groupName: args[0] }),
    show: ({ group, ...rest }, typed) =>
      fields({
        ...groupFields,
        Users: ({ users }) => (Array.isArray(users) ? users.map(({ userName }) => userName) : []),
        Policies: "attachedPolicyArns",
        Projects: projectRoleTexts,
      })({ ...(group as Answer), ...rest }, typed),
  },
  {
    usage: "update <name>",
    about: "change what a group's users may in the whole deployment, or what the group becomes in projects",
    notes: "A group keeps its name. Roles in projects it has are changed with rekey project-role set.",
    examples: ["rekey group update backend --role viewer"],
    operation: "groups/update",
    options: roleOptions,
    input: ({ args, options }) => ({ groupName: args[0], ...rolesOf(options) }),
    show: fields(groupFields, "group"),
  },
  {
    usage: "add <name> <user>",
    about: "put a user or service account into a group",
    examples: ["rekey group add backend alice"],
    operation: "groups/add-user",
    input: ({ args }) => ({ groupName: args[0], userName: args[1] }),
    show: sentence((_answer, { args }) => `${args[1]} is in group ${args[0]}`),
  },
  {
    usage: "remove <name> <user>",
    about: "take a user or service account out of a group",
    examples: ["rekey group remove backend alice"],
    operation: "groups/remove-user",
    input: ({ args }) => ({ groupName: args[0], userName: args[1] }),
    show: sentence((_answer, { args }) => `${args[1]} is not in group ${args[0]} any more`),
  },
  {
    usage: "delete <name>",
    about: "remove a group; its users stay, without what they had through it",
    examples: ["rekey group delete backend"],
    operation: "groups/delete",
    input: ({ args }) => ({ groupName: args[0] }),
    show: sentence((_answer, { args }) => `group ${args[0]} is deleted`),
  },
];
