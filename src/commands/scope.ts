import { resolve } from "node:path";
import { type Flags, flagOf, variableOf } from "../config.ts";
import { localCredentials, readCredentials, warnOfLooseMode } from "./api-client.ts";
import { CommandError } from "./command-error.ts";
import { type Login, loginsFor } from "./login-store.ts";
import { findScopeFile } from "./scope-file.ts";
import { readSettings } from "./settings-options.ts";

/** A setting's value, and who said so in words. */
export interface Told {
  readonly value: string;
  readonly source: string;
}

/** With which server, as whom and about which config a command speaks, as far as anything tells. */
export interface Scope {
  readonly endpoint?: Told;
  readonly token?: Told;
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
  const server = withServer(told("endpoint"), told("token"), directory);
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

/**
 * A token goes only to the server that it was made for: a login is taken when its endpoint is the one that was asked for.
 */
function withServer(endpoint: Told | undefined, token: Told | undefined, directory: string): Scope {
  if (endpoint && token) return { endpoint, token };
  const known = knownServers(directory);
  const found = endpoint ? known.find((server) => server.endpoint === endpoint.value) : known[0];
  // The file of a server's first start tells where it listened then; it may be reached under another name now.
  const late = found ?? known.find(({ source }) => source === localCredentials);
  if (!late) return { ...(endpoint && { endpoint }), ...(token && { token }) };
  return {
    endpoint: endpoint ?? { value: late.endpoint, source: late.source },
    token: token ?? { value: late.token, source: late.source },
  };
}

/** The nearest first; the file of a server that was started here lies nearer than a login for folders above. */
function knownServers(directory: string): { endpoint: string; token: string; source: string }[] {
  const from = (login: Login) => ({ ...login, source: `login for ${login.scope}` });
  const logins = loginsFor(directory);
  const here = logins.filter(({ scope }) => scope === directory);
  const { endpoint, token } = readCredentials(resolve(directory, localCredentials)) ?? {};
  const local = endpoint === undefined || token === undefined ? [] : [{ endpoint, token, source: localCredentials }];
  if (local.length > 0) warnOfLooseMode(localCredentials);
  return [...here.map(from), ...local, ...logins.filter((login) => !here.includes(login)).map(from)];
}

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
