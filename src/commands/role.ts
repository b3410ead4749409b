import type { Command } from "commander";
import { addNoun, fields, pickOptions, sentence, table } from "./api-command.ts";
import { fileText, numberOf, tagsOf } from "./typed-values.ts";
import { tagTexts } from "./user.ts";

const roleFields = {
  Name: "roleName",
  Id: "roleId",
  ARN: "arn",
  Description: "description",
  "Longest session": ({ maxSessionDuration }: Readonly<Record<string, unknown>>) => `${maxSessionDuration} s`,
  Created: "createDate",
};

/** Commands on roles. */
export function addRoleCommands(program: Command): void {
  addNoun(program, "role", "Rights that others may take on for a while", [
    {
      usage: "create <name>",
      about: "make a role without rights",
      examples: ["rekey role create deployer --trust-file trust.json --max-session-seconds 7200"],
      operation: "roles/create",
      options: {
        "--trust-file <file>": "JSON policy that says who may assume it, - for standard input (required)",
        "--description <text>": "what it is for",
        "--max-session-seconds <number>": "longest session, 3600 to 43200",
        "--tag <key=value...>": "tags",
      },
      input: async ({ args, options }) => ({
        roleName: args[0],
        assumeRolePolicyDocument: options.trustFile === undefined ? undefined : await fileText(String(options.trustFile)),
        ...pickOptions(options, { description: "description" }),
        maxSessionDuration: numberOf(options.maxSessionSeconds, "--max-session-seconds"),
        tags: tagsOf(options.tag),
      }),
      show: fields(roleFields),
    },
    {
      usage: "list",
      about: "list roles",
      examples: ["rekey role list"],
      operation: "roles/list",
      pages: "roles",
      show: table("roles", { NAME: "roleName", ID: "roleId", CREATED: "createDate", DESCRIPTION: "description" }, "no roles"),
    },
    {
      usage: "show <name>",
      about: "show a role with its trust policy, tags and policies",
      examples: ["rekey role show deployer"],
      operation: "roles/get",
      input: ({ args }) => ({ roleName: args[0] }),
      show: fields({ ...roleFields, Tags: tagTexts, Policies: "attachedPolicyArns", Trust: "assumeRolePolicyDocument" }),
    },
    {
      usage: "trust <name> <file>",
      about: "replace the policy that says who may assume a role",
      examples: ["rekey role trust deployer trust.json"],
      operation: "roles/set-trust",
      input: async ({ args }) => ({ roleName: args[0], policyDocument: await fileText(String(args[1])) }),
      show: sentence((_answer, { args }) => `the trust policy of role ${args[0]} is replaced`),
    },
    {
      usage: "delete <name>",
      about: "delete a role; its sessions end at once",
      examples: ["rekey role delete deployer"],
      operation: "roles/delete",
      input: ({ args }) => ({ roleName: args[0] }),
      show: sentence((_answer, { args }) => `role ${args[0]} is deleted`),
    },
  ]);
}
