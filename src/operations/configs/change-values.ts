import { setTimeout as sleep } from "node:timers/promises";
import { type ConfigChange, type ConfigDocument, diffDocuments, serialiseDocument } from "../../core/config-document.ts";
import { type ConfigPlace, referredConfigs } from "../../core/config-references.ts";
import { rotatedSecretOf } from "../../core/config-rotated.ts";
import { applyPromotions, type Promotion, type WrittenConfig } from "../../core/config-values.ts";
import { ServiceError } from "../../core/error.ts";
import { Plaintext } from "../../core/plaintext.ts";
import type { NamesDiff } from "../../core/webhook.ts";
import { recordConfigChange } from "../../store/config-changes.ts";
import { lockConfigNames, lockWithReaders } from "../../store/config-generations.ts";
import { addVersion, referredIds, replaceReferences, type SealedDocument, versionContext } from "../../store/config-versions.ts";
import { type Config, findConfig, findRootConfig, loadConfig, lockConfig } from "../../store/configs.ts";
import { dynamicSecretsOf } from "../../store/dynamic-secrets.ts";
import { rotatedNames } from "../../store/rotated-fields.ts";
import type { Sql } from "../../store/sql.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { leaseNames } from "../dynamic/lease-names.ts";
import type { Call } from "../operation.ts";
import { hintConfigs, who } from "./activity.ts";
import { arnOf, refused, requireReading, tooMany } from "./config-input.ts";
import { configFound } from "./config-resource.ts";
import { ConfigReader, placeOf } from "./config-values.ts";

/** What is to become of a config's values. It is asked again when somebody else changed them meanwhile. */
export type Decide = (
  config: WrittenConfig,
  row: Config,
) =>
  | { readonly own: ConfigDocument; readonly promotions?: readonly Promotion[] }
  | Promise<{ readonly own: ConfigDocument; readonly promotions?: readonly Promotion[] }>;

export interface Changed {
  /** The entry in the config's log; absent when nothing had to be changed. */
  readonly logId: string | undefined;
  readonly names: readonly string[];
}

/** What a config's values are to become. */
export interface Edit {
  readonly config: Config;
  readonly next: ConfigDocument;
  readonly changes: readonly ConfigChange[];
  readonly before: ConfigDocument;
}

export interface SealedEdit extends Edit {
  readonly document: SealedDocument;
  readonly references: readonly ConfigPlace[];
  readonly added: readonly ConfigPlace[];
}

const maxReferred = 100;
/** Beyond any contention that honest writers of one config make. */
const giveUpMs = 15_000;
/** Writers of one config go one after another, in this process: they would only make each other try again. */
const turnsOf = new WeakMap<Call["services"], Map<string, Promise<unknown>>>();

/** Makes a new version of a config's values, and of its root's where something is promoted. No concurrent change is lost. */
export async function changeValues(call: Call, configId: string, decide: Decide, isRollback = false): Promise<Changed> {
  const turns = turnsOf.get(call.services) ?? new Map<string, Promise<unknown>>();
  turnsOf.set(call.services, turns);
  const before = turns.get(configId) ?? Promise.resolve();
  const turn = before.catch(() => undefined).then(() => tryUntilDone(call, configId, decide, isRollback));
  turns.set(configId, turn);
  try {
    return await turn;
  } finally {
    if (turns.get(configId) === turn) turns.delete(configId);
  }
}

async function tryUntilDone(call: Call, configId: string, decide: Decide, isRollback: boolean): Promise<Changed> {
  const giveUpAt = performance.now() + giveUpMs;
  for (let tries = 1; performance.now() < giveUpAt; tries++) {
    const edits = await editsOf(call, configId, decide);
    if (edits.length === 0) return { logId: undefined, names: [] };
    const sealed: SealedEdit[] = [];
    for (const edit of edits) sealed.push(await prepareEdit(call, edit));
    try {
      const { raised, logId, names } = await call.transaction((tx) => saveEdits(tx, call, sealed, { configId, isRollback }));
      hintConfigs(call, raised);
      return { logId, names };
    } catch (error) {
      if (!(error instanceof ChangedMeanwhile)) throw error;
      await sleep(Math.random() * Math.min(5 * tries, 50));
    }
  }
  throw new ServiceError("ThrottlingException", "The config is changed by many others at this moment. Try again.");
}

/** Whoever has read an older version begins anew. */
class ChangedMeanwhile extends Error {}

async function editsOf(call: Call, configId: string, decide: Decide): Promise<Edit[]> {
  const config = await loadConfig(call.sql, configId);
  if (!config) throw gone();
  const reader = new ConfigReader(call.services);
  const own = await reader.own(config);
  const beneath = await reader.beneath(config);
  const { own: next, promotions = [] } = await decide({ own, beneath, isBranch: !config.isRoot }, config);
  const edits: Edit[] = [{ config, before: own, next, changes: diffDocuments(own, next) }];
  if (promotions.length > 0) edits.push(await promote(call, reader, config, promotions));
  return edits.filter(({ changes }) => changes.length > 0);
}

async function promote(call: Call, reader: ConfigReader, branch: Config, promotions: readonly Promotion[]): Promise<Edit> {
  const config = await findRootConfig(call.sql, branch.projectId, branch.environment);
  if (!config) throw gone();
  const resource = configFound(call.services, config.projectId, config.name, config.environment);
  const refusal = call.may("rekey:SetConfigSecrets", resource);
  if (refusal) throw refusal;
  refuseUntrusted(call, config);
  const before = await reader.own(config);
  const next = applyPromotions(before, promotions);
  return { config, before, next, changes: diffDocuments(before, next) };
}

/** Checks what may be written, and seals it. */
export async function prepareEdit(call: Call, edit: Edit): Promise<SealedEdit> {
  const { config, next, before } = edit;
  await requireFree(call, edit);
  await authorizeReferences(call, edit);
  const references = referencesIn(config, next);
  if (references.length > maxReferred) throw tooMany(`The values of a config can refer to ${maxReferred} other configs.`);
  const known = new Set(referencesIn(config, before).map(keyOf));
  const { keys, envelope, region } = call.services;
  const key = await keys.resolve(undefined, region);
  const plaintext = new Plaintext(serialiseDocument(next));
  const document = await envelope.seal(plaintext, versionContext(config.id, config.version + 1), key.id);
  plaintext.reveal().fill(0);
  return { ...edit, document, references, added: references.filter((place) => !known.has(keyOf(place))) };
}

/** What rotated and dynamic secrets show is not hidden by what somebody writes. */
async function requireFree(call: Call, { config, changes, next }: Edit): Promise<void> {
  const written = changes.flatMap(({ name }) => (next.has(name) ? [name] : []));
  const mounted = await rotatedNames(call.sql, config.id);
  for (const name of written) {
    const rotated = rotatedSecretOf(name, mounted);
    if (rotated !== undefined)
      throw refused(`Secret ${name} is set by the rotated secret ${rotated} of config ${config.name}: choose another name.`);
  }
  for (const secret of await dynamicSecretsOf(call.sql, config.id)) {
    if (!written.some((name) => name.startsWith(`${secret.name}_`))) continue;
    const leased = await leaseNames(secret, call);
    const taken = written.find((name) => leased.includes(name));
    if (taken !== undefined)
      throw refused(`Secret ${taken} is set by the dynamic secret ${secret.name} of config ${config.name}: choose another name.`);
  }
}

/** Whoever makes a config show what another one has must be allowed to read it there, whether it is there or not. */
async function authorizeReferences(call: Call, { config, next, changes }: Edit): Promise<void> {
  const written = new Map(
    changes.flatMap(({ name }) => {
      const value = next.get(name);
      return value ? [[name, value] as const] : [];
    }),
  );
  await requireReferred(call, referencesIn(config, written));
}

/** @throws ServiceError AccessDeniedException unless the caller may read all of these configs' values from where it calls */
export async function requireReferred(call: Call, places: readonly ConfigPlace[]): Promise<void> {
  for (const { project: projectId, config: name } of places) {
    const there = await findConfig(call.sql, projectId, name);
    requireReading(call, there ?? { projectId, name });
    if (there) refuseUntrusted(call, there);
  }
}

/** The other configs that values of a config refer to. */
export function referencesIn(config: Config, document: ConfigDocument): ConfigPlace[] {
  const home = placeOf(config);
  const found = new Map<string, ConfigPlace>();
  for (const { value } of document.values()) for (const place of referredConfigs(value, home)) found.set(keyOf(place), place);
  return [...found.values()];
}

const keyOf = ({ project, config }: ConfigPlace): string => `${project}/${config}`;

export async function saveEdits(
  tx: Sql,
  call: Call,
  edits: readonly SealedEdit[],
  { configId, isRollback = false }: { readonly configId?: string; readonly isRollback?: boolean },
): Promise<{ raised: Set<string>; logId: string | undefined; names: string[] }> {
  const inOrder = edits.toSorted((one, other) => (one.config.id < other.config.id ? -1 : 1));
  const added = inOrder.flatMap((edit) => edit.added);
  // What is referred to is kept as it is until others can see that it is: else its change would not be seen here.
  if ((await referredIds(tx, added)).length < added.length) await lockConfigNames(tx);
  const ids = inOrder.map(({ config }) => config.id);
  await lockWithReaders(tx, ids, await referredIds(tx, added));

  for (const { config } of inOrder) await lockAsRead(tx, config, isRollback);
  const raised = new Set<string>();
  let logId: string | undefined;
  for (const edit of inOrder) {
    const told = await saveOne(tx, call, edit, isRollback);
    for (const id of told.raised) raised.add(id);
    if (edit.config.id === configId) logId = told.logId;
  }
  const names = new Set(inOrder.flatMap(({ changes }) => changes.map(({ name }) => name)));
  return { raised, logId, names: [...names] };
}

async function lockAsRead(tx: Sql, config: Config, isRollback: boolean): Promise<void> {
  const now = await lockConfig(tx, config.id);
  if (!now) throw gone();
  if (isRollback && now.locked) throw refused(`Config ${now.name} is locked: unlock it first.`);
  if (now.version !== config.version || now.name !== config.name) throw new ChangedMeanwhile();
}

async function saveOne(tx: Sql, call: Call, edit: SealedEdit, isRollback: boolean): Promise<{ raised: string[]; logId: string }> {
  const { config, document, references, changes } = edit;
  const number = config.version + 1;
  await addVersion(tx, { configId: config.id, number, createdAt: call.startedAt }, document);
  await replaceReferences(tx, config.id, references);
  return recordConfigChange(tx, {
    ...who(call),
    at: call.startedAt,
    config,
    arn: arnOf(call, config),
    text: `${isRollback ? "Rolled back" : "Changed"} config ${config.name}: ${inWords(changes)}`,
    names: changes.map(({ name }) => name),
    diff: namesDiff(changes),
    fromVersion: config.version,
    toVersion: number,
    isRollback,
  });
}

const namedChanges = 20;

function namesDiff(changes: readonly ConfigChange[]): NamesDiff {
  const kinds = Object.groupBy(changes, ({ added, removed }) =>
    removed === undefined ? "added" : added === undefined ? "removed" : "updated",
  );
  const names = (kind: keyof NamesDiff) => (kinds[kind] ?? []).map(({ name }) => name);
  return { added: names("added"), removed: names("removed"), updated: names("updated") };
}

/** `added A, changed B and C, removed D`. */
function inWords(changes: readonly ConfigChange[]): string {
  const diff = namesDiff(changes);
  const verbs = { added: "added", updated: "changed", removed: "removed" } as const;
  const parts = (["added", "updated", "removed"] as const).flatMap((kind) => {
    const names = diff[kind];
    if (names.length === 0) return [];
    const more = names.length > namedChanges ? ` and ${names.length - namedChanges} more` : "";
    return [`${verbs[kind]} ${names.slice(0, namedChanges).join(", ")}${more}`];
  });
  return parts.join("; ");
}

function gone(): ServiceError {
  return new ServiceError("ResourceNotFoundException", "Could not find the config: it was deleted meanwhile.");
}
