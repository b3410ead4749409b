import { setTimeout as sleep } from "node:timers/promises";
import { CommandError, isUnreachable } from "./command-error.ts";
import type { Answer } from "./output.ts";
import type { ConfigConnection } from "./scope.ts";

/** Without a token: as anybody. */
type Asker = Omit<ConfigConnection, "token"> & { readonly token?: string };

/** The server's own refusal, in its words. */
export class ConfigApiRefusal extends CommandError {
  readonly status: number;

  constructor(status: number, messages: readonly string[]) {
    super(1, `${messages.join("\n")}${advice[status] ?? ""}`);
    this.status = status;
  }
}

/** What to do about a refusal that the server's own sentence does not tell. */
const advice: Readonly<Record<number, string>> = {
  401: "\nrun rekey login, or check REKEY_TOKEN",
  429: "\nwait a little and try again",
};

/** One request of the config API; ids of project and config are added to its query. */
export interface Asked {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE";
  /** What is undefined is left out. */
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
  /** Default 60 s. */
  readonly waitMs?: number;
  /** Also ends the wait. */
  readonly signal?: AbortSignal;
}

const maxTries = 4;

/** The answer of `path` below `/v3/`. @throws CommandError when refused (1, ConfigApiRefusal) or when nobody answers (3). */
export async function askConfigApi(connection: Asker, path: string, asked: Asked = {}): Promise<Answer> {
  const { response, text } = await askText(connection, path, asked);
  const answer = jsonOf(text);
  if (answer) return answer;
  throw notRekey(connection, response);
}

/** As `askConfigApi`, with the answer as it came. A throttled call is made again a few times; 304 is no refusal. */
export async function askText(connection: Asker, path: string, asked: Asked = {}): Promise<{ response: Response; text: string }> {
  for (let tries = 1; ; tries++) {
    const response = await requestConfigApi(connection, path, asked);
    const text = await bodyOf(response, connection);
    if (response.ok || response.status === 304) return { response, text };
    if (response.status !== 429 || tries === maxTries) throw refusalOf(connection, response, text);
    await sleep(200 * 2 ** tries);
  }
}

/** Sends a request and gives the answer, whatever its status, with its body unread. @throws CommandError (3) when there is none. */
export async function requestConfigApi(connection: Asker, path: string, asked: Asked): Promise<Response> {
  const { endpoint, token, project, config } = connection;
  const { method = "GET", query = {}, body, headers, waitMs = 60_000, signal } = asked;
  const url = new URL(`/v3/${path}`, endpoint);
  for (const [name, value] of Object.entries({ project, config, ...query }))
    if (value !== undefined) url.searchParams.set(name, String(value));
  const limit = AbortSignal.timeout(waitMs);
  try {
    return await fetch(url, {
      method,
      headers: {
        ...(token && { authorization: `Bearer ${token}` }),
        accept: "application/json",
        ...(body && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body && { body: JSON.stringify(body) }),
      redirect: "error",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (error) {
    throw unanswered(error, endpoint, waitMs);
  }
}

/** What a request without an answer means to whoever asked. */
export function unanswered(error: unknown, endpoint: string, waitMs: number): CommandError {
  if (error instanceof Error && error.name === "TimeoutError")
    return new CommandError(3, `the server at ${endpoint} did not answer within ${waitMs / 1000} s`, { cause: error });
  if (isUnreachable(error))
    return new CommandError(3, `the server at ${endpoint} does not answer; is it running, and is this its address?`, {
      cause: error,
    });
  const detail = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
  return new CommandError(3, `the server at ${endpoint} could not be asked (${detail}); is this its address?`, { cause: error });
}

async function bodyOf(response: Response, { endpoint }: Asker): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw new CommandError(3, `the connection to ${endpoint} broke; try again`, { cause: error });
  }
}

/** Only Rekey's own word counts as a refusal: what stands in between may answer 404 while it has no server to ask. */
export function refusalOf(connection: Asker, response: Response, text: string): CommandError {
  const messages = jsonOf(text)?.messages;
  if (Array.isArray(messages)) return new ConfigApiRefusal(response.status, messages.map(String));
  return notRekey(connection, response);
}

export const notRekey = ({ endpoint }: Asker, { status }: Response): CommandError =>
  new CommandError(status >= 500 ? 3 : 1, `what answers at ${endpoint} is not Rekey (HTTP ${status}); check REKEY_ENDPOINT`);

/** The object that a text holds; `undefined` when it is something else. */
export function jsonOf(text: string): Answer | undefined {
  try {
    const read: unknown = JSON.parse(text);
    return typeof read === "object" && read !== null && !Array.isArray(read) ? (read as Answer) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
