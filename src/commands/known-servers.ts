import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { CommandError } from "./command-error.ts";
import { type Login, loginsFor } from "./login-store.ts";
import { readPrivateFile } from "./private-file.ts";

/** A setting's value, and who said so in words. */
export interface Told {
  readonly value: string;
  readonly source: string;
}

/** With which server a command speaks, and as whom. */
export interface ServerScope {
  readonly endpoint?: Told;
  readonly token?: Told;
}

/** Where a server's first start leaves the root user's credentials, seen from where it was started. */
export const localCredentials = "./.rekey/root-credentials.json";

/**
 * What was told, completed by what this folder knows: a login for it, `./.rekey/root-credentials.json`, a login for a folder
 * above. A token goes only to the server that it was made for: a login is taken when its endpoint is the one that was asked for.
 * @throws CommandError when credentials are not safe or damaged.
 */
export function findServer({ endpoint, token }: ServerScope, directory: string): ServerScope {
  if (endpoint && token) return { endpoint, token };
  const known = knownServers(directory);
  const found = endpoint ? known.find((server) => server.endpoint === endpoint.value) : known[0];
  // The file of a server's first start tells where it listened then; it may be reached under another name now.
  const late = found ?? known.find(({ source }) => source === localCredentials);
  if (!late) return { ...(endpoint && { endpoint }), ...(token && { token }) };
  return {
    endpoint: endpoint ?? { value: trusted(late), source: late.source },
    token: token ?? { value: late.token, source: late.source },
  };
}

/** The nearest first; the file of a server that was started here lies nearer than a login for folders above. */
function knownServers(directory: string): { endpoint: string; token: string; source: string }[] {
  const from = (login: Login) => ({ ...login, source: `login for ${login.scope}` });
  const logins = loginsFor(directory);
  const here = logins.filter(({ scope }) => scope === directory);
  const { endpoint, token } = ownCredentials(resolve(directory, localCredentials)) ?? {};
  const local = endpoint === undefined || token === undefined ? [] : [{ endpoint, token, source: localCredentials }];
  return [...here.map(from), ...local, ...logins.filter((login) => !here.includes(login)).map(from)];
}

/**
 * A folder may come from anybody, by archive or repository. What it names as a server can be trusted only on this machine: else
 * whoever made it would be sent our token, or be believed what our programs are given. @throws CommandError for usage
 */
function trusted({ endpoint, source }: { readonly endpoint: string; readonly source: string }): string {
  const host = URL.canParse(endpoint) ? new URL(endpoint).hostname : "";
  if (source !== localCredentials || /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(host)) return endpoint;
  throw new CommandError(
    2,
    `${localCredentials} names a server on another machine, which no folder may choose: set REKEY_ENDPOINT`,
  );
}

interface Credentials {
  readonly endpoint?: string;
  readonly token?: string;
}

/** As `readCredentials`, of a file that only this user may read: git, for one, makes no such file. */
function ownCredentials(path: string): Credentials | undefined {
  return readPrivateFile(path) === undefined ? undefined : readCredentials(path);
}

/** What `root-credentials.json` tells; undefined when there is none. @throws CommandError for usage when it cannot be read. */
export function readCredentials(path: string): Credentials | undefined {
  try {
    const read: unknown = JSON.parse(readFileSync(path, "utf8"));
    return typeof read === "object" && read !== null ? read : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) throw new CommandError(2, `${path} is damaged: set REKEY_ENDPOINT and REKEY_TOKEN`);
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new CommandError(2, `${path} cannot be read: set REKEY_ENDPOINT and REKEY_TOKEN`, { cause: error });
  }
}
