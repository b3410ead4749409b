import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { type TokenKind, tokenPrefixes } from "../../core/identity.ts";
import { workplaceArn } from "../../core/rekey-arn.ts";
import { logActivity } from "../../store/activity.ts";
import { deleteToken, findToken, findTokenById, hashToken, replaceToken, type Token } from "../../store/credentials.ts";
import { readWorkplace, writeWorkplace } from "../../store/workplace.ts";
import { newToken, refuseRoot } from "../identity/new-credentials.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { actor } from "./access-input.ts";

const nothing = z.object({});
const everything = (): Resource => ({ arn: "*", context: {} });

const typeNames: Readonly<Record<TokenKind, string>> = {
  personal: "personal",
  cli: "cli",
  service: "service_token",
  service_account: "service_account",
  service_account_identity: "service_account_identity",
  agent: "agent",
  agent_enrolment: "agent_enrolment",
};

const getCaller = defineOperation<object, Resource>({
  name: "GetCaller",
  noun: "me",
  verb: "get",
  mode: "read",
  summary: "Shows who calls, with which kind of credential, and where.",
  input: nothing,
  resource: everything,
  async run(_input, _found, call) {
    const { principal, sql } = call;
    if (principal.kind === "anonymous")
      throw new ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token");
    const token = await ownToken(call);
    const { id, name } = await readWorkplace(sql);
    const bound = principal.boundConfig;
    return {
      Id: token?.id ?? principal.accessKeyId ?? principal.userId,
      Name: token?.name ?? principal.userName ?? principal.kind,
      Type: token === undefined ? principal.kind : typeNames[token.kind],
      Arn: principal.arn,
      ...(token && { TokenPreview: preview(token, bound?.config), CreatedAt: new Date(token.createdAt) }),
      ...(token?.lastUsedAt !== undefined && { LastSeenAt: new Date(token.lastUsedAt) }),
      ...(token?.expiresAt !== undefined && { ExpiresAt: new Date(token.expiresAt) }),
      ...(bound && { Project: bound.project, Environment: bound.environment, Config: bound.config }),
      Workplace: { Id: id, Name: name },
    };
  },
});

/** No more than its beginning is known of a token. */
const preview = ({ kind }: Token, config: string | undefined): string =>
  `${tokenPrefixes[kind]}.${kind === "service" && config !== undefined ? `${config}.` : ""}…`;

/** The token that the caller shows, if it is one. */
async function ownToken({ principal, sql }: Call): Promise<Token | undefined> {
  return principal.accessKeyId === undefined ? undefined : findTokenById(sql, principal.accessKeyId);
}

const ofToken = z.object({ Token: z.string().min(1).max(256) });

/** Tokens that people and their tools hold; others are changed by whoever manages them. */
const rollable: ReadonlySet<TokenKind> = new Set(["personal", "cli"]);

const rollToken = defineOperation<z.infer<typeof ofToken>, Resource>({
  name: "RollToken",
  noun: "me",
  verb: "roll-token",
  mode: "write",
  summary: "Gives the token that the caller shows another text; the old one is refused from the next request on.",
  input: ofToken,
  sensitive: ["Token"],
  resource: everything,
  async run({ Token: shown }, _found, call) {
    const before = hashToken(shown);
    const own = await findToken(call.sql, before);
    if (own === undefined || own.id !== call.principal.accessKeyId || !rollable.has(own.kind))
      throw new ServiceError(
        "AccessDeniedException",
        "A token can be rolled by its holder alone: show the very token to be rolled.",
      );
    refuseRoot(own.principalArn, call.account);
    const { token, hash } = newToken(own.kind);
    await call.transaction(async (tx) => {
      if (!(await replaceToken(tx, own.id, before, hash)))
        throw new ServiceError("ResourceNotFoundException", "The token was changed or ended meanwhile.");
      await logActivity(tx, { ...actor(call), text: `rolled token ${own.name}` });
    });
    return { Token: token };
  },
});

const revocable: ReadonlySet<TokenKind> = new Set(["personal", "cli", "service_account", "service_account_identity"]);

const revokeToken = defineOperation<z.infer<typeof ofToken>, Resource>({
  name: "RevokeToken",
  noun: "me",
  verb: "revoke-token",
  mode: "write",
  summary: "Ends a token of the caller's own; it is refused from the next request on.",
  input: ofToken,
  sensitive: ["Token"],
  resource: everything,
  async run({ Token: shown }, _found, call) {
    const token = await findToken(call.sql, hashToken(shown));
    if (token === undefined || token.principalArn !== call.principal.arn || !revocable.has(token.kind))
      throw new ServiceError("ResourceNotFoundException", "The caller has no such token.");
    await call.transaction(async (tx) => {
      await deleteToken(tx, token.principalArn, token.id);
      await logActivity(tx, { ...actor(call), text: `ended token ${token.name}` });
    });
    return {};
  },
});

const place = (_input: unknown, { services }: Call): Resource => {
  const arn = workplaceArn(services);
  return { arn, shown: arn, context: {} };
};

const shownWorkplace = async (sql: Call["sql"]) => {
  const { id, name, billingEmail } = await readWorkplace(sql);
  return { Workplace: { Id: id, Name: name, BillingEmail: billingEmail } };
};

const getWorkplace = defineOperation<object, Resource>({
  name: "GetWorkplace",
  action: "rekey:GetWorkplace",
  noun: "workplace",
  verb: "get",
  mode: "read",
  summary: "Shows what this deployment is called, and who pays for it.",
  input: nothing,
  resource: place,
  run: (_input, _found, { sql }) => shownWorkplace(sql),
});

const workplaceInput = z.object({ Name: z.string().max(128).optional(), BillingEmail: z.string().max(254).optional() });

const updateWorkplace = defineOperation<z.infer<typeof workplaceInput>, Resource>({
  name: "UpdateWorkplace",
  action: "rekey:UpdateWorkplace",
  noun: "workplace",
  verb: "update",
  mode: "write",
  summary: "Changes the deployment's name or billing address; what is blank stays.",
  input: workplaceInput,
  resource: place,
  async run({ Name, BillingEmail }, _found, call) {
    if (BillingEmail && !/^[^\s@]+@[^\s@]+$/.test(BillingEmail))
      throw new ServiceError("ValidationException", "BillingEmail must be an e-mail address.");
    await call.transaction(async (tx) => {
      await writeWorkplace(tx, { name: Name || undefined, billingEmail: BillingEmail || undefined });
      await logActivity(tx, { ...actor(call), text: "changed the workplace" });
    });
    return shownWorkplace(call.sql);
  },
});

/** Of callers themselves, and of the deployment they are in. */
export const ownOperations: readonly Operation[] = [getCaller, rollToken, revokeToken, getWorkplace, updateWorkplace];
