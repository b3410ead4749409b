/** What shall become of names that are there already, and of which secrets. */
export interface EnvironmentRules {
  /** Values of these names that are there already win; `all`: of every name. */
  readonly preserve?: readonly string[] | "all";
  /** Reserved names that a secret may nevertheless replace. */
  readonly overwrite?: readonly string[];
}

/** A child's environment, and the reserved names that secrets were not put under. */
export interface ChildEnvironment {
  readonly env: Readonly<Record<string, string>>;
  readonly reserved: readonly string[];
}

/** A secret under one of these would decide which program runs, as whom, or what it loads. */
const reservedNames = new Set([
  "PATH",
  "HOME",
  "PS1",
  "IFS",
  "PWD",
  "SHELL",
  "TERM",
  "BASH_ENV",
  "LD_PRELOAD",
  "LD_LIBRARY_PATH",
  "LD_AUDIT",
  "DYLD_INSERT_LIBRARIES",
  "DYLD_LIBRARY_PATH",
]);

/** Secrets over what is there; the place of a config is told under Rekey's own names too. */
export function childEnvironment(
  inherited: NodeJS.ProcessEnv,
  secrets: ReadonlyMap<string, string>,
  { preserve = [], overwrite = [] }: EnvironmentRules,
): ChildEnvironment {
  const isKept = (name: string): boolean => inherited[name] !== undefined && (preserve === "all" || preserve.includes(name));
  const isReserved = (name: string): boolean => reservedNames.has(name) && !overwrite.includes(name);
  const given = new Map([...secrets].flatMap(([name, value]) => [[name, value] as const, ...ownNames(name, value)]));
  const put = [...given].filter(([name]) => !isReserved(name) && !isKept(name));
  return {
    env: { ...withoutAbsent(inherited), ...Object.fromEntries(put) },
    reserved: [...given.keys()].filter((name) => isReserved(name) && !isKept(name)),
  };
}

function ownNames(name: string, value: string): [string, string][] {
  const [, place] = /^DOPPLER_(PROJECT|ENVIRONMENT|CONFIG)$/.exec(name) ?? [];
  return place === undefined ? [] : [[`REKEY_${place}`, value]];
}

const withoutAbsent = (env: NodeJS.ProcessEnv): Record<string, string> =>
  Object.fromEntries(Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));

/** Names whose values an environment cannot hold: it ends at the first NUL. */
export function namesWithNul(secrets: ReadonlyMap<string, string>): string[] {
  return [...secrets].filter(([, value]) => value.includes("\0")).map(([name]) => name);
}
