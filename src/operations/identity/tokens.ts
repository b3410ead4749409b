import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { createToken, deleteToken, listTokens, type Token } from "../../store/credentials.ts";
import { defineOperation } from "../operation.ts";
import { userName } from "./identity-input.ts";
import { newToken, refuseRoot } from "./new-credentials.ts";
import { type HolderResource, holderResource, requireHolder } from "./principal-resource.ts";

const yearSeconds = 31_536_000;
const ofHolder = z.object({ UserName: userName.optional() });
const createInput = z.object({
  UserName: userName.optional(),
  Name: z.string().min(1).max(128),
  TtlSeconds: z
    .number()
    .int()
    .min(60)
    .max(10 * yearSeconds)
    .optional(),
});
const ofToken = z.object({ UserName: userName.optional(), TokenId: z.string().min(1).max(64) });

const shown = (token: Token) => ({
  TokenId: token.id,
  Name: token.name,
  CreateDate: new Date(token.createdAt),
  ...(token.expiresAt === undefined ? {} : { ExpirationDate: new Date(token.expiresAt) }),
  ...(token.lastUsedAt === undefined ? {} : { LastUsedDate: new Date(token.lastUsedAt) }),
});

/** A bearer token with all the rights of its user. */
export const createTokenOperation = defineOperation<z.infer<typeof createInput>, HolderResource>({
  name: "CreateToken",
  action: "rekey:CreateToken",
  noun: "tokens",
  verb: "create",
  mode: "write",
  summary: "Makes a personal token (dp.pt.…) with the rights of a user; it is shown in this answer only.",
  input: createInput,
  resource: holderResource,
  run: async ({ Name, TtlSeconds }, found, call) => {
    requireHolder(found);
    refuseRoot(found.arn, call.account);
    const { token, ...kept } = newToken();
    const createdAt = call.services.now();
    const expiresAt = TtlSeconds === undefined ? undefined : createdAt + TtlSeconds * 1000;
    const made = await call.transaction((tx) =>
      createToken(tx, { ...kept, principalArn: found.arn, name: Name, createdAt, expiresAt }),
    );
    return { ...shown(made), Token: token };
  },
});

export const listTokensOperation = defineOperation<z.infer<typeof ofHolder>, HolderResource>({
  name: "ListTokens",
  action: "rekey:ListTokens",
  noun: "tokens",
  verb: "list",
  mode: "read",
  summary: "Lists a user's tokens, without the tokens themselves.",
  input: ofHolder,
  resource: holderResource,
  run: async (_input, found, { sql }) => {
    requireHolder(found);
    return { Tokens: (await listTokens(sql, found.arn)).map(shown) };
  },
});

export const deleteTokenOperation = defineOperation<z.infer<typeof ofToken>, HolderResource>({
  name: "DeleteToken",
  action: "rekey:DeleteToken",
  noun: "tokens",
  verb: "delete",
  mode: "write",
  summary: "Removes a token; it is refused from the next request on.",
  input: ofToken,
  resource: holderResource,
  run: async ({ TokenId }, found, call) => {
    requireHolder(found);
    await call.transaction(async (tx) => {
      if (await deleteToken(tx, found.arn, TokenId)) return;
      throw new ServiceError("ResourceNotFoundException", `The token with id ${TokenId} cannot be found.`);
    });
    return {};
  },
});
