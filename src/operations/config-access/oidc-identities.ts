import { createHash, randomUUID } from "node:crypto";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { compileGlob, globTokens } from "../../core/wildcard.ts";
import { logActivity } from "../../store/activity.ts";
import {
  deleteOidcIdentity,
  findOidcIdentity,
  insertIdentityToken,
  insertOidcIdentity,
  listOidcIdentities,
  type OidcIdentity,
} from "../../store/oidc-identities.ts";
import { listOidcProviders } from "../../store/oidc-providers.ts";
import { newToken } from "../identity/new-credentials.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { actor, givenName } from "./access-input.ts";
import { type AccountResource, accountName, accountResource, existingAccount } from "./account-resource.ts";

/** `*` stands for any run of characters; it alone would let in everybody whom the issuer knows. */
const claim = z
  .string()
  .min(1)
  .max(512)
  .refine((text) => !/^[*?]+$/.test(text), "Member must not consist of wildcards alone");
const claims = z.array(claim).min(1).max(20);
const ofAccount = z.object({ ServiceAccount: accountName });
const createInput = z.object({
  ServiceAccount: accountName,
  Name: givenName,
  ProviderArn: z.string().min(20).max(2048),
  Audiences: claims,
  Subjects: claims,
  TtlSeconds: z.number().int().min(60).max(86_400).default(3600),
});
const ofIdentity = z.object({ ServiceAccount: accountName, Id: z.string().min(1).max(64) });

const shown = (identity: OidcIdentity) => ({
  Id: identity.id,
  Name: identity.name,
  ProviderArn: identity.providerArn,
  Audiences: identity.audiences,
  Subjects: identity.subjects,
  TtlSeconds: identity.ttlSeconds,
  CreatedAt: new Date(identity.createdAt),
});

const createIdentity = defineOperation<z.infer<typeof createInput>, AccountResource>({
  name: "CreateOidcIdentity",
  action: "rekey:CreateToken",
  noun: "oidc-identities",
  verb: "create",
  mode: "write",
  summary: "Lets holders of an issuer's tokens, with these audiences and subjects, act as a service account for a while.",
  input: createInput,
  resource: ({ ServiceAccount }, call) => accountResource(ServiceAccount, call),
  async run(input, found, call) {
    const account = existingAccount(found);
    const providers = await listOidcProviders(call.sql);
    if (!providers.some(({ arn }) => arn === input.ProviderArn))
      throw new ServiceError("ResourceNotFoundException", `OpenIDConnect Provider not found for arn ${input.ProviderArn}`);
    const identity: OidcIdentity = {
      id: randomUUID(),
      principalArn: account.arn,
      name: input.Name,
      providerArn: input.ProviderArn,
      audiences: input.Audiences,
      subjects: input.Subjects,
      ttlSeconds: input.TtlSeconds,
      createdAt: call.services.now(),
    };
    await call.transaction(async (tx) => {
      await insertOidcIdentity(tx, identity);
      await logActivity(tx, { ...actor(call), text: `let ${input.Name} act as service account ${account.name}` });
    });
    return { Identity: shown(identity) };
  },
});

const listIdentities = defineOperation<z.infer<typeof ofAccount>, AccountResource>({
  name: "ListOidcIdentities",
  action: "rekey:ListTokens",
  noun: "oidc-identities",
  verb: "list",
  mode: "read",
  summary: "Lists whose tokens of other issuers stand for a service account.",
  input: ofAccount,
  resource: ({ ServiceAccount }, call) => accountResource(ServiceAccount, call),
  run: async (_input, found, { sql }) => ({
    Identities: (await listOidcIdentities(sql, existingAccount(found).arn)).map(shown),
  }),
});

const deleteIdentity = defineOperation<z.infer<typeof ofIdentity>, AccountResource>({
  name: "DeleteOidcIdentity",
  action: "rekey:DeleteToken",
  noun: "oidc-identities",
  verb: "delete",
  mode: "write",
  summary: "Takes no more tokens of other issuers for a service account; those given out end at once.",
  input: ofIdentity,
  resource: ({ ServiceAccount }, call) => accountResource(ServiceAccount, call),
  async run({ Id }, found, call) {
    const account = existingAccount(found);
    await call.transaction(async (tx) => {
      if (!(await deleteOidcIdentity(tx, account.arn, Id)))
        throw new ServiceError("ResourceNotFoundException", `The service account has no OIDC identity ${Id}.`);
      await logActivity(tx, { ...actor(call), text: `ended an OIDC identity of service account ${account.name}` });
    });
    return {};
  },
});

const issueInput = z.object({ Identity: z.string().min(1).max(64), Token: z.string().min(4).max(20_000) });

/** The caller is the token's subject: authentication has checked it. */
const issueToken = defineOperation<z.infer<typeof issueInput>, Resource>({
  name: "IssueOidcToken",
  noun: "oidc-identities",
  verb: "issue-token",
  mode: "write",
  summary: "A short-lived token (dp.said.…) of a service account for the holder of an issuer's token that stands for it.",
  input: issueInput,
  sensitive: ["Token"],
  resource: () => ({ arn: "*", context: {} }),
  async run({ Identity, Token }, _found, call) {
    const identity = await findOidcIdentity(call.sql, Identity);
    if (!identity || !standsFor(identity, call))
      throw new ServiceError("AccessDeniedException", `The web identity token does not stand for identity ${Identity}.`);
    const { token, ...kept } = newToken("service_account_identity");
    const createdAt = call.services.now();
    const expiresAt = createdAt + identity.ttlSeconds * 1000;
    await call.transaction((tx) => insertIdentityToken(tx, identity, { ...kept, createdAt, expiresAt }, signedPart(Token)));
    return { Token: token, ExpiresAt: new Date(expiresAt), DashboardUrl: "/login" };
  },
});

/** Whether the caller's token is of the identity's issuer, audience and subject. */
function standsFor({ providerArn, audiences, subjects }: OidcIdentity, { principal }: Call): boolean {
  if (principal.kind !== "federated" || principal.arn !== providerArn) return false;
  const values = (name: string) => Object.entries(principal.context ?? {}).find(([key]) => key.endsWith(`:${name}`))?.[1] ?? [];
  return matches(audiences, values("aud")) && matches(subjects, values("sub"));
}

const matches = (patterns: readonly string[], values: readonly string[]): boolean =>
  patterns.some((pattern) => values.some(compileGlob(globTokens(pattern))));

/** Of what the issuer signed: its signature could be written in more than one way. */
const signedPart = (token: string): string =>
  createHash("sha256")
    .update(token.slice(0, token.lastIndexOf(".")))
    .digest("hex");

export const oidcIdentityOperations: readonly Operation[] = [createIdentity, listIdentities, deleteIdentity, issueToken];
