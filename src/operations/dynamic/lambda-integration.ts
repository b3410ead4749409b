import { randomUUID } from "node:crypto";
import { RotatorError, ServiceError } from "../../core/error.ts";
import { kindThroughLambda } from "../../core/lambda-integration.ts";
import { rotatedSecretsWith } from "../../store/dynamic-secrets.ts";
import { findFunction } from "../../store/functions.ts";
import {
  findIntegration,
  type Integration,
  type IntegrationVersion,
  insertIntegration,
  insertIntegrationVersion,
  isExternalId,
  newestVersion,
  saveIntegration,
} from "../../store/integrations.ts";
import { findNetwork } from "../../store/networks.ts";
import type { Sql } from "../../store/sql.ts";
import type { LambdaRecord } from "../lambda-functions.ts";
import type { Call } from "../operation.ts";
import { type Members, parseMembers, sealVersion } from "./connection.ts";
import { lockAsRead, nameTaken, tell } from "./integration-change.ts";
import { type Arrangement, arrange, keep, type LambdaData, lambdaData, release, takeIdOf } from "./lambda-arrangement.ts";

interface Given {
  readonly name: string;
  readonly type: string;
  readonly data: Members;
  readonly network: string | undefined;
}

/** Others may make the same function and network at the same time: then those are taken. */
const mostTries = 3;

/**
 * An integration that is a function of AWS Lambda: it has no target of its own, each rotated secret names one. The function is
 * asked for its status first; nothing is kept of one that does not answer. @throws ServiceError
 */
export async function createThroughLambda(given: Given, call: Call) {
  const kind = kindThroughLambda(given.type) ?? given.type;
  refuseNetwork(given.network);
  const data = parseMembers(lambdaData, given.data, "Data");
  await refuseForeignId(data, call);
  if (await findIntegration(call.sql, given.name)) throw nameTaken(given.name);
  for (let tries = 1; ; tries++) {
    const arrangement = await arrange(kind, data, call);
    try {
      return { integration: await insert(given, data, arrangement, call), identity: identityOf(arrangement.record) };
    } catch (error) {
      const isOthers = error instanceof ServiceError && error.code === "ResourceExistsException";
      if (!isOthers || tries === mostTries || (await findIntegration(call.sql, given.name))) throw error;
    }
  }
}

async function insert({ name, type }: Given, data: LambdaData, arrangement: Arrangement, call: Call): Promise<Integration> {
  const { services, startedAt: at } = call;
  const id = randomUUID();
  const version = await versionOf({ id, version: 0 }, data, arrangement, call);
  const times = { createdAt: at, updatedAt: at, verifiedAt: at };
  const integration: Integration = { id, name, type, version: 1, ...times, outcome: "ok" };
  await call.transaction(async (tx) => {
    await keep(tx, arrangement, call);
    if (!(await insertIntegration(tx, integration, version, false))) throw nameTaken(name);
    await takeIdOf(tx, data, arrangement, { integration: id, account: services.account });
    await tell(tx, call, "integration.created", integration);
  });
  return integration;
}

const versionOf = (
  { id, version }: Pick<Integration, "id" | "version">,
  data: LambdaData,
  { network }: Arrangement,
  { services }: Call,
): Promise<IntegrationVersion> =>
  sealVersion(
    services,
    { integrationId: id, number: version + 1, network: network.name },
    { shown: data, secret: {} },
    data.lambdaARN,
  );

interface Changes {
  readonly name: string | undefined;
  /** What is to be other than it was; absent: nothing of it. */
  readonly data: Members | undefined;
  readonly removeData: readonly string[];
  readonly network: string | undefined;
}

/**
 * Another function gets the passwords of the rotated secrets that use it: there may be none, unless the integration's own
 * function was pointed there by whoever may do that. @throws ServiceError
 */
export async function updateThroughLambda(before: Integration, changes: Changes, call: Call) {
  refuseNetwork(changes.network);
  const was = await newestVersion(call.sql, before);
  const kept = Object.entries(JSON.parse(was?.settings ?? "{}") as Members).filter(
    ([name]) => !changes.removeData.includes(name),
  );
  const data = parseMembers(lambdaData, { ...Object.fromEntries(kept), ...changes.data }, "Data");
  const isSame = changes.data === undefined && changes.removeData.length === 0;
  const arrangement = isSame ? undefined : await arrange(kindThroughLambda(before.type) ?? "", data, call);
  const version = arrangement && (await versionOf(before, data, arrangement, call));
  const { startedAt: at } = call;
  const { after, gone } = await call.transaction(async (tx) => {
    const locked = await lockAsRead(tx, before);
    const isElsewhere = arrangement !== undefined && arrangement.network.name !== was?.network;
    if (isElsewhere) await refuseUsed(tx, before, arrangement);
    const named = { ...locked, name: changes.name ?? locked.name, updatedAt: at };
    const worked = { verifiedAt: at, outcome: "ok", error: undefined } as const;
    const next: Integration = version ? { ...named, ...worked, version: version.number } : named;
    if (arrangement) await keep(tx, arrangement, call);
    if (!(await saveIntegration(tx, next))) throw nameTaken(next.name);
    if (arrangement && version) {
      await insertIntegrationVersion(tx, version, at);
      await takeIdOf(tx, data, arrangement, { integration: before.id, account: call.account });
    }
    await tell(tx, call, "integration.changed", next);
    return { after: next, gone: isElsewhere ? await release(tx, was?.network, call) : undefined };
  });
  if (gone !== undefined) call.services.functions.forget(gone);
  return { integration: after, identity: arrangement && identityOf(arrangement.record) };
}

/** @throws ServiceError InvalidRequestException */
async function refuseUsed(tx: Sql, { id }: Integration, { record }: Arrangement): Promise<void> {
  if ((await rotatedSecretsWith(tx, id)).length === 0) return;
  throw new ServiceError(
    "InvalidRequestException",
    `Its rotated secrets would have their passwords sent to ${record.lambda.targetArn}, or by another role: make another integration, and them anew; or point the function that it has there (rekey function update NAME --lambda ARN --assume-role ARN).`,
  );
}

/** Asks the function that the integration gets to for its status. @throws RotatorError with why it does not answer */
export async function verifyThroughLambda(integration: Integration, call: Call): Promise<string> {
  const record = await functionOf(integration, call);
  if (!record) throw new RotatorError("invalid", "its network names no function for this kind of target any more");
  try {
    await call.services.functions.check(record);
  } catch (error) {
    throw error instanceof ServiceError && error.cause instanceof RotatorError ? error.cause : error;
  }
  return identityOf(record);
}

/** The function that the integration's network names now, as it is registered. */
export async function functionOf(integration: Integration, { sql }: Pick<Call, "sql">): Promise<LambdaRecord | undefined> {
  const version = await newestVersion(sql, integration);
  const network = version?.network === undefined ? undefined : await findNetwork(sql, version.network);
  const arn = network?.functions[kindThroughLambda(integration.type) ?? ""];
  const record = arn === undefined ? undefined : await findFunction(sql, arn);
  return record?.kind === "lambda" ? record : undefined;
}

const identityOf = ({ name, lambda }: LambdaRecord): string =>
  `function ${name}, ${lambda.protocol === "rekey" ? "one of Rekey's own" : "one of Doppler's agents"}`;

/** @throws ServiceError ValidationException */
function refuseNetwork(network: string | undefined): void {
  if (network === undefined) return;
  throw new ServiceError("ValidationException", "Data.lambdaARN is the way to the target: leave Network out.");
}

/** @throws ServiceError ValidationException for an id that somebody has chosen */
async function refuseForeignId({ externalId }: LambdaData, { sql, account }: Call): Promise<void> {
  if (externalId === undefined || externalId === account || (await isExternalId(sql, externalId))) return;
  throw new ServiceError(
    "ValidationException",
    "Data.externalId must be one that GenerateExternalId gave, or the workplace's id.",
  );
}
