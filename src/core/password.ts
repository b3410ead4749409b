import { ServiceError } from "./error.ts";

/** A whole number in `[0, maxExclusive)`, each as likely as the others; `randomInt` of `node:crypto` is one. */
export type RandomInt = (maxExclusive: number) => number;

/** What a password is made of; absent members are as in AWS: 32 characters, one at least of each of the four classes, no space. */
export interface PasswordOptions {
  /** 1-4096 characters. */
  readonly length?: number | undefined;
  /** Every character of the text is left out. */
  readonly excludeCharacters?: string | undefined;
  readonly excludeLowercase?: boolean | undefined;
  readonly excludeUppercase?: boolean | undefined;
  readonly excludeNumbers?: boolean | undefined;
  readonly excludePunctuation?: boolean | undefined;
  /** Allows the space, but never requires it. */
  readonly includeSpace?: boolean | undefined;
  readonly requireEachIncludedType?: boolean | undefined;
  /** Where letters are allowed at all: commands read a leading hyphen as an option, and some servers want a letter there. */
  readonly beginWithLetter?: boolean | undefined;
}

const defaultLength = 32;
const classes = [
  ["excludeLowercase", "abcdefghijklmnopqrstuvwxyz"],
  ["excludeUppercase", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"],
  ["excludeNumbers", "0123456789"],
  ["excludePunctuation", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"],
] as const;

/**
 * For new credentials: unless told otherwise as AWS's own rotation functions ask for them, without characters that break
 * connection strings. A class of characters that is excluded as a whole is not required.
 */
export function rotationPasswordOptions(asked: { readonly length?: number; readonly exclude?: string } = {}): PasswordOptions {
  const excludeCharacters = asked.exclude ?? "/@\"'\\";
  const gone = classes.flatMap(([exclude, characters]) =>
    [...characters].every((character) => excludeCharacters.includes(character)) ? [[exclude, true]] : [],
  );
  return { length: asked.length ?? defaultLength, excludeCharacters, beginWithLetter: true, ...Object.fromEntries(gone) };
}

/**
 * A password by AWS's rules; the places of the required characters are drawn as evenly as the characters themselves.
 * @throws ServiceError InvalidParameterException when the options leave nothing to choose from or are too short for the required classes.
 * Source: AWS Secrets Manager API reference, GetRandomPassword.
 */
export function generatePassword(options: PasswordOptions, randomInt: RandomInt): string {
  const length = options.length ?? defaultLength;
  const excluded = new Set(options.excludeCharacters);
  const allowed = classes.filter(([exclude]) => !options[exclude]).map(([, characters]) => without(characters, excluded));
  const required = (options.requireEachIncludedType ?? true) ? allowed : [];
  const all = [...allowed.flat(), ...(options.includeSpace ? without(" ", excluded) : [])];
  if (length < required.length) throw refused("Password length is too short based on the required types.");
  if (all.length === 0 && required.length === 0) {
    throw refused("All characters have been excluded from selection.");
  }
  if (required.some((characters) => characters.length === 0)) {
    throw refused("All characters of the desired type have been excluded.");
  }
  const password = required.map((characters) => pick(characters, randomInt));
  while (password.length < length) password.push(pick(all, randomInt));
  const shuffled = shuffle(password, randomInt);
  return (options.beginWithLetter ? letterFirst(shuffled, randomInt) : shuffled).join("");
}

/** One of the letters, whichever it is, changes places with the first character. */
function letterFirst(items: string[], randomInt: RandomInt): string[] {
  const letters = items.flatMap((character, index) => (/[a-z]/i.test(character) ? [index] : []));
  const chosen = letters[letters.length === 0 ? 0 : randomInt(letters.length)];
  if (chosen !== undefined) [items[0], items[chosen]] = [items[chosen] ?? "", items[0] ?? ""];
  return items;
}

function without(characters: string, excluded: ReadonlySet<string>): string[] {
  return [...characters].filter((character) => !excluded.has(character));
}

function pick(characters: readonly string[], randomInt: RandomInt): string {
  return characters[randomInt(characters.length)] ?? "";
}

/** Fisher and Yates's shuffle: every order is equally likely. */
function shuffle(items: string[], randomInt: RandomInt): string[] {
  for (let last = items.length - 1; last > 0; last--) {
    const chosen = randomInt(last + 1);
    [items[last], items[chosen]] = [items[chosen] ?? "", items[last] ?? ""];
  }
  return items;
}

function refused(message: string): ServiceError {
  return new ServiceError("InvalidParameterException", message);
}
