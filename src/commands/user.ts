import type { Command } from "commander";
import { addNoun, fields, sentence, table } from "./api-command.ts";
import { accessRoles, projectRoleTexts } from "./group.ts";
import { chosenOf, tagsOf } from "./typed-values.ts";

const userFields = { Name: "userName", Id: "userId", ARN: "arn", Created: "createDate" };

/** Commands on users. */
export function addUserCommands(program: Command): void {
  addNoun(program, "user", "People and programs that may be given rights", [
    {
      usage: "create <name>",
      about: "make a user without any rights",
      examples: ["rekey user create alice --tag Team=Data"],
      operation: "users/create",
      options: { "--tag <key=value...>": "tags" },
      input: ({ args, options }) => ({ userName: args[0], tags: tagsOf(options.tag) }),
      show: fields(userFields),
    },
    {
      usage: "list",
      about: "list users",
      examples: ["rekey user list --json"],
      operation: "users/list",
      pages: "users",
      show: table("users", { NAME: "userName", ID: "userId", CREATED: "createDate" }, "no users"),
    },
    {
      usage: "show <name>",
      about: "show a user with its tags, policies, groups and roles",
      examples: ["rekey user show alice"],
      operation: "users/get",
      input: ({ args }) => ({ userName: args[0] }),
      show: fields({
        ...userFields,
        Tags: tagTexts,
        Policies: "attachedPolicyArns",
        Role: "role",
        Groups: "groups",
        Projects: projectRoleTexts,
      }),
    },
    {
      usage: "set-role <name> <role>",
      about: `give a user a role in the whole deployment: ${accessRoles.join(", ")}`,
      examples: ["rekey user set-role alice viewer"],
      operation: "workplace-users/set-role",
      input: ({ args }) => ({ id: args[0], role: chosenOf(args[1], accessRoles, "the role") }),
      show: sentence((_answer, { args }) => `${args[0]} is ${args[1]}`),
    },
    {
      usage: "tag <name> <key=value...>",
      about: "add tags to a user, or change them",
      examples: ["rekey user tag alice Team=Data"],
      operation: "users/tag",
      input: ({ args }) => ({ userName: args[0], tags: tagsOf(args.slice(1)) }),
      show: sentence((_answer, { args }) => `the tags of user ${args[0]} are changed`),
    },
    {
      usage: "untag <name> <key...>",
      about: "remove tags from a user",
      examples: ["rekey user untag alice Team"],
      operation: "users/untag",
      input: ({ args }) => ({ userName: args[0], tagKeys: args.slice(1) }),
      show: sentence((_answer, { args }) => `the tags of user ${args[0]} are changed`),
    },
    {
      usage: "delete <name>",
      about: "delete a user with its access keys and tokens",
      examples: ["rekey user delete alice"],
      operation: "users/delete",
      input: ({ args }) => ({ userName: args[0] }),
      show: sentence((_answer, { args }) => `user ${args[0]} is deleted`),
    },
  ]);
}

/** Tags as people write them. */
export function tagTexts({ tags }: Readonly<Record<string, unknown>>): string[] {
  return Array.isArray(tags) ? tags.map(({ key, value }) => `${key}=${value}`) : [];
}
