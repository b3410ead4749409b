import { randomUUID } from "node:crypto";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { leaseLimits } from "../../core/lease.ts";
import { dynamicSecretArn, integrationArn } from "../../core/rekey-arn.ts";
import { logActivity } from "../../store/activity.ts";
import { hasParents } from "../../store/config-inherits.ts";
import { type Config, lockConfig } from "../../store/configs.ts";
import {
  type DynamicSecret,
  dynamicSecretsOf,
  insertDynamicSecret,
  lockDynamicSecret,
  markDynamicSecretDeleted,
  saveDynamicSecret,
} from "../../store/dynamic-secrets.ts";
import { addEvent } from "../../store/events.ts";
import { findIntegration, type Integration, loadIntegration, lockIntegration } from "../../store/integrations.ts";
import { countLiveOf } from "../../store/leases.ts";
import type { Sql } from "../../store/sql.ts";
import type { LeaseFinding, LeaseTarget } from "../../targets/lease-target.ts";
import { who } from "../configs/activity.ts";
import { type ConfigResource, configResource, existingConfig } from "../configs/config-resource.ts";
import { ConfigReader } from "../configs/config-values.ts";
import { networkName, requireNetwork, useNetwork } from "../networks/network-input.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { type Members, openIntegration, parseMembers, targetOf, targetRefusal, toolsFor } from "./connection.ts";
import {
  checkLimits,
  configMembers,
  type DynamicSecretResource,
  dynamicSecretName,
  dynamicSecretResource,
  existing,
  limitMembers,
  named,
  shown,
} from "./dynamic-secret-input.ts";
import { integrationId } from "./integration-input.ts";
import { leaseNames } from "./lease-names.ts";

/** One download may take a lease of each. */
const maxPerConfig = 50;
const settings = z.record(z.string().max(128), z.unknown());
const createInput = z.object({
  ...configMembers,
  Name: dynamicSecretName,
  Integration: integrationId,
  Settings: settings,
  Network: networkName.optional(),
  SkipCheck: z.boolean().optional(),
  ...limitMembers,
});

/** Statements and policies run with the integration's rights: whoever writes them needs leave to use it. */
async function usable(idOrName: string, call: Call): Promise<Integration> {
  const integration = await findIntegration(call.sql, idOrName);
  const arn = integrationArn(call.services, integration?.id ?? idOrName);
  const refusal = call.may("rekey:UseIntegration", { arn, shown: idOrName, context: {} });
  if (refusal) throw refusal;
  if (!integration) throw new ServiceError("ResourceNotFoundException", `Could not find integration ${idOrName}.`);
  return integration;
}

/**
 * Another network than the integration's: its user logs in there, at whatever has that host name. Whoever chooses it needs leave
 * to use the network, and to have the integration's own password sent there: to change the integration takes knowing that again.
 * @throws ServiceError
 */
async function requireElsewhere(network: string, integration: Integration, call: Call): Promise<void> {
  const arn = integrationArn(call.services, integration.id);
  const asked = [
    ...useNetwork(network, call),
    { action: "rekey:UseIntegrationElsewhere", resource: { arn, shown: integration.name, context: {} } },
  ];
  for (const { action, resource } of asked) {
    const refusal = call.may(action, resource);
    if (refusal) throw refusal;
  }
  await requireNetwork(call.sql, network);
}

interface Checked {
  readonly target: LeaseTarget;
  readonly findings: readonly LeaseFinding[];
}

interface Looked {
  readonly integration: Integration;
  /** The dynamic secret's own. */
  readonly network: string | undefined;
  readonly settings: Members;
  readonly isSkipped?: boolean;
}

/** @throws ServiceError ValidationException for settings that its kind does not take; InvalidRequestException when nobody answers. */
async function look(
  services: Call["services"],
  { integration, network, settings: given, isSkipped = false }: Looked,
): Promise<Checked> {
  const near = await targetOf(services, integration.type);
  const parsed = parseMembers(near.settings, given, "Settings");
  if (isSkipped) return { target: near, findings: [] };
  const opened = await openIntegration(services, integration);
  const target = await targetOf(services, integration.type, network ?? opened.network);
  const connection = parseMembers(target.connection, opened.data, "Data");
  try {
    return { target, findings: await target.check(connection, parsed, toolsFor()) };
  } catch (error) {
    throw targetRefusal(error, `The ${target.kind} target could not be looked at, so nothing was changed`);
  }
}

/** @throws ServiceError InvalidRequestException with what would fail, and what helps */
function refuseFindings({ findings }: Checked): void {
  const bad = findings.filter(({ warning }) => warning !== true);
  if (bad.length === 0) return;
  const texts = bad.map(({ problem, remedy }) => `${problem} (${remedy})`);
  throw new ServiceError(
    "InvalidRequestException",
    `Leases could not be issued or ended, so nothing was changed: ${texts.join("; ")}. SkipCheck keeps it all the same.`,
  );
}

const warningsOf = ({ findings }: Checked) => findings.filter(({ warning }) => warning === true).map(shownFinding);
const shownFinding = ({ problem, remedy, warning }: LeaseFinding) => ({
  Problem: problem,
  Remedy: remedy,
  Warning: warning ?? false,
});
const fieldsOf = ({ target }: Checked, given: Members) => target.fieldNames(parseMembers(target.settings, given, "Settings"));
const shownIntegration = ({ id, name, type }: Integration) => ({ Id: id, Name: name, Type: type });

const createDynamicSecret = defineOperation<z.infer<typeof createInput>, DynamicSecretResource>({
  name: "CreateDynamicSecret",
  action: "rekey:CreateDynamicSecret",
  noun: "dynamic-secrets",
  verb: "create",
  mode: "write",
  summary: "Makes a recipe for credentials in a config, from an integration; the target is looked at first, and left as it is.",
  input: createInput,
  resource: dynamicSecretResource,
  async run(input, found, call) {
    const config = existingConfig(found);
    if (found.secret) throw nameTaken(input.Name);
    const integration = await usable(input.Integration, call);
    const network = input.Network;
    if (network !== undefined) await requireElsewhere(network, integration, call);
    const isSkipped = input.SkipCheck === true;
    const checked = await look(call.services, { integration, network, settings: input.Settings, isSkipped });
    refuseFindings(checked);
    const most = Math.min(checked.target.maxTtlSeconds ?? leaseLimits.ttl.most, leaseLimits.ttl.most);
    const defaultTtlSeconds = input.DefaultTtlSeconds ?? Math.min(leaseLimits.ttl.usual, input.MaxTtlSeconds ?? most, most);
    const secret: DynamicSecret = {
      id: randomUUID(),
      configId: config.id,
      project: config.projectId,
      config: config.name,
      name: input.Name,
      integrationId: integration.id,
      network,
      settings: JSON.stringify(input.Settings),
      defaultTtlSeconds,
      maxTtlSeconds: input.MaxTtlSeconds ?? Math.min(most, Math.max(leaseLimits.maxTtlUsual, defaultTtlSeconds)),
      maxLeases: input.MaxLeases ?? leaseLimits.maxLeases.usual,
      maxLeasesPerPrincipal: input.MaxLeasesPerPrincipal ?? leaseLimits.maxLeasesPerPrincipal.usual,
      shareSeconds: input.ShareSeconds ?? 0,
      createdAt: call.startedAt,
      updatedAt: call.startedAt,
    };
    checkLimits(secret, most);
    await requireUnwritten(call, config, secret);
    await call.transaction(async (tx) => {
      const there = (await lockIntegration(tx, integration.id)) && (await lockConfig(tx, config.id));
      if (!there) throw changedMeanwhile();
      await requireNetwork(tx, network);
      await requireNoInheritance(tx, there);
      if ((await dynamicSecretsOf(tx, config.id)).length >= maxPerConfig)
        throw new ServiceError("LimitExceededException", `A config can have ${maxPerConfig} dynamic secrets.`);
      if (!(await insertDynamicSecret(tx, secret))) throw nameTaken(input.Name);
      await tell(tx, call, "created", secret);
    });
    const fields = fieldsOf(checked, input.Settings);
    return {
      DynamicSecret: shown(secret, { integration: shownIntegration(integration), fields }),
      Warnings: warningsOf(checked),
    };
  },
});

async function requireUnwritten(call: Call, config: Config, secret: DynamicSecret): Promise<void> {
  const shown = await new ConfigReader(call.services).view(config);
  const taken = (await leaseNames(secret, call)).find((name) => shown.has(name));
  if (taken !== undefined)
    throw new ServiceError(
      "InvalidRequestException",
      `Config ${config.name} has a secret ${taken} already, which leases of ${secret.name} would hide: choose another name.`,
    );
}

/** Leases of one config are not shown by others. */
async function requireNoInheritance(tx: Sql, { id, name, inheritable }: Config): Promise<void> {
  if (inheritable || (await hasParents(tx, id)))
    throw new ServiceError(
      "InvalidRequestException",
      `Config ${name} ${inheritable ? "is inheritable" : "inherits"}: dynamic secrets and inheritance do not go together.`,
    );
}

const getDynamicSecret = defineOperation<z.infer<typeof named>, DynamicSecretResource>({
  name: "GetDynamicSecret",
  action: "rekey:GetDynamicSecret",
  noun: "dynamic-secrets",
  verb: "get",
  mode: "read",
  summary: "Shows a dynamic secret, the names of its fields, and how many of its leases live.",
  input: named,
  resource: dynamicSecretResource,
  async run(_input, found, call) {
    const secret = existing(found);
    return { DynamicSecret: { ...(await inFull(secret, call)), LiveLeases: await countLiveOf(call.sql, secret.id) } };
  },
});

async function inFull(secret: DynamicSecret, { sql, services }: Call) {
  const integration = await loadIntegration(sql, secret.integrationId);
  const target = integration && (await services.findLeaseTarget(integration.type));
  const parsed = target?.settings.safeParse(JSON.parse(secret.settings));
  return shown(secret, {
    integration: integration && shownIntegration(integration),
    ...(target && parsed?.success && { fields: target.fieldNames(parsed.data) }),
  });
}

const ofConfig = z.object(configMembers);

const listDynamicSecrets = defineOperation<z.infer<typeof ofConfig>, ConfigResource>({
  name: "ListDynamicSecrets",
  action: "rekey:ListDynamicSecrets",
  noun: "dynamic-secrets",
  verb: "list",
  mode: "read",
  summary: "Lists the dynamic secrets of a config, by name.",
  input: ofConfig,
  resource: configResource,
  async run(_input, found, call) {
    const config = existingConfig(found);
    const secrets = await dynamicSecretsOf(call.sql, config.id);
    return { DynamicSecrets: await Promise.all(secrets.map((secret) => inFull(secret, call))) };
  },
});

const updateInput = z.object({
  ...configMembers,
  Name: dynamicSecretName,
  Integration: integrationId.optional(),
  Settings: settings.optional(),
  /** Empty: where the integration's target is. */
  Network: networkName.or(z.literal("")).optional(),
  SkipCheck: z.boolean().optional(),
  ...limitMembers,
});

const updateDynamicSecret = defineOperation<z.infer<typeof updateInput>, DynamicSecretResource>({
  name: "UpdateDynamicSecret",
  action: "rekey:UpdateDynamicSecret",
  noun: "dynamic-secrets",
  verb: "update",
  mode: "write",
  summary: "Changes a dynamic secret; what is left out stays. Leases that live keep what they were made with.",
  input: updateInput,
  resource: dynamicSecretResource,
  async run(input, found, call) {
    const before = existing(found);
    const { services, startedAt } = call;
    const isOther = [input.Integration, input.Settings, input.Network].some((member) => member !== undefined);
    const integration = isOther
      ? await usable(input.Integration ?? before.integrationId, call)
      : await loadIntegration(call.sql, before.integrationId);
    if (!integration) throw changedMeanwhile();
    const given = input.Settings ?? JSON.parse(before.settings);
    const network = input.Network === undefined ? before.network : input.Network || undefined;
    if (isOther && network !== undefined) await requireElsewhere(network, integration, call);
    const isSkipped = input.SkipCheck === true || !isOther;
    const checked = await look(services, { integration, network, settings: given, isSkipped });
    refuseFindings(checked);
    const after = await call.transaction(async (tx) => {
      const usedIntegration = await lockIntegration(tx, integration.id);
      const locked = await lockDynamicSecret(tx, before.id);
      if (!usedIntegration || locked?.updatedAt !== before.updatedAt) throw changedMeanwhile();
      await requireNetwork(tx, network);
      const next: DynamicSecret = {
        ...locked,
        integrationId: integration.id,
        network,
        settings: JSON.stringify(given),
        defaultTtlSeconds: input.DefaultTtlSeconds ?? locked.defaultTtlSeconds,
        maxTtlSeconds: input.MaxTtlSeconds ?? locked.maxTtlSeconds,
        maxLeases: input.MaxLeases ?? locked.maxLeases,
        maxLeasesPerPrincipal: input.MaxLeasesPerPrincipal ?? locked.maxLeasesPerPrincipal,
        shareSeconds: input.ShareSeconds ?? locked.shareSeconds,
        updatedAt: Math.max(startedAt, locked.updatedAt + 1),
      };
      checkLimits(next, checked.target.maxTtlSeconds);
      await saveDynamicSecret(tx, next);
      await tell(tx, call, "changed", next);
      return next;
    });
    const fields = fieldsOf(checked, given);
    return { DynamicSecret: shown(after, { integration: shownIntegration(integration), fields }), Warnings: warningsOf(checked) };
  },
});

const deleteDynamicSecret = defineOperation<z.infer<typeof named>, DynamicSecretResource>({
  name: "DeleteDynamicSecret",
  action: "rekey:DeleteDynamicSecret",
  noun: "dynamic-secrets",
  verb: "delete",
  mode: "write",
  summary: "Deletes a dynamic secret and ends all its leases; the answer tells how many.",
  input: named,
  resource: dynamicSecretResource,
  async run(_input, found, call) {
    const { id } = existing(found);
    const LeasesEnding = await call.transaction(async (tx) => {
      const secret = await lockDynamicSecret(tx, id);
      if (!secret) throw changedMeanwhile();
      await markDynamicSecretDeleted(tx, id, call.services.now());
      await tell(tx, call, "deleted", secret);
      return countLiveOf(tx, id);
    });
    call.services.wakeEngine();
    return { LeasesEnding };
  },
});

const checkDynamicSecret = defineOperation<z.infer<typeof named>, DynamicSecretResource>({
  name: "CheckDynamicSecret",
  action: "rekey:CheckDynamicSecret",
  noun: "dynamic-secrets",
  verb: "check",
  mode: "read",
  summary: "Looks at the target, without changing anything, for what would keep leases from being issued or ended.",
  input: named,
  resource: dynamicSecretResource,
  async run(_input, found, call) {
    const secret = existing(found);
    const integration = await loadIntegration(call.sql, secret.integrationId);
    if (!integration) throw changedMeanwhile();
    const { findings } = await look(call.services, {
      integration,
      network: secret.network,
      settings: JSON.parse(secret.settings),
    });
    return { Works: findings.every(({ warning }) => warning === true), Findings: findings.map(shownFinding) };
  },
});

function nameTaken(name: string): ServiceError {
  return new ServiceError("ResourceExistsException", `The config has a dynamic secret ${name} already.`);
}

function changedMeanwhile(): ServiceError {
  return new ServiceError(
    "InvalidRequestException",
    "The dynamic secret, its config or its integration was changed or deleted meanwhile; look and try again.",
  );
}

async function tell(tx: Sql, call: Call, what: "created" | "changed" | "deleted", secret: DynamicSecret): Promise<void> {
  const { project, config, name } = secret;
  const { services, startedAt: at, principal } = call;
  await addEvent(tx, {
    at,
    type: `dynamic-secret.${what}`,
    resource: dynamicSecretArn(services, project, config, name),
    detail: { project, config, name, principal: principal.arn },
  });
  const verb = { created: "Created", changed: "Changed", deleted: "Deleted" }[what];
  await logActivity(tx, { at, ...who(call), text: `${verb} dynamic secret ${name}`, project, config });
}

export const dynamicSecretOperations: readonly Operation[] = [
  createDynamicSecret,
  getDynamicSecret,
  listDynamicSecrets,
  updateDynamicSecret,
  deleteDynamicSecret,
  checkDynamicSecret,
];
