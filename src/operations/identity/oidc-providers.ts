import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { identityLimits, oidcProviderArn } from "../../core/identity.ts";
import { createOidcProvider, deleteOidcProvider, listOidcProviders, type OidcProvider } from "../../store/oidc-providers.ts";
import { defineOperation, type Resource } from "../operation.ts";
import { arn } from "./identity-input.ts";

const shown = ({ arn, url, clientIds, createdAt }: OidcProvider) => ({
  OpenIDConnectProviderArn: arn,
  Url: url,
  ClientIDList: clientIds,
  CreateDate: new Date(createdAt),
});

const createInput = z.object({
  Url: z.string().min(1).max(255),
  ClientIDList: z.array(z.string().min(1).max(255)).min(1).max(identityLimits.clientIdsPerProvider),
});

const loopback = ["localhost", "127.0.0.1", "[::1]"];

/** @throws ServiceError ValidationException */
function checkIssuer(text: string): void {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const safe = url?.protocol === "https:" || (url?.protocol === "http:" && loopback.includes(url.hostname));
  if (!url || !safe || url.search !== "" || url.hash !== "" || url.username !== "") {
    throw new ServiceError("ValidationException", "Url must be the https:// address of an issuer, as its tokens' iss has it.");
  }
}

/** Source: IAM API reference, CreateOpenIDConnectProvider. The issuer's certificate is checked as any other's: no thumbprints. */
export const createOidcProviderOperation = defineOperation<z.infer<typeof createInput>, Resource>({
  name: "CreateOpenIDConnectProvider",
  action: "iam:CreateOpenIDConnectProvider",
  noun: "oidc-providers",
  verb: "create",
  mode: "write",
  summary: "Lets holders of an issuer's tokens, made for the named clients, ask for roles that trust it.",
  input: createInput,
  check: ({ Url }) => checkIssuer(Url),
  resource: ({ Url }, { account }) => ({ arn: oidcProviderArn(account, Url), shown: oidcProviderArn(account, Url), context: {} }),
  run: async ({ Url: url, ClientIDList: clientIds }, _found, call) => {
    const createdAt = call.services.now();
    return shown(await call.transaction((tx) => createOidcProvider(tx, call.account, { url, clientIds, createdAt })));
  },
});

const listInput = z.object({});

/** Source: IAM API reference, ListOpenIDConnectProviders. */
export const listOidcProvidersOperation = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListOpenIDConnectProviders",
  action: "iam:ListOpenIDConnectProviders",
  noun: "oidc-providers",
  verb: "list",
  mode: "read",
  summary: "Lists the issuers whose tokens are taken.",
  input: listInput,
  resource: () => ({ arn: "*", context: {} }),
  run: async (_input, _found, { sql }) => ({ OpenIDConnectProviderList: (await listOidcProviders(sql)).map(shown) }),
});

const ofProvider = z.object({ OpenIDConnectProviderArn: arn });

/** Source: IAM API reference, DeleteOpenIDConnectProvider. Sessions made before go on until they expire. */
export const deleteOidcProviderOperation = defineOperation<z.infer<typeof ofProvider>, Resource>({
  name: "DeleteOpenIDConnectProvider",
  action: "iam:DeleteOpenIDConnectProvider",
  noun: "oidc-providers",
  verb: "delete",
  mode: "write",
  summary: "Takes no more tokens of an issuer.",
  input: ofProvider,
  resource: ({ OpenIDConnectProviderArn: arn }) => ({ arn, shown: arn, context: {} }),
  run: async ({ OpenIDConnectProviderArn: arn }, _found, call) => {
    await call.transaction(async (tx) => {
      if (await deleteOidcProvider(tx, arn)) return;
      throw new ServiceError("ResourceNotFoundException", `OpenIDConnect Provider not found for arn ${arn}`);
    });
    return {};
  },
});
