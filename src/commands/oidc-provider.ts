import type { Command } from "commander";
import { type Connection, callApi } from "./api-client.ts";
import { addNoun, fields, sentence, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import type { Answer } from "./output.ts";

/** Commands on OIDC providers. */
export function addOidcProviderCommands(program: Command): void {
  addNoun(program, "oidc-provider", "Issuers whose tokens may be exchanged for a role's credentials", [
    {
      usage: "create <url>",
      about: "accept the tokens of an issuer",
      examples: ["rekey oidc-provider create https://token.example.com --client my-app"],
      operation: "oidc-providers/create",
      options: { "--client <id...>": "clients (aud) whose tokens are accepted (required)" },
      input: ({ args, options }) => ({ url: args[0], clientIdList: options.client }),
      show: fields({ URL: "url", ARN: "openIdConnectProviderArn", Clients: "clientIdList" }),
    },
    {
      usage: "list",
      about: "list issuers",
      examples: ["rekey oidc-provider list"],
      operation: "oidc-providers/list",
      show: table(
        "openIdConnectProviderList",
        { URL: "url", CLIENTS: "clientIdList", CREATED: "createDate" },
        "no OIDC providers",
      ),
    },
    {
      usage: "delete <url>",
      about: "accept an issuer's tokens no longer",
      examples: ["rekey oidc-provider delete https://token.example.com"],
      operation: "oidc-providers/delete",
      input: async ({ args }, connection) => ({ openIdConnectProviderArn: await providerArn(String(args[0]), connection) }),
      show: sentence((_answer, { args }) => `tokens of ${args[0]} are no longer accepted`),
    },
  ]);
}

/** Providers are named by their ARN or, shorter, by their address. */
async function providerArn(name: string, connection: Connection): Promise<string> {
  if (name.startsWith("arn:")) return name;
  const { openIdConnectProviderList: all } = await callApi(connection, "oidc-providers/list");
  const found = (all as readonly Answer[]).find(({ url }) => url === name);
  if (!found) throw new CommandError(1, `there is no OIDC provider ${name}; rekey oidc-provider list shows all`);
  return String(found.openIdConnectProviderArn);
}
