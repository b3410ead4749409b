import { ServiceError } from "./error.ts";

/** Bounds of one config. Bytes are of UTF-8; a config's are those of all its own names and values. */
export const configLimits = { secrets: 1200, configBytes: 500 * 1024, valueBytes: 50 * 1024 } as const;

const maxSecretNameLength = 200;
const maxProjectLength = 64;
const maxConfigLength = 60;
const maxTitleLength = 100;
const maxTextLength = 2000;

/** Names that downloads fill in themselves: where the values come from. Nobody writes them. */
const managedNames: ReadonlySet<string> = new Set(
  ["PROJECT", "ENVIRONMENT", "CONFIG"].flatMap((what) => [`DOPPLER_${what}`, `REKEY_${what}`]),
);

export function isManagedName(name: string): boolean {
  return managedNames.has(name);
}

const secretName = /^[A-Z_][A-Z0-9_]*$/;

/** Whether a text could name a secret of a config: `[A-Z_][A-Z0-9_]*`, up to 200 characters. */
export function isSecretName(name: string): boolean {
  return name.length <= maxSecretNameLength && secretName.test(name);
}

/** @throws ServiceError ValidationException unless a secret of a config may bear the name; managed names are none. */
export function checkSecretName(name: string): void {
  if (name === "") throw invalid("A secret name can't be empty.");
  if (name.length > maxSecretNameLength)
    throw invalid(`Secret name "${shown(name)}" is longer than ${maxSecretNameLength} characters.`);
  if (!/^[A-Z0-9_]+$/.test(name))
    throw invalid(`Secret name "${shown(name)}" may only contain uppercase letters, numbers, and underscores.`);
  if (/^[0-9]/.test(name)) throw invalid(`Secret name "${name}" may not start with a number.`);
  if (isManagedName(name)) throw invalid(`Secret name "${name}" is set by Rekey itself: choose another one.`);
}

/** A project's id and name: what stands in URLs and ARNs. @throws ServiceError ValidationException */
export function checkProjectName(name: string): void {
  checkSlug(
    "Project name",
    name,
    /^[a-z0-9][a-z0-9._-]*$/,
    "lowercase letters, numbers, hyphens, underscores, and periods",
    maxProjectLength,
  );
}

/** An environment's slug is its root config's name too. @throws ServiceError ValidationException */
export function checkEnvironmentSlug(slug: string): void {
  checkSlug("Environment slug", slug, configName, configCharacters, maxConfigLength);
}

/** A branch config is named `<environment>_<suffix>`; the root bears the environment's slug. @throws ServiceError ValidationException */
export function checkBranchName(name: string, environment: string): void {
  checkSlug("Config name", name, configName, configCharacters, maxConfigLength);
  if (!name.startsWith(`${environment}_`) || name.length === environment.length + 1)
    throw invalid(`Config name "${name}" must start with "${environment}_" and go on, as its environment is ${environment}.`);
}

/** A branch's name after its environment's slug became another one. @throws ServiceError ValidationException when it gets too long */
export function renamedBranch(name: string, before: string, after: string): string {
  const renamed = `${after}${name.slice(before.length)}`;
  checkBranchName(renamed, after);
  return renamed;
}

/** What people read: an environment's name, a token's name. `field` is named in the refusal. @throws ServiceError ValidationException */
export function checkTitle(field: string, title: string): void {
  if (title.trim() === "") throw invalid(`${field} can't be empty.`);
  if (title.length > maxTitleLength) throw invalid(`${field} can't be longer than ${maxTitleLength} characters.`);
  if (!title.isWellFormed() || /\p{Cc}/u.test(title)) throw invalid(`${field} can't contain control characters.`);
}

/** Longer texts for people: descriptions and notes; line breaks and tabs may stand in them. @throws ServiceError ValidationException */
export function checkText(field: string, text: string): void {
  if (text.length > maxTextLength) throw invalid(`${field} can't be longer than ${maxTextLength} characters.`);
  if (!text.isWellFormed() || /[^\P{Cc}\n\r\t]/u.test(text))
    throw invalid(`${field} can't contain control characters other than line breaks and tabs.`);
}

const configName = /^[a-z0-9][a-z0-9_-]*$/;
const configCharacters = "lowercase letters, numbers, hyphens, and underscores";

function checkSlug(field: string, slug: string, rule: RegExp, characters: string, maxLength: number): void {
  if (slug === "") throw invalid(`${field} can't be empty.`);
  if (slug.length > maxLength) throw invalid(`${field} "${shown(slug)}" is longer than ${maxLength} characters.`);
  if (!rule.test(slug))
    throw invalid(`${field} "${shown(slug)}" may only contain ${characters}, and must start with a letter or a number.`);
}

/** Enough of a refused name to know it again, on one line. */
function shown(name: string): string {
  const cut = name.length > 100 ? `${name.slice(0, 100)}…` : name;
  return cut.toWellFormed().replace(/\p{Cc}/gu, "?");
}

function invalid(message: string): ServiceError {
  return new ServiceError("ValidationException", message);
}
