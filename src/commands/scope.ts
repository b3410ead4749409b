import { type Flags, flagOf, variableOf } from "../config.ts";
import { CommandError } from "./command-error.ts";
import { findServer, type ServerScope, type Told } from "./known-servers.ts";
import { findScopeFile } from "./scope-file.ts";
import { readSettings } from "./settings-options.ts";

/** With which server, as whom and about which config a command speaks, as far as anything tells. */
export interface Scope extends ServerScope {
  readonly project?: Told;
  readonly config?: Told;
}

/** A server, who we are there, and the config that is meant; none for a token that has one config only. */
export interface ConfigConnection {
  readonly endpoint: string;
  readonly token: string;
  readonly project?: string;
  readonly config?: string;
}

type Name = keyof Scope;

/**
 * Each setting from the flag, else the variable, else what this folder or one above tells: the nearest login (for server and
 * token), `./.rekey/root-credentials.json`, the nearest `.rekey.yaml` (for project and config).
 */
export async function findScope(flags: Flags, directory: string = process.cwd()): Promise<Scope> {
  const given = readSettings("config", flags);
  const told = (name: Name): Told | undefined => {
    const value = given[name];
    return value === undefined ? undefined : { value, source: flags[name] === undefined ? variableOf(name) : flagOf(name) };
  };
  const [endpoint, token] = [told("endpoint"), told("token")];
  const server = findServer({ ...(endpoint && { endpoint }), ...(token && { token }) }, directory);
  const chosen = { project: told("project"), config: told("config") };
  const file = chosen.project && chosen.config ? undefined : await findScopeFile(directory);
  const fromFile = (name: "project" | "config"): Told | undefined => {
    const value = file?.[name];
    // The file's config belongs to its own project; a token of one config needs no file.
    if (value === undefined || (name === "config" && chosen.project !== undefined && chosen.project.value !== file?.project))
      return undefined;
    return isBound(server.token?.value) ? undefined : { value, source: file?.path ?? "" };
  };
  const project = chosen.project ?? fromFile("project");
  const config = chosen.config ?? fromFile("config");
  return { ...server, ...(project && { project }), ...(config && { config }) };
}

/** Whether a token opens one config only, which it names by itself. */
const isBound = (token: string | undefined): boolean => token?.startsWith("dp.st.") === true;

/** @throws CommandError for usage when it is not told which server, or as whom. */
export function connectionOf({ endpoint, token }: Scope): { readonly endpoint: string; readonly token: string } {
  if (!endpoint || !token)
    throw new CommandError(2, "it is not told which server, or as whom: run rekey login, or set REKEY_ENDPOINT and REKEY_TOKEN");
  return { endpoint: endpoint.value, token: token.value };
}

/** @throws CommandError for usage when it is not told which server, as whom, or which config. */
export async function configConnection(flags: Flags, needs: "server" | "project" | "config"): Promise<ConfigConnection> {
  const scope = await findScope(flags);
  const { project, config } = scope;
  const connection = connectionOf(scope);
  const bound = isBound(connection.token);
  if (needs !== "server" && !project && !bound)
    throw new CommandError(2, "it is not told which project: run rekey setup here, or give --project");
  if (needs === "config" && !config && !bound)
    throw new CommandError(2, "it is not told which config: run rekey setup here, or give --config");
  return {
    ...connection,
    ...(needs !== "server" && project && { project: project.value }),
    ...(needs === "config" && config && { config: config.value }),
  };
}
