import { type ConfigDocument, type ConfigValue, checkDocument, checkValue, type Visibility } from "./config-document.ts";
import { checkSecretName } from "./config-names.ts";
import type { ValueType } from "./config-value-types.ts";
import { ServiceError } from "./error.ts";

const maxChanges = 2400;

/** One wish about a secret. `null` means absent. Source: Doppler API reference, "Update secrets", change_requests. */
export interface ChangeRequest {
  readonly name: string;
  /** The name that the secret has: another one than `name` renames; the same says that it must be there. */
  readonly originalName?: string | null | undefined;
  /** Absent keeps the value. */
  readonly value?: string | null | undefined;
  /** What the asker saw before: the change is refused when it is not so any more. */
  readonly originalValue?: string | null | undefined;
  readonly originalVisibility?: Visibility | null | undefined;
  readonly originalValueType?: ValueType | null | undefined;
  readonly visibility?: Visibility | null | undefined;
  readonly valueType?: ValueType | null | undefined;
  readonly shouldDelete?: boolean | null | undefined;
  /** Of branch configs: the change is made in the root too. */
  readonly shouldPromote?: boolean | null | undefined;
  /** Of branch configs: the own value goes, so that the root's shows. */
  readonly shouldConverge?: boolean | null | undefined;
}

/** What is to be done to the root config besides: `value` absent removes the name. Names are in the order to apply them. */
export interface Promotion {
  readonly name: string;
  readonly value?: ConfigValue;
}

/** The config that is written. `beneath`: what would show of its root and parents where it has no value of its own. */
export interface WrittenConfig {
  readonly own: ConfigDocument;
  readonly beneath: ConfigDocument;
  readonly isBranch: boolean;
}

/**
 * Sets values by name; `null` removes. Visibility and type stay what they were. Removing a name that is not there does nothing.
 * @throws ServiceError ValidationException, LimitExceededException
 */
export function applySecrets(
  { own, beneath }: Omit<WrittenConfig, "isBranch">,
  secrets: ReadonlyMap<string, string | null>,
): Map<string, ConfigValue> {
  const after = new Map(own);
  for (const [name, value] of secrets) {
    if (value === null) {
      after.delete(name);
      continue;
    }
    const next = { ...(own.get(name) ?? beneath.get(name)), value };
    checkValue(name, next);
    after.set(name, next);
  }
  checkDocument(after);
  return after;
}

/**
 * Makes all changes or none. They are judged against the document as it is, not one after another: two secrets may swap names.
 * @throws ServiceError PreconditionNotMetException naming the secret when a guard (`original…`) does not hold,
 * ResourceExistsException when a new name is taken, ValidationException, LimitExceededException
 */
export function applyChangeRequests(
  config: WrittenConfig,
  requests: readonly ChangeRequest[],
): { own: Map<string, ConfigValue>; promotions: Promotion[] } {
  if (requests.length > maxChanges)
    throw new ServiceError("LimitExceededException", `A request can't hold more than ${maxChanges} changes.`);
  checkNamedOnce(requests);
  const outcomes = requests.map((request) => outcomeOf(config, request));
  const own = new Map(config.own);
  for (const { removed } of outcomes) for (const name of removed) own.delete(name);
  for (const { name, value, renamed } of outcomes) {
    if (!value) continue;
    if (renamed && own.has(name)) throw new ServiceError("ResourceExistsException", `A secret named ${name} exists already.`);
    own.set(name, value);
  }
  checkDocument(own);
  return { own, promotions: promotionsOf(outcomes) };
}

/** The root config's document with what a branch promoted. @throws ServiceError LimitExceededException */
export function applyPromotions(root: ConfigDocument, promotions: readonly Promotion[]): Map<string, ConfigValue> {
  const after = new Map(root);
  for (const { name, value } of promotions) {
    if (value) after.set(name, value);
    else after.delete(name);
  }
  checkDocument(after);
  return after;
}

interface Outcome {
  readonly name: string;
  readonly removed: readonly string[];
  readonly value?: ConfigValue;
  readonly renamed: boolean;
  readonly promoted: boolean;
}

function promotionsOf(outcomes: readonly Outcome[]): Promotion[] {
  const promoted = outcomes.filter((outcome) => outcome.promoted);
  return [
    ...promoted.flatMap(({ removed }) => removed.map((name) => ({ name }))),
    ...promoted.flatMap(({ name, value }) => (value ? [{ name, value }] : [])),
  ];
}

function outcomeOf(config: WrittenConfig, request: ChangeRequest): Outcome {
  const { name, originalName } = request;
  const before = originalName ?? name;
  const shown = config.own.get(before) ?? config.beneath.get(before);
  checkGuards(request, before, shown);
  checkBranchWishes(config, request, before);
  const renamed = before !== name;
  const promoted = request.shouldPromote === true;
  if (request.shouldDelete || request.shouldConverge) return { name, removed: [before], renamed: false, promoted };
  if (renamed && !config.own.has(before))
    throw new ServiceError("ValidationException", `Secret ${before} comes from another config: rename it there.`);
  checkSecretName(name);
  const value = newValue(request, shown);
  // What comes from elsewhere and stays as it is gets no copy of its own.
  if (value === shown && !config.own.has(before)) return { name, removed: [], renamed, promoted };
  return { name, removed: renamed ? [before] : [], value, renamed, promoted };
}

function newValue({ name, value, visibility, valueType }: ChangeRequest, shown: ConfigValue | undefined): ConfigValue {
  const text = value ?? shown?.value;
  if (text === undefined) throw new ServiceError("ValidationException", `Secret ${name} is new: give its value.`);
  const [nextVisibility, nextType] = [visibility ?? shown?.visibility ?? "masked", valueType ?? shown?.type ?? "string"];
  const unchanged = text === shown?.value && nextVisibility === visibilityOf(shown) && nextType === typeOf(shown);
  if (shown && unchanged) return shown;
  const next: ConfigValue = {
    value: text,
    ...(nextVisibility !== "masked" && { visibility: nextVisibility }),
    ...(nextType !== "string" && { type: nextType }),
  };
  checkValue(name, next);
  return next;
}

const visibilityOf = (value: ConfigValue): Visibility => value.visibility ?? "masked";
const typeOf = (value: ConfigValue): ValueType => value.type ?? "string";

/** What the asker says to have seen must be so; a name said to be there must be there. */
function checkGuards(request: ChangeRequest, before: string, shown: ConfigValue | undefined): void {
  const { originalName, originalValue, originalVisibility, originalValueType } = request;
  const guards: [what: string, said: string | null | undefined, is: string | undefined][] = [
    ["name", originalName, shown && before],
    ["value", originalValue, shown?.value],
    ["visibility", originalVisibility, shown && visibilityOf(shown)],
    ["value type", originalValueType, shown && typeOf(shown)],
  ];
  for (const [what, said, is] of guards) {
    if (said === null || said === undefined || said === is) continue;
    const why = is === undefined ? "it does not exist" : `its ${what} is not what the request says it was`;
    throw new ServiceError(
      "PreconditionNotMetException",
      `Secret ${before} was not changed, nor any other: ${why}. Read it again.`,
    );
  }
}

function checkBranchWishes(
  { isBranch, beneath }: WrittenConfig,
  { shouldPromote, shouldConverge, name }: ChangeRequest,
  before: string,
): void {
  if (!shouldPromote && !shouldConverge) return;
  if (!isBranch)
    throw new ServiceError(
      "ValidationException",
      `Secret ${name} can't be promoted or converged: only branch configs have a root to do so with.`,
    );
  if (shouldPromote && shouldConverge)
    throw new ServiceError("ValidationException", `Secret ${name} can be promoted or converged, not both.`);
  if (shouldConverge && !beneath.has(before))
    throw new ServiceError(
      "ValidationException",
      `Secret ${name} can't be converged: nothing of that name is beneath it. Delete it instead.`,
    );
}

/** Each secret, by its old name and by its new one, may be the matter of one change only. */
function checkNamedOnce(requests: readonly ChangeRequest[]): void {
  const [sources, goals] = [new Set<string>(), new Set<string>()];
  for (const { name, originalName } of requests) {
    const source = originalName ?? name;
    if (goals.has(name) || sources.has(source))
      throw new ServiceError(
        "ValidationException",
        `Secret ${goals.has(name) ? name : source} is named by more than one change.`,
      );
    sources.add(source);
    goals.add(name);
  }
}
