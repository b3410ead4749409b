import { isSecretName } from "./config-names.ts";

/** Where a secret of a config is. */
export interface ConfigPlace {
  readonly project: string;
  readonly config: string;
}

/** One `${NAME}`, `${config.NAME}` or `${project.config.NAME}` of a value; absent parts are those of where the value stands. */
export interface Reference {
  /** As it is written, `${` and `}` included. */
  readonly text: string;
  readonly project?: string;
  readonly config?: string;
  readonly name: string;
}

const written = /\$\{([A-Za-z0-9._-]{1,400})\}/g;
const place = /^[a-z0-9][a-z0-9._-]*$/;

/** The references in a value, in order. What only looks like one (`${lower}`, `${A:-b}`, `$NAME`) is text. */
export function findReferences(value: string): Reference[] {
  if (!value.includes("${")) return [];
  return [...value.matchAll(written)].flatMap(([text, inside]) => parseReference(text, inside ?? "") ?? []);
}

/** Read from the end: a project's name may contain periods, a config's and a secret's can't. */
function parseReference(text: string, inside: string): Reference | undefined {
  const parts = inside.split(".");
  const name = parts.pop() ?? "";
  if (!isSecretName(name)) return undefined;
  const config = parts.pop();
  if (config === undefined) return { text, name };
  if (!place.test(config)) return undefined;
  if (parts.length === 0) return { text, config, name };
  const project = parts.join(".");
  return place.test(project) ? { text, project, config, name } : undefined;
}

/** The other configs that a value refers to, each once, whether they exist or not. `home` is where the value stands. */
export function referredConfigs(value: string, home: ConfigPlace): ConfigPlace[] {
  const found = new Map<string, ConfigPlace>();
  for (const { project = home.project, config = home.config } of findReferences(value))
    if (project !== home.project || config !== home.config) found.set(`${project}/${config}`, { project, config });
  return [...found.values()];
}
