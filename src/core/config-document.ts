import { checkSecretName, configLimits } from "./config-names.ts";
import { checkValueType, type ValueType } from "./config-value-types.ts";
import { ServiceError } from "./error.ts";

export const visibilities = ["masked", "unmasked", "restricted"] as const;
export type Visibility = (typeof visibilities)[number];

/** One secret's own value. Absent: masked; of type string. */
export interface ConfigValue {
  readonly value: string;
  readonly visibility?: Exclude<Visibility, "masked">;
  readonly type?: Exclude<ValueType, "string">;
}

/** A config's own secrets by name: what one version of it holds. */
export type ConfigDocument = ReadonlyMap<string, ConfigValue>;

/** The text that is sealed: one JSON object, sorted by name, so that equal documents are equal texts. */
export function serialiseDocument(document: ConfigDocument): string {
  const members = [...document].sort(([one], [other]) => (one < other ? -1 : 1));
  return `{${members.map(([name, { value, visibility, type }]) => `${JSON.stringify(name)}:${JSON.stringify({ value, visibility, type })}`).join(",")}}`;
}

/** What `serialiseDocument` wrote. */
export function parseConfigDocument(text: string): Map<string, ConfigValue> {
  return new Map(Object.entries(JSON.parse(text) as Record<string, ConfigValue>));
}

/** Later documents win: what a config shows of its parents, its root, and its own. */
export function overlay(...documents: readonly ConfigDocument[]): Map<string, ConfigValue> {
  return new Map(documents.flatMap((document) => [...document]));
}

/** @throws ServiceError ValidationException naming the secret for a value that can't be kept; LimitExceededException for one too long */
export function checkValue(name: string, { value, type }: ConfigValue): void {
  checkSecretName(name);
  if (!value.isWellFormed())
    throw new ServiceError("ValidationException", `The value of ${name} is not well-formed Unicode text.`);
  if (value.includes("\0"))
    throw new ServiceError(
      "ValidationException",
      `The value of ${name} holds a NUL, which no environment variable can: encode it, as in Base64.`,
    );
  if (Buffer.byteLength(value) > configLimits.valueBytes)
    throw new ServiceError(
      "LimitExceededException",
      `The value of ${name} is longer than ${configLimits.valueBytes / 1024} KiB.`,
    );
  if (type) checkValueType(name, value, type);
}

/** @throws ServiceError LimitExceededException when a config would hold more than it may; naming the bound */
export function checkDocument(document: ConfigDocument): void {
  if (document.size > configLimits.secrets)
    throw new ServiceError(
      "LimitExceededException",
      `A config can't have more than ${configLimits.secrets} secrets; this one would have ${document.size}.`,
    );
  let bytes = 0;
  for (const [name, { value }] of document) bytes += name.length + Buffer.byteLength(value);
  if (bytes > configLimits.configBytes)
    throw new ServiceError(
      "LimitExceededException",
      `The names and values of a config can't be longer than ${configLimits.configBytes / 1024} KiB together.`,
    );
}

/** One secret that differs between two documents. `undefined`: it was not there before, or is gone. */
export interface ConfigChange {
  readonly name: string;
  readonly added?: string;
  readonly removed?: string;
  /** Whether its value is, or was, for machines only. */
  readonly restricted: boolean;
}

/** Sorted by name. One whose visibility or type alone changed is there with the same value on both sides. */
export function diffDocuments(before: ConfigDocument, after: ConfigDocument): ConfigChange[] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names.flatMap((name): ConfigChange[] => {
    const [was, is] = [before.get(name), after.get(name)];
    if (was?.value === is?.value && was?.visibility === is?.visibility && was?.type === is?.type) return [];
    const restricted = was?.visibility === "restricted" || is?.visibility === "restricted";
    return [{ name, ...(is && { added: is.value }), ...(was && { removed: was.value }), restricted }];
  });
}
