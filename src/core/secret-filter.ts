/** What filters look at. */
export interface FilteredSecret {
  readonly name: string;
  readonly description?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
  readonly primaryRegion?: string | undefined;
  readonly owningService?: string | undefined;
}

export const filterKeys = ["description", "name", "tag-key", "tag-value", "primary-region", "owning-service", "all"] as const;
export type FilterKey = (typeof filterKeys)[number];

export interface SecretFilter {
  readonly key: FilterKey;
  readonly values: readonly string[];
}

type Test = (secret: FilteredSecret) => boolean;

/**
 * Whether a secret passes all filters. Values of one filter are alternatives; a value that begins with `!` excludes, and all
 * that exclude must hold. Source: AWS API reference, ListSecrets and Filter; user guide, "Find secrets".
 */
export function compileFilters(filters: readonly SecretFilter[]): Test {
  const tests = filters.map(compileFilter);
  return (secret) => tests.every((test) => test(secret));
}

function compileFilter({ key, values }: SecretFilter): Test {
  const wanted = values.filter((value) => !value.startsWith("!")).map((value) => matcher(key, value));
  const unwanted = values.filter((value) => value.startsWith("!")).map((value) => matcher(key, value.slice(1)));
  return (secret) => (wanted.length === 0 || wanted.some((test) => test(secret))) && !unwanted.some((test) => test(secret));
}

function matcher(key: FilterKey, value: string): Test {
  switch (key) {
    case "name":
      return ({ name }) => name.startsWith(value);
    case "tag-key":
      return ({ tags }) => Object.keys(tags ?? {}).some((tag) => tag.startsWith(value));
    case "tag-value":
      return ({ tags }) => Object.values(tags ?? {}).some((tag) => tag.startsWith(value));
    case "primary-region":
      return ({ primaryRegion }) => primaryRegion?.startsWith(value) ?? false;
    case "owning-service":
      return ({ owningService }) => owningService?.toLowerCase().startsWith(value.toLowerCase()) ?? false;
    case "description":
      return wordTest(spacedWords(value), ({ description }) => (description === undefined ? [] : [spacedWords(description)]));
    case "all":
      return wordTest(splitWords(value), ({ name, description, tags }) =>
        [name, description ?? "", ...Object.entries(tags ?? {}).flat()].map(splitWords),
      );
  }
}

/** Every word asked for begins some word of one and the same field. */
function wordTest(asked: readonly string[], fields: (secret: FilteredSecret) => string[][]): Test {
  if (asked.length === 0) return () => false;
  return (secret) => fields(secret).some((words) => asked.every((word) => words.some((candidate) => candidate.startsWith(word))));
}

function spacedWords(text: string): string[] {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

/** Words end at every other sign, between letter and digit, and where capitals begin a word: `COMPANYthings` is `compan`, `ythings`. */
function splitWords(text: string): string[] {
  const words = text.match(/\p{Lu}+(?!\p{Ll})|\p{Lu}?[\p{Ll}\p{Lo}\p{Lm}\p{Lt}]+|\p{N}+/gu) ?? [];
  return words.map((word) => word.toLowerCase());
}
