import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { RotatorError, ServiceError } from "../../core/error.ts";
import { kindThroughLambda } from "../../core/lambda-integration.ts";
import { integrationArn } from "../../core/rekey-arn.ts";
import { dynamicSecretsWith, markDynamicSecretDeleted, rotatedSecretsWith } from "../../store/dynamic-secrets.ts";
import {
  findIntegration,
  type Integration,
  insertExternalId,
  insertIntegration,
  insertIntegrationVersion,
  isExternalId,
  listIntegrations,
  lockIntegration,
  markIntegrationDeleted,
  newestVersion,
  saveIntegration,
  takeExternalId,
} from "../../store/integrations.ts";
import { countLiveOf } from "../../store/leases.ts";
import type { Sql } from "../../store/sql.ts";
import type { LeaseTarget } from "../../targets/lease-target.ts";
import { networkName, requireNetwork, useNetwork } from "../networks/network-input.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { readPageToken, writePageToken } from "../secrets/page-token.ts";
import {
  type Members,
  openIntegration,
  parseMembers,
  sealVersion,
  splitData,
  targetOf,
  targetRefusal,
  toolsFor,
} from "./connection.ts";
import { lockAsRead, nameTaken, tell } from "./integration-change.ts";
import {
  askSpecialAddresses,
  existing,
  type IntegrationResource,
  integrationId,
  integrationName,
  integrationResource,
  named,
  shown,
  typeContext,
} from "./integration-input.ts";
import { integrationKind, isThroughLambda } from "./integration-kind.ts";
import { release } from "./lambda-arrangement.ts";
import { createThroughLambda, updateThroughLambda, verifyThroughLambda } from "./lambda-integration.ts";

const data = z.record(z.string().max(128), z.unknown());
const kind = z.string().min(1).max(64);

/** Logs in, so that nothing is kept that does not work. @throws ServiceError InvalidRequestException in words */
async function verify(target: LeaseTarget, connection: unknown): Promise<string> {
  try {
    return (await target.verify(connection, toolsFor())).identity;
  } catch (error) {
    throw targetRefusal(
      error,
      `Nothing was kept, since the ${target.kind} target could not be reached as this integration would`,
    );
  }
}

/**
 * What the machine's own identity takes on asks for an id that was handed out here, and belongs to one integration: nobody
 * gets another's role by naming its id.
 */
async function takeOwnExternalId(tx: Sql, { externalId, ambient }: Members, integration: string): Promise<void> {
  if (typeof externalId !== "string") return;
  if (await takeExternalId(tx, externalId, integration)) return;
  if (ambient !== true && !(await isExternalId(tx, externalId))) return; // of a key that may take on the role anyway
  throw new ServiceError(
    "ValidationException",
    "Data.externalId must be one that GenerateExternalId gave, and that no other integration has.",
  );
}

const createInput = z.object({ Name: integrationName, Type: kind, Data: data, Network: networkName.optional() });

const createIntegration = defineOperation<z.infer<typeof createInput>, Resource>({
  name: "CreateIntegration",
  action: "rekey:CreateIntegration",
  noun: "integrations",
  verb: "create",
  mode: "write",
  summary:
    "Keeps a connection to a target for dynamic and rotated secrets; it is tried first, and not kept when it does not work.",
  input: createInput,
  sensitive: ["Data"],
  resource: ({ Type }, { services }) => ({ arn: integrationArn(services, "*"), context: typeContext(Type) }),
  permissions: ({ Data, Network }, found, call) => [...askSpecialAddresses(Data, found), ...useNetwork(Network, call)],
  async run({ Name, Type, Data, Network: network }, _found, call) {
    const { services, startedAt: at } = call;
    if (isThroughLambda(Type, Data)) {
      const made = await createThroughLambda({ name: Name, type: Type, data: Data, network }, call);
      return { Integration: await shown(made.integration, call), Identity: made.identity };
    }
    const type = integrationKind(Type);
    const target = await targetOf(services, type, network);
    const connection = parseMembers(target.connection, Data, "Data");
    await requireNetwork(call.sql, network); // before it is tried there
    if (await findIntegration(call.sql, Name)) throw nameTaken(Name);
    const identity = await verify(target, connection);
    const id = randomUUID();
    const version = await sealVersion(
      services,
      { integrationId: id, number: 1, network },
      splitData(target, Data),
      target.target(connection),
    );
    const times = { createdAt: at, updatedAt: at, verifiedAt: at };
    const integration: Integration = { id, name: Name, type, version: 1, ...times, outcome: "ok" };
    await call.transaction(async (tx) => {
      await requireNetwork(tx, network);
      if (!(await insertIntegration(tx, integration, version))) throw nameTaken(Name);
      await takeOwnExternalId(tx, Data, id);
      await tell(tx, call, "integration.created", integration);
    });
    return { Integration: await shown(integration, call), Identity: identity };
  },
});

const getIntegration = defineOperation<z.infer<typeof named>, IntegrationResource>({
  name: "GetIntegration",
  action: "rekey:GetIntegration",
  noun: "integrations",
  verb: "get",
  mode: "read",
  summary: "Shows an integration, without what is secret in it, and what uses it.",
  input: named,
  resource: integrationResource,
  async run(_input, found, call) {
    const integration = existing(found);
    const uses = await dynamicSecretsWith(call.sql, integration.id);
    return {
      Integration: {
        ...(await shown(integration, call)),
        DynamicSecrets: uses.map(({ project, config, name }) => ({ Project: project, Config: config, Name: name })),
        RotatedSecrets: await rotatedSecretsWith(call.sql, integration.id),
      },
    };
  },
});

const listInput = z.object({
  Type: kind.optional(),
  MaxResults: z.int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
});

const list = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListIntegrations",
  action: "rekey:ListIntegrations",
  noun: "integrations",
  verb: "list",
  mode: "read",
  summary: "Lists integrations by name.",
  input: listInput,
  resource: ({ Type }, { services }) => ({ arn: integrationArn(services, "*"), context: typeContext(Type) }),
  async run({ Type, MaxResults, NextToken }, _found, call) {
    const scope = `integrations ${Type ?? ""}`;
    const after = NextToken === undefined ? "" : String(readPageToken(NextToken, scope)[0]);
    const rows = await listIntegrations(call.sql, { type: Type, after, limit: MaxResults + 1 });
    const page = rows.slice(0, MaxResults);
    const last = rows.length > MaxResults ? page.at(-1) : undefined;
    return {
      Integrations: await Promise.all(page.map((integration) => shown(integration, call))),
      ...(last && { NextToken: writePageToken(scope, [last.name]) }),
    };
  },
});

const updateInput = z.object({
  Integration: integrationId,
  Name: integrationName.optional(),
  Data: data.optional(),
  RemoveData: z.array(z.string().min(1).max(128)).max(100).optional(),
  /** Empty: reached from here again. */
  Network: networkName.or(z.literal("")).optional(),
});

const updateIntegration = defineOperation<z.infer<typeof updateInput>, IntegrationResource>({
  name: "UpdateIntegration",
  action: "rekey:UpdateIntegration",
  noun: "integrations",
  verb: "update",
  mode: "write",
  summary:
    "Changes an integration's name or members of its data; what is left out stays. It is tried first; leases that live are ended as before.",
  input: updateInput,
  sensitive: ["Data"],
  resource: integrationResource,
  permissions: ({ Data, Network }, found, call) => [
    ...askSpecialAddresses(Data, found),
    ...useNetwork(Network || undefined, call),
  ],
  async run({ Name, Data, RemoveData = [], Network }, found, call) {
    const before = existing(found);
    const { startedAt: at } = call;
    if (kindThroughLambda(before.type) !== undefined) {
      const changes = { name: Name, data: Data, removeData: RemoveData, network: Network };
      const { integration, identity } = await updateThroughLambda(before, changes, call);
      return { Integration: await shown(integration, call), Identity: identity };
    }
    const isSame = Data === undefined && RemoveData.length === 0 && Network === undefined;
    const changed = isSame ? undefined : await changedVersion(before, { Data, RemoveData, Network }, call);
    const after = await call.transaction(async (tx) => {
      const locked = await lockAsRead(tx, before);
      const named = { ...locked, name: Name ?? locked.name, updatedAt: at };
      const next: Integration = changed
        ? { ...named, version: changed.version.number, verifiedAt: at, outcome: "ok", error: undefined }
        : named;
      if (!(await saveIntegration(tx, next))) throw nameTaken(next.name);
      if (changed) {
        await requireNetwork(tx, changed.version.network);
        await insertIntegrationVersion(tx, changed.version, at);
        await takeOwnExternalId(tx, changed.data, before.id);
      }
      await tell(tx, call, "integration.changed", next);
      return next;
    });
    return { Integration: await shown(after, call), Identity: changed?.identity };
  },
});

async function changedVersion(
  before: Integration,
  { Data = {}, RemoveData, Network }: { Data: Members | undefined; RemoveData: readonly string[]; Network: string | undefined },
  { services, sql }: Call,
) {
  const opened = await openIntegration(services, before);
  const network = Network === undefined ? opened.network : Network || undefined;
  await requireNetwork(sql, network); // before it is tried there
  const target = await targetOf(services, before.type, network);
  const kept = Object.entries(opened.data).filter(([name]) => !RemoveData.includes(name));
  const data = { ...Object.fromEntries(kept), ...Data };
  const isElsewhere = network !== opened.network || RemoveData.length > 0;
  requireSecretsAgain(target, { before: Object.fromEntries(kept), data, given: Data, isElsewhere });
  const connection = parseMembers(target.connection, data, "Data");
  const identity = await verify(target, connection);
  const place = { integrationId: before.id, number: before.version + 1, network };
  return { data, identity, version: await sealVersion(services, place, splitData(target, data), target.target(connection)) };
}

/** Whoever may change where it leads, may not have what is secret in it sent there. @throws ServiceError ValidationException */
function requireSecretsAgain(
  { secretMembers }: LeaseTarget,
  { before, data, given, isElsewhere }: { before: Members; data: Members; given: Members; isElsewhere: boolean },
): void {
  const isSame =
    !isElsewhere &&
    Object.entries(data).every(([name, value]) => secretMembers.includes(name) || isDeepStrictEqual(value, before[name]));
  const missing = secretMembers.filter((name) => name in data && !(name in given));
  if (isSame || missing.length === 0) return;
  throw new ServiceError(
    "ValidationException",
    `Give ${missing.map((name) => `Data.${name}`).join(", ")} again: what is secret is not taken along when anything else of the data, or the network, changes.`,
  );
}

const deleteInput = z.object({ Integration: integrationId, Force: z.boolean().optional() });

const deleteIntegration = defineOperation<z.infer<typeof deleteInput>, IntegrationResource>({
  name: "DeleteIntegration",
  action: "rekey:DeleteIntegration",
  noun: "integrations",
  verb: "delete",
  mode: "write",
  summary: "Deletes an integration that nothing uses; with Force also its dynamic secrets, and ends all their leases.",
  input: deleteInput,
  resource: integrationResource,
  async run({ Force = false }, found, call) {
    const before = existing(found);
    const { id } = before;
    const { startedAt: at } = call;
    const { gone, ...ending } = await call.transaction(async (tx) => {
      const integration = await lockIntegration(tx, id);
      if (!integration) throw new ServiceError("ResourceNotFoundException", "The integration was deleted meanwhile.");
      const rotated = await rotatedSecretsWith(tx, id);
      if (rotated.length > 0) throw inUse(`rotated secret ${rotated.slice(0, 5).join(", ")}`, "Delete those first.");
      const uses = await dynamicSecretsWith(tx, id);
      const names = uses.slice(0, 5).map(({ project, config, name }) => `${project}/${config}/${name}`);
      if (uses.length > 0 && !Force)
        throw inUse(`dynamic secret ${names.join(", ")}`, "Delete those first, or give Force, which ends all their leases.");
      let leases = 0;
      for (const secret of uses) {
        leases += await countLiveOf(tx, secret.id);
        await markDynamicSecretDeleted(tx, secret.id, call.services.now());
      }
      await markIntegrationDeleted(tx, id, at);
      await tell(tx, call, "integration.deleted", integration);
      const isAlone = kindThroughLambda(integration.type) !== undefined;
      const left = isAlone ? await release(tx, (await newestVersion(tx, integration))?.network, call) : undefined;
      return { DynamicSecretsDeleted: uses.length, LeasesEnding: leases, gone: left };
    });
    if (gone !== undefined) call.services.functions.forget(gone);
    call.services.wakeEngine();
    return ending;
  },
});

const inUse = (what: string, remedy: string) =>
  new ServiceError("InvalidRequestException", `The integration is used by ${what}. ${remedy}`);

const verifyIntegration = defineOperation<z.infer<typeof named>, IntegrationResource>({
  name: "VerifyIntegration",
  action: "rekey:VerifyIntegration",
  noun: "integrations",
  verb: "verify",
  mode: "write",
  summary: "Logs in as an integration does, and tells who it is there or what is wrong.",
  input: named,
  resource: integrationResource,
  async run(_input, found, call) {
    const integration = existing(found);
    const { startedAt: at } = call;
    const isFunction = kindThroughLambda(integration.type) !== undefined;
    const result = await (isFunction ? verifyThroughLambda(integration, call) : logIn(integration, call)).then(
      (identity) => ({ outcome: "ok", identity, error: undefined }) as const,
      (error: unknown) => {
        if (!(error instanceof RotatorError)) throw error;
        return { outcome: error.outcome, identity: undefined, error: error.message } as const;
      },
    );
    await call.transaction(async (tx) => {
      const locked = await lockIntegration(tx, integration.id);
      if (locked?.version !== integration.version) return;
      const verifiedAt = result.outcome === "ok" ? at : locked.verifiedAt;
      await saveIntegration(tx, { ...locked, verifiedAt, outcome: result.outcome, error: result.error });
    });
    return { Works: result.outcome === "ok", Identity: result.identity, Outcome: result.outcome, Reason: result.error };
  },
});

async function logIn(integration: Integration, { services }: Call): Promise<string> {
  const { data: kept, network } = await openIntegration(services, integration);
  const target = await targetOf(services, integration.type, network);
  const connection = parseMembers(target.connection, kept, "Data");
  return (await target.verify(connection, toolsFor())).identity;
}

const externalIdInput = z.object({ Type: kind.optional() });

const generateExternalId = defineOperation<z.infer<typeof externalIdInput>, Resource>({
  name: "GenerateExternalId",
  action: "rekey:CreateIntegration",
  noun: "integrations",
  verb: "generate-external-id",
  mode: "write",
  summary: "Gives a new external id, for the trust policy of the role that one integration is to take on.",
  input: externalIdInput,
  resource: ({ Type }, { services }) => ({ arn: integrationArn(services, "*"), context: typeContext(Type) }),
  async run(_input, _found, call) {
    const externalId = randomUUID();
    await call.transaction((tx) => insertExternalId(tx, externalId, call.principal.arn, call.startedAt));
    return { ExternalId: externalId };
  },
});

export const integrationOperations: readonly Operation[] = [
  createIntegration,
  getIntegration,
  list,
  updateIntegration,
  deleteIntegration,
  verifyIntegration,
  generateExternalId,
];
