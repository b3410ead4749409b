import { randomUUID } from "node:crypto";
import { z } from "zod";
import { rotatedFieldsOf } from "../../core/config-rotated.ts";
import { ServiceError } from "../../core/error.ts";
import { planHeartbeat } from "../../core/heartbeat.ts";
import { Plaintext } from "../../core/plaintext.ts";
import { rotatedSecretArn } from "../../core/rekey-arn.ts";
import { heartbeatSeconds, ownedName, ownService, periodRules } from "../../core/rotated-secret.ts";
import { rotationPrincipal } from "../../core/rotation-principal.ts";
import { addVersion, type Secret } from "../../core/secret.ts";
import { loadConfig } from "../../store/configs.ts";
import { findDynamicSecret } from "../../store/dynamic-secrets.ts";
import { addEvent } from "../../store/events.ts";
import { lockIntegration } from "../../store/integrations.ts";
import { insertManagingUser } from "../../store/managing-users.ts";
import { insertRotatedSecret, rotatedSecretOfAccount } from "../../store/rotated-secrets.ts";
import { findSecret, insertSecret, newSecretId } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { hintConfigs } from "../configs/activity.ts";
import { existingConfig } from "../configs/config-resource.ts";
import { configMembers } from "../dynamic/dynamic-secret-input.ts";
import { integrationId } from "../dynamic/integration-input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { randomSuffix } from "../secrets/create-secret.ts";
import { nameArn } from "../secrets/secret-resource.ts";
import { sealValue } from "../secrets/value.ts";
import { beginRotation, changedMeanwhile, requireFree, tellConfig } from "./change.ts";
import { mustRotate, usableIntegration } from "./look.ts";
import { placeOf } from "./place.ts";
import { functionArnOf, type Recipe, recipeOf } from "./recipe.ts";
import { period, type RotatedSecretResource, rotatedSecretName, rotatedSecretResource, shown } from "./rotated-secret-input.ts";

const members = z.record(z.string().max(128), z.unknown());
const input = z.object({
  ...configMembers,
  Name: rotatedSecretName,
  Integration: integrationId,
  RotationPeriodSeconds: period,
  Parameters: members.optional(),
  Credentials: z.array(members).max(2).optional(),
  RotateImmediately: z.boolean().optional(),
});
type Input = z.infer<typeof input>;

/** Nothing is changed at the target: the credentials are tried, and what a rotation would meet is looked at. */
export const createRotatedSecret = defineOperation<Input, RotatedSecretResource>({
  name: "CreateRotatedSecret",
  action: "rekey:CreateRotatedSecret",
  noun: "rotated-secrets",
  verb: "create",
  mode: "write",
  summary:
    "Has a config show a credential that is rotated; each that is given is tried first, and nothing is made that would fail.",
  input,
  sensitive: ["Parameters", "Credentials"],
  resource: (request, call) => rotatedSecretResource({ ...request, Id: request.Name }, call),
  async run(request, found, call) {
    const config = existingConfig(found);
    refuseUntrusted(call, config);
    const { services, startedAt } = call;
    if (found.rotated || (await findDynamicSecret(call.sql, config.id, request.Name))) throw nameTaken(request.Name);
    const rotationRules = periodRules(request.RotationPeriodSeconds, services.extendedSchedules);
    const integration = await usableIntegration(request.Integration, call);
    const recipe = recipeOf(integration.type);
    const id = randomUUID();
    const { Parameters: given = {}, Credentials: credentials = [] } = request;
    const { connection, network, parameters, managerArn, own } = await placeOf(call, { integration, given, id });
    const values = recipe.values({ connection, parameters, credentials, managerArn });
    const { findings, account } = await mustRotate(call, { recipe, network }, values, managerArn ? connection : undefined);
    await requireUnrotated(call, account);
    await requireFree(call, config, rotatedFieldsOf(request.Name, JSON.stringify(values[0] ?? {})).keys());
    const name = await freeName(call.sql, services.region, ownedName(config.projectId, config.name, request.Name));
    const { secret, fields } = await firstVersions({ recipe, name, values, shownName: request.Name, rotationRules }, call);
    const rotated = {
      id,
      configId: config.id,
      name: request.Name,
      integrationId: integration.id,
      secretId: secret.id,
      rotationPeriodSeconds: request.RotationPeriodSeconds,
      createdAt: startedAt,
      account,
    };
    const { saved, raised } = await call.transaction(async (tx) => {
      if (!(await lockIntegration(tx, integration.id))) throw changedMeanwhile();
      if (await findSecret(tx, secret.region, secret.name)) throw changedMeanwhile();
      const text = `added rotated secret ${rotated.name}`;
      const toHint = await tellConfig(tx, call, config, { text, diff: { added: fields, removed: [], updated: [] } });
      const made = await insertSecret(tx, secret);
      if (!(await insertRotatedSecret(tx, rotated))) throw nameTaken(rotated.name);
      if (own) await insertManagingUser(tx, own, startedAt);
      await addEvent(tx, { at: startedAt, type: "secret.created", resource: made.arn, generation: 0, detail: {} });
      const begun = request.RotateImmediately === true ? await beginRotation(tx, made, call) : made;
      return { saved: begun, raised: toHint };
    });
    hintConfigs(call, raised);
    services.wakeEngine();
    const place = { project: config.projectId, config: config.name };
    return {
      RotatedSecret: await shown(rotated, saved, place, call),
      Warnings: findings.map(({ problem, remedy }) => ({ Problem: problem, Remedy: remedy })),
    };
  },
});

/** Two that change one account's passwords would each break what the other shows. @throws ServiceError */
async function requireUnrotated(call: Call, account: string | undefined): Promise<void> {
  const other = account === undefined ? undefined : await rotatedSecretOfAccount(call.sql, account);
  const config = other && (await loadConfig(call.sql, other.configId));
  if (!config) return;
  const { projectId, name } = config;
  const arn = rotatedSecretArn(call.services, projectId, name, other.name);
  const isHidden = call.may("rekey:GetRotatedSecret", { arn, context: {} }) !== undefined;
  const where = isHidden
    ? "in another config"
    : `as ${other.name} of config ${projectId}/${name}: refer to that with \${${projectId}.${name}.${other.name}_PASSWORD}`;
  throw new ServiceError("ResourceExistsException", `These credentials are rotated already, ${where}.`);
}

interface First {
  readonly recipe: Recipe;
  readonly name: string;
  /** The one to be shown, and that of the user whose turn comes next. */
  readonly values: readonly Record<string, unknown>[];
  readonly shownName: string;
  readonly rotationRules: Secret["rotationRules"];
}

/** The secret with what logs in now as AWSCURRENT and AWSPREVIOUS, and what the config will show of it. */
async function firstVersions({ recipe, name, values, shownName, rotationRules }: First, call: Call) {
  const { services, startedAt, principal } = call;
  const { region, account } = services;
  const plain: Secret = {
    id: newSecretId(),
    region,
    name,
    arn: nameArn(name, { region, account }, randomSuffix()),
    owningService: ownService,
    createdAt: startedAt,
    lastChangedAt: startedAt,
    generation: 0,
    rowVersion: 1,
    rotationEnabled: true,
    rotationFunctionArn: functionArnOf(recipe, services),
    rotationRules,
    rotationPolicy: { heartbeatSeconds },
    rotationPrincipal: rotationPrincipal(principal),
    versions: [],
  };
  const refusal = await services.functions.refusal(plain.rotationFunctionArn ?? "", plain);
  if (refusal) throw refusal;
  let secret = plain;
  for (const [index, value] of values.entries()) {
    const id = randomUUID();
    const plaintext = new Plaintext(JSON.stringify(value));
    const sealed = await sealValue(call, plain, id, { kind: "string", plaintext });
    const stages = [index === 0 ? "AWSCURRENT" : "AWSPREVIOUS"];
    secret = addVersion(secret, { id, value: sealed, stages, createdAt: startedAt }).secret;
  }
  const planned = planHeartbeat(services.reschedule(secret, startedAt), startedAt, Math.random());
  return { secret: planned, fields: [...rotatedFieldsOf(shownName, JSON.stringify(values[0] ?? {})).keys()] };
}

/** Another config may have had the name before, or a rotated secret that is deleted and may still be restored. */
async function freeName(sql: Sql, region: string, name: string): Promise<string> {
  return (await findSecret(sql, region, name)) ? `${name}/${randomSuffix()}` : name;
}

const nameTaken = (name: string): ServiceError =>
  new ServiceError("ResourceExistsException", `The config has a rotated or dynamic secret ${name} already.`);
