import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { logActivity } from "../../store/activity.ts";
import { createToken, deleteToken, listTokens, type Token } from "../../store/credentials.ts";
import { newToken } from "../identity/new-credentials.ts";
import { defineOperation, type Operation } from "../operation.ts";
import { actor, givenName, time } from "./access-input.ts";
import { type AccountResource, accountName, accountResource, existingAccount } from "./account-resource.ts";

const ofAccount = z.object({ ServiceAccount: accountName });
const ofToken = z.object({ ServiceAccount: accountName, Id: z.string().min(1).max(64) });
const createInput = z.object({ ServiceAccount: accountName, Name: givenName, ExpiresAt: time.optional() });

const shown = (token: Token) => ({
  Id: token.id,
  Name: token.name,
  CreatedAt: new Date(token.createdAt),
  ...(token.lastUsedAt === undefined ? {} : { LastSeenAt: new Date(token.lastUsedAt) }),
  ...(token.expiresAt === undefined ? {} : { ExpiresAt: new Date(token.expiresAt) }),
});

const none = (id: string) => new ServiceError("ResourceNotFoundException", `The service account has no token ${id}.`);

const createAccountToken = defineOperation<z.infer<typeof createInput>, AccountResource>({
  name: "CreateServiceAccountToken",
  action: "rekey:CreateToken",
  noun: "service-account-tokens",
  verb: "create",
  mode: "write",
  summary: "Makes a token (dp.sa.…) with all rights of a service account; it is shown in this answer only.",
  input: createInput,
  resource: ({ ServiceAccount }, call) => accountResource(ServiceAccount, call),
  async run({ Name, ExpiresAt }, found, call) {
    const account = existingAccount(found);
    const createdAt = call.services.now();
    const expiresAt = ExpiresAt?.getTime();
    if (expiresAt !== undefined && expiresAt <= createdAt)
      throw new ServiceError("ValidationException", "ExpiresAt must be in the future.");
    const { token, ...kept } = newToken("service_account");
    const made = await call.transaction(async (tx) => {
      await logActivity(tx, { ...actor(call), text: `created token ${Name} of service account ${account.name}` });
      return createToken(tx, {
        ...kept,
        kind: "service_account",
        principalArn: account.arn,
        name: Name,
        createdAt,
        expiresAt,
      });
    });
    return { ApiToken: shown(made), ApiKey: token };
  },
});

const listAccountTokens = defineOperation<z.infer<typeof ofAccount>, AccountResource>({
  name: "ListServiceAccountTokens",
  action: "rekey:ListTokens",
  noun: "service-account-tokens",
  verb: "list",
  mode: "read",
  summary: "Lists a service account's tokens, without the tokens themselves.",
  input: ofAccount,
  resource: ({ ServiceAccount }, call) => accountResource(ServiceAccount, call),
  async run(_input, found, { sql }) {
    const tokens = await listTokens(sql, existingAccount(found).arn);
    return { ApiTokens: tokens.filter(({ kind }) => kind === "service_account").map(shown) };
  },
});

const getAccountToken = defineOperation<z.infer<typeof ofToken>, AccountResource>({
  name: "GetServiceAccountToken",
  action: "rekey:ListTokens",
  noun: "service-account-tokens",
  verb: "get",
  mode: "read",
  summary: "Shows one token of a service account, without the token itself.",
  input: ofToken,
  resource: ({ ServiceAccount }, call) => accountResource(ServiceAccount, call),
  async run({ Id }, found, { sql }) {
    const token = (await listTokens(sql, existingAccount(found).arn)).find(({ id }) => id === Id);
    if (!token) throw none(Id);
    return { ApiToken: shown(token) };
  },
});

const deleteAccountToken = defineOperation<z.infer<typeof ofToken>, AccountResource>({
  name: "DeleteServiceAccountToken",
  action: "rekey:DeleteToken",
  noun: "service-account-tokens",
  verb: "delete",
  mode: "write",
  summary: "Ends a token of a service account; it is refused from the next request on.",
  input: ofToken,
  resource: ({ ServiceAccount }, call) => accountResource(ServiceAccount, call),
  async run({ Id }, found, call) {
    const account = existingAccount(found);
    await call.transaction(async (tx) => {
      if (!(await deleteToken(tx, account.arn, Id))) throw none(Id);
      await logActivity(tx, { ...actor(call), text: `ended a token of service account ${account.name}` });
    });
    return {};
  },
});

export const accountTokenOperations: readonly Operation[] = [
  createAccountToken,
  listAccountTokens,
  getAccountToken,
  deleteAccountToken,
];
