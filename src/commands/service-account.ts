import type { Command } from "commander";
import { type ApiCommand, addNoun, fields, sentence, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { accessRoles, projectRoleTexts } from "./group.ts";
import type { Answer } from "./output.ts";
import { chosenOf, momentAfter, secondsOf } from "./typed-values.ts";

/** Commands on service accounts, their tokens and rights. */
export function addServiceAccountCommands(program: Command): void {
  addNoun(program, "service-account", "Users that stand for programs, with tokens, roles and OIDC identities", [
    ...accountCommands,
    ...tokenCommands,
    ...identityCommands,
  ]);
  addNoun(program, "project-role", "What users, service accounts and groups may do in a project", projectRoleCommands);
}

const roleName = ({ workplaceRole }: Answer) => (workplaceRole as Answer | undefined)?.identifier;
const accountFields = { Name: "name", Id: "id", ARN: "arn", Role: roleName, Created: "createdAt" };
const roleOption = { "--role <role>": `in the whole deployment: ${accessRoles.join(", ")}` };

function workplaceRole(text: unknown): object | undefined {
  const identifier = chosenOf(text, accessRoles, "--role");
  return identifier === undefined ? undefined : { identifier };
}

const accountCommands: readonly ApiCommand[] = [
  {
    usage: "create <name>",
    about: "make a service account",
    examples: ["rekey service-account create ci", "rekey service-account create deploy --role viewer"],
    operation: "service-accounts/create",
    options: roleOption,
    input: ({ args, options }) => ({ name: args[0], workplaceRole: workplaceRole(options.role) }),
    show: fields(accountFields, "serviceAccount"),
  },
  {
    usage: "list",
    about: "list service accounts",
    examples: ["rekey service-account list"],
    operation: "service-accounts/list",
    pages: "serviceAccounts",
    show: table("serviceAccounts", { NAME: "name", ID: "id", ROLE: roleName, CREATED: "createdAt" }, "no service accounts"),
  },
  {
    usage: "show <name>",
    about: "show a service account with its roles and policies",
    examples: ["rekey service-account show ci"],
    operation: "service-accounts/get",
    input: ({ args }) => ({ id: args[0] }),
    show: fields(
      {
        ...accountFields,
        Policies: "attachedPolicyArns",
        Projects: projectRoleTexts,
      },
      "serviceAccount",
    ),
  },
  {
    usage: "update <name>",
    about: "give a service account another role in the whole deployment",
    examples: ["rekey service-account update ci --role collaborator"],
    operation: "service-accounts/update",
    options: roleOption,
    input({ args, options }) {
      if (options.role === undefined) throw new CommandError(2, "give --role");
      return { id: args[0], workplaceRole: workplaceRole(options.role) };
    },
    show: fields(accountFields, "serviceAccount"),
  },
  {
    usage: "delete <name>",
    about: "remove a service account with its tokens, keys and rights",
    examples: ["rekey service-account delete ci"],
    operation: "service-accounts/delete",
    input: ({ args }) => ({ id: args[0] }),
    show: sentence((_answer, { args }) => `service account ${args[0]} is deleted`),
  },
];

const tokenCommands: readonly ApiCommand[] = [
  {
    usage: "create-token <name> <token-name>",
    about: "make a token of a service account; it is shown this once",
    examples: ["rekey service-account create-token ci build --ttl 90d"],
    operation: "service-account-tokens/create",
    options: { "--ttl <duration>": "ends by itself after so long, e.g. 90d" },
    input: ({ args, options }) => ({
      serviceAccount: args[0],
      name: args[1],
      expiresAt: momentAfter(options.ttl, "--ttl"),
    }),
    show: (answer) => {
      const token = answer.apiToken as Answer;
      fields({ Id: "id", Name: "name", Ends: "expiresAt", Token: "apiKey" })({ ...token, apiKey: answer.apiKey }, noInput);
    },
  },
  {
    usage: "list-tokens <name>",
    about: "list a service account's tokens",
    examples: ["rekey service-account list-tokens ci"],
    operation: "service-account-tokens/list",
    input: ({ args }) => ({ serviceAccount: args[0] }),
    show: table(
      "apiTokens",
      { ID: "id", NAME: "name", CREATED: "createdAt", ENDS: "expiresAt", "LAST USED": "lastSeenAt" },
      "no tokens",
    ),
  },
  {
    usage: "delete-token <name> <id>",
    about: "end a token of a service account",
    examples: ["rekey service-account delete-token ci 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236"],
    operation: "service-account-tokens/delete",
    input: ({ args }) => ({ serviceAccount: args[0], id: args[1] }),
    show: sentence((_answer, { args }) => `token ${args[1]} is deleted`),
  },
];

const noInput = { args: [], options: {} };

const identityCommands: readonly ApiCommand[] = [
  {
    usage: "create-identity <name> <identity-name>",
    about: "let holders of an issuer's tokens act as a service account for a while",
    notes: "The issuer is made known with rekey oidc-provider create. In --audience and --subject * stands for any text.",
    examples: [
      "rekey service-account create-identity ci builds --provider arn:aws:iam::123456789012:oidc-provider/token.example.com --audience my-app --subject 'repo:shop/*'",
    ],
    operation: "oidc-identities/create",
    options: {
      "--provider <arn>": "the issuer (required)",
      "--audience <text...>": "whom its tokens are made for (required)",
      "--subject <text...>": "whom they speak of (required)",
      "--ttl <duration>": "life of the tokens given for them, default 1h",
    },
    input: ({ args, options }) => ({
      serviceAccount: args[0],
      name: args[1],
      providerArn: options.provider,
      audiences: options.audience,
      subjects: options.subject,
      ttlSeconds: secondsOf(options.ttl, "--ttl"),
    }),
    show: fields(
      { Id: "id", Name: "name", Issuer: "providerArn", Audiences: "audiences", Subjects: "subjects", "Life in s": "ttlSeconds" },
      "identity",
    ),
  },
  {
    usage: "list-identities <name>",
    about: "list whose tokens stand for a service account",
    examples: ["rekey service-account list-identities ci"],
    operation: "oidc-identities/list",
    input: ({ args }) => ({ serviceAccount: args[0] }),
    show: table(
      "identities",
      { ID: "id", NAME: "name", ISSUER: "providerArn", AUDIENCES: "audiences", SUBJECTS: "subjects" },
      "no OIDC identities",
    ),
  },
  {
    usage: "delete-identity <name> <id>",
    about: "accept those tokens no longer; the ones given for them end at once",
    examples: ["rekey service-account delete-identity ci 5b79aa0b-2745-4d4a-a8eb-8c84de0cc236"],
    operation: "oidc-identities/delete",
    input: ({ args }) => ({ serviceAccount: args[0], id: args[1] }),
    show: sentence((_answer, { args }) => `OIDC identity ${args[1]} is deleted`),
  },
];

const isGroup = { "--group": "it is a group" };
const holder = (name: unknown, { group }: Readonly<Record<string, unknown>>) =>
  group === true ? { groupName: name } : { userName: name };
const nameOf = ({ userName, groupName }: Answer) => userName ?? `group ${groupName}`;

const projectRoleCommands: readonly ApiCommand[] = [
  {
    usage: "list <project>",
    about: "list who has a role in a project",
    examples: ["rekey project-role list shop"],
    operation: "project-members/list",
    input: ({ args }) => ({ project: args[0] }),
    pages: "members",
    show: table(
      "members",
      { NAME: nameOf, ROLE: "role", ENVIRONMENTS: environmentsOf, SINCE: "createdAt" },
      "nobody has a role there",
    ),
  },
  {
    usage: "set <project> <name> <role>",
    about: `give a user, service account or group a role in a project: ${accessRoles.join(", ")}`,
    notes:
      "collaborator works with environments, configs, secrets and leases; viewer reads; no_access takes away what policies allow.",
    examples: [
      "rekey project-role set shop ci viewer",
      "rekey project-role set shop backend collaborator --group --environment dev",
    ],
    operation: "project-members/set",
    options: { ...isGroup, "--environment <slug...>": "in this environment only; collaborators and viewers" },
    input: ({ args, options }) => ({
      project: args[0],
      ...holder(args[1], options),
      role: chosenOf(args[2], accessRoles, "the role"),
      environments: options.environment ?? null,
    }),
    show: sentence((_answer, { args, options }) => {
      const where = Array.isArray(options.environment) ? ` in ${options.environment.join(", ")}` : "";
      return `${args[1]} is ${args[2]} of project ${args[0]}${where}`;
    }),
  },
  {
    usage: "remove <project> <name>",
    about: "take a role in a project away",
    examples: ["rekey project-role remove shop ci"],
    operation: "project-members/remove",
    options: isGroup,
    input: ({ args, options }) => ({ project: args[0], ...holder(args[1], options) }),
    show: sentence((_answer, { args }) => `${args[1]} has no role in project ${args[0]} any more`),
  },
];

function environmentsOf({ environments }: Answer): string {
  return Array.isArray(environments) ? environments.join(", ") || "none" : "all";
}
