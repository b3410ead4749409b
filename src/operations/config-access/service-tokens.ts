import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { dynamicSecretArn, leaseArn, serviceTokenArn } from "../../core/rekey-arn.ts";
import { logActivity } from "../../store/activity.ts";
import type { Config } from "../../store/configs.ts";
import { hashToken } from "../../store/credentials.ts";
import { dynamicSecretsOf } from "../../store/dynamic-secrets.ts";
import { createServiceToken, deleteServiceToken, listServiceTokens, type ServiceToken } from "../../store/service-tokens.ts";
import { type ConfigResource, configResource, existingConfig } from "../configs/config-resource.ts";
import { newToken } from "../identity/new-credentials.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { actor, configMembers, givenName, placeOf, time } from "./access-input.ts";

const ofConfig = z.object(configMembers);
const createInput = z.object({
  ...configMembers,
  Name: givenName,
  Access: z.enum(["read", "read/write"]).default("read"),
  ExpiresAt: time.optional(),
});
const deleteInput = z.object({
  ...configMembers,
  Id: z.string().min(1).max(64).optional(),
  Token: z.string().min(1).max(256).optional(),
});

const shown = (token: Omit<ServiceToken, "createdBy" | "configId">, { projectId, environment, name }: Config) => ({
  Id: token.id,
  Name: token.name,
  Project: projectId,
  Environment: environment,
  Config: name,
  Access: token.access,
  CreatedAt: new Date(token.createdAt),
  ...(token.expiresAt === undefined ? {} : { ExpiresAt: new Date(token.expiresAt) }),
  ...(token.lastUsedAt === undefined ? {} : { LastSeenAt: new Date(token.lastUsedAt) }),
});

/** A token can do no more than whoever makes it: nobody gets further by making one. @throws ServiceError AccessDeniedException */
async function requireSameRights(
  found: ConfigResource,
  { id, projectId, name }: Config,
  access: string,
  call: Call,
): Promise<void> {
  const ask = (action: string, arn: string) => {
    const refusal = call.may(`rekey:${action}`, { ...found, arn, shown: arn });
    if (refusal) throw refusal;
  };
  ask("GetConfigSecrets", found.arn);
  if (access === "read/write") for (const action of ["SetConfigSecrets", "SetSecretNote"]) ask(action, found.arn);
  // Those that are there are asked by name: a denial may speak of one.
  const secrets = await dynamicSecretsOf(call.sql, id);
  for (const one of ["*", ...secrets.map((secret) => secret.name)]) {
    ask("IssueLease", dynamicSecretArn(call.services, projectId, name, one));
    for (const action of ["RenewLease", "RevokeLease"]) ask(action, leaseArn(call.services, projectId, name, one, "*"));
  }
}

const createServiceTokenOperation = defineOperation<z.infer<typeof createInput>, ConfigResource>({
  name: "CreateServiceToken",
  action: "rekey:CreateServiceToken",
  noun: "service-tokens",
  verb: "create",
  mode: "write",
  summary: "Makes a token (dp.st.…) that reads, or reads and writes, one config; it is shown in this answer only.",
  input: createInput,
  resource: configResource,
  async run({ Name, Access, ExpiresAt }, found, call) {
    const config = existingConfig(found);
    await requireSameRights(found, config, Access, call);
    const now = call.services.now();
    const expiresAt = ExpiresAt?.getTime();
    if (expiresAt !== undefined && expiresAt <= now)
      throw new ServiceError("ValidationException", "ExpiresAt must be in the future.");
    const { token, ...kept } = newToken("service", config.name);
    const made = {
      ...kept,
      arn: serviceTokenArn(call.services, kept.id),
      configId: config.id,
      name: Name,
      access: Access,
      createdBy: call.principal.arn,
      createdAt: now,
      expiresAt,
    };
    await call.transaction(async (tx) => {
      await createServiceToken(tx, made);
      await logActivity(tx, { ...actor(call), ...placeOf(config), text: `created service token ${Name} (${Access})` });
    });
    return { Token: { ...shown({ ...made, lastUsedAt: undefined }, config), Key: token } };
  },
});

const listServiceTokensOperation = defineOperation<z.infer<typeof ofConfig>, ConfigResource>({
  name: "ListServiceTokens",
  action: "rekey:ListServiceTokens",
  noun: "service-tokens",
  verb: "list",
  mode: "read",
  summary: "Lists a config's service tokens, without the tokens themselves.",
  input: ofConfig,
  resource: configResource,
  async run(_input, found, { sql }) {
    const config = existingConfig(found);
    return { Tokens: (await listServiceTokens(sql, config.id)).map((token) => shown(token, config)) };
  },
});

const deleteServiceTokenOperation = defineOperation<z.infer<typeof deleteInput>, ConfigResource>({
  name: "DeleteServiceToken",
  action: "rekey:DeleteServiceToken",
  noun: "service-tokens",
  verb: "delete",
  mode: "write",
  summary: "Ends a service token, by its id or by the token itself; it is refused from the next request on.",
  input: deleteInput,
  sensitive: ["Token"],
  check({ Id, Token }) {
    if ((Id === undefined) === (Token === undefined))
      throw new ServiceError("ValidationException", "Give Id or Token, one of them.");
  },
  resource: configResource,
  async run({ Id, Token = "" }, found, call) {
    const config = existingConfig(found);
    await call.transaction(async (tx) => {
      const by = Id === undefined ? { hash: hashToken(Token) } : { id: Id };
      const deleted = await deleteServiceToken(tx, config.id, by);
      if (!deleted) throw new ServiceError("ResourceNotFoundException", `Config ${config.name} has no such service token.`);
      await logActivity(tx, { ...actor(call), ...placeOf(config), text: `deleted service token ${deleted.name}` });
    });
    return {};
  },
});

export const serviceTokenOperations: readonly Operation[] = [
  createServiceTokenOperation,
  listServiceTokensOperation,
  deleteServiceTokenOperation,
];
