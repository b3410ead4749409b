import { ServiceError } from "./error.ts";

const title = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1).toLowerCase();
const pascal = (name: string): string => name.split("_").map(title).join("");
const camel = (name: string): string => {
  const [first = "", ...others] = name.split("_").filter((word) => word !== "");
  return first.toLowerCase() + others.map(title).join("");
};
const sections = (name: string, separator: string): string => name.split("__").map(pascal).filter(Boolean).join(separator);

/** What each name transformer makes of a name like `API_KEY__HOST`. Source: Doppler API reference, "Download", name_transformer. */
const transformers = {
  camel,
  "upper-camel": pascal,
  "lower-snake": (name: string) => name.toLowerCase(),
  "lower-kebab": (name: string) => name.toLowerCase().replaceAll("_", "-"),
  "tf-var": (name: string) => `TF_VAR_${name.toLowerCase()}`,
  dotnet: (name: string) => sections(name, ":"),
  "dotnet-env": (name: string) => sections(name, "__"),
} as const;

export type NameTransformer = keyof typeof transformers;

export const nameTransformers = Object.keys(transformers) as [NameTransformer, ...NameTransformer[]];

/**
 * What each name becomes; one of which nothing would be left (`_`) stays as it is.
 * @throws ServiceError ValidationException naming both names when two would become one.
 */
export function transformNames(names: Iterable<string>, transformer: NameTransformer | undefined): Map<string, string> {
  const transformed = new Map<string, string>();
  const takenBy = new Map<string, string>();
  for (const name of names) {
    const after = (transformer && transformers[transformer](name)) || name;
    const other = takenBy.get(after);
    if (other !== undefined)
      throw new ServiceError(
        "ValidationException",
        `Name transformer ${transformer} makes ${after} of both ${other} and ${name}: rename one of them, or name the secrets to download.`,
      );
    takenBy.set(after, name);
    transformed.set(name, after);
  }
  return transformed;
}
