import { setTimeout as sleep } from "node:timers/promises";
import type { Flags } from "../config.ts";
import { builtinFunctionNames } from "../functions/builtin.ts";
import { CommandError, isUnreachable } from "./command-error.ts";
import { findServer, localCredentials } from "./known-servers.ts";
import type { Answer } from "./output.ts";
import { readSettings } from "./settings-options.ts";

/** A server and who we are there. */
export interface Connection {
  readonly endpoint: string;
  readonly token: string;
  /** Absent: the server's default. */
  readonly region?: string;
}

/** Whether we were told the server's address, or took it from the file of its first start, where it may have become old. */
const fromFile = new WeakSet<Connection>();
const timeoutMs = 60_000;
const maxTries = 4;

/**
 * From flags and environment, else from a login, or the file that the server's first start left in ./.rekey.
 * @throws CommandError for usage when there is none of these.
 */
export function connectionFrom(flags: Flags): Connection {
  const given = readSettings("client", flags);
  const told = (value: string | undefined) => value && { value, source: "" };
  const [endpointTold, tokenTold] = [told(given.endpoint), told(given.token)];
  const { endpoint, token } = findServer(
    { ...(endpointTold && { endpoint: endpointTold }), ...(tokenTold && { token: tokenTold }) },
    process.cwd(),
  );
  const region = typeof flags.region === "string" ? flags.region : process.env.REKEY_REGION;
  if (!endpoint || !token)
    throw new CommandError(
      2,
      `there is no ${localCredentials} here: set REKEY_ENDPOINT and REKEY_TOKEN, give --endpoint and --token, or run rekey login`,
    );
  const connection = { endpoint: endpoint.value, token: token.value, ...(region ? { region } : {}) };
  if (endpoint.source === localCredentials) fromFile.add(connection);
  return connection;
}

/**
 * One operation of the native API, named `noun/verb`. A throttled call is made again a few times.
 * @throws CommandError when refused (1) or when nobody answers (3).
 */
export async function callApi(
  connection: Connection,
  operation: string,
  input: object = {},
  waitMs = timeoutMs,
): Promise<Answer> {
  for (let tries = 1; ; tries++) {
    const response = await post(connection, operation, JSON.stringify(input), waitMs);
    const answer = await readAnswer(response, connection);
    if (response.ok) return answer;
    if (response.status !== 429 || tries === maxTries) throw refusal(answer, response.status);
    await sleep(200 * 2 ** tries);
  }
}

/**
 * All pages of a list, or its first `most` rows: the first answer with all of them in `member`.
 * @throws CommandError as `callApi`.
 */
export async function callPages(
  connection: Connection,
  operation: string,
  member: string,
  input: object,
  most = Number.POSITIVE_INFINITY,
): Promise<Answer> {
  const { cursor: next, ...first } = await callApi(connection, operation, input);
  const rows = [...rowsOf(first, member)];
  for (let cursor = next; cursor !== undefined && rows.length < most; ) {
    const page = await callApi(connection, operation, { ...input, cursor });
    rows.push(...rowsOf(page, member));
    cursor = page.cursor;
  }
  return { ...first, [member]: rows.slice(0, most) };
}

/** The rows of a list's answer. */
export const rowsOf = (answer: Answer, member: string): readonly Answer[] =>
  (answer[member] as readonly Answer[] | undefined) ?? [];

async function post(connection: Connection, operation: string, body: string, waitMs: number): Promise<Response> {
  const { endpoint, token, region } = connection;
  const headers = {
    authorization: `Bearer ${token}`,
    "content-type": "application/json",
    ...(region && { "rekey-region": region }),
  };
  const url = `${endpoint}/rekey/v1/${operation}`;
  try {
    return await fetch(url, { method: "POST", headers, body, redirect: "error", signal: AbortSignal.timeout(waitMs) });
  } catch (error) {
    const late = error instanceof Error && error.name === "TimeoutError";
    if (!late && !isUnreachable(error)) {
      const detail = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
      throw new CommandError(3, `the server at ${endpoint} could not be asked (${detail}); is this its address?`, {
        cause: error,
      });
    }
    const what = late ? `did not answer within ${waitMs / 1000} s` : "does not answer";
    const hint = fromFile.has(connection)
      ? `start it with rekey server --listen ${new URL(endpoint).host}, or set REKEY_ENDPOINT to where it listens now`
      : "start it with rekey server, or set REKEY_ENDPOINT";
    throw new CommandError(3, `the server at ${endpoint} ${what}; ${hint}`, { cause: error });
  }
}

async function readAnswer(response: Response, { endpoint }: Connection): Promise<Answer> {
  try {
    const answer: unknown = JSON.parse(await response.text());
    if (typeof answer === "object" && answer !== null) return answer as Answer;
  } catch (error) {
    if (!(error instanceof SyntaxError))
      throw new CommandError(3, `the connection to ${endpoint} broke; try again`, { cause: error });
  }
  throw new CommandError(1, `what answers at ${endpoint} is not Rekey (HTTP ${response.status}); check REKEY_ENDPOINT`);
}

/** What to do about each refusal that the server's own sentence does not tell. */
const advice: Readonly<Record<string, string>> = {
  UnrecognizedClientException: " Check REKEY_TOKEN, or make another token.",
  ExpiredTokenException: " Make another token.",
  ThrottlingException: " Wait a little and try again.",
  InternalServiceError: " The server's log has the reason under this id.",
};

function adviceOn(code: string, detail: string): string {
  if (code !== "AccessDeniedException") return advice[code] ?? "";
  if (detail.startsWith("Secrets Manager cannot invoke")) return ` Built in are: ${builtinFunctionNames.join(", ")}.`;
  return detail.startsWith("User: ") ? " `rekey policy simulate` tells which statement decides." : "";
}

function refusal(problem: Answer, status: number): CommandError {
  const code = String(problem.code ?? `HTTP ${status}`);
  const detail = typeof problem.detail === "string" ? problem.detail : "the server refused";
  const text = /[.!?]$/.test(detail) ? detail : `${detail}.`;
  return new CommandError(1, `${code}: ${text}${adviceOn(code, detail)}`);
}
