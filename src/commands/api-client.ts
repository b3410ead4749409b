import { readFileSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Flags } from "../config.ts";
import { builtinFunctionNames } from "../functions/builtin.ts";
import { CommandError, isUnreachable } from "./command-error.ts";
import type { Answer } from "./output.ts";
import { readSettings } from "./settings-options.ts";

/** A server and who we are there. */
export interface Connection {
  readonly endpoint: string;
  readonly token: string;
  /** Absent: the server's default. */
  readonly region?: string;
}

/** Where a server's first start leaves the root user's credentials, seen from where it was started. */
export const localCredentials = "./.rekey/root-credentials.json";
/** Whether we were told the server's address, or took it from that file, where it may have become old. */
const fromFile = new WeakSet<Connection>();
const timeoutMs = 60_000;
const maxTries = 4;

/**
 * From flags and environment, else from the file that the server's first start left in ./.rekey.
 * @throws CommandError for usage when there is neither.
 */
export function connectionFrom(flags: Flags): Connection {
  const { endpoint, token } = readSettings("client", flags);
  const region = typeof flags.region === "string" ? flags.region : process.env.REKEY_REGION;
  const found = endpoint && token ? undefined : readCredentials(localCredentials);
  if (found) warnOfLooseMode(localCredentials);
  const from = { endpoint: endpoint ?? found?.endpoint, token: token ?? found?.token };
  if (from.endpoint === undefined || from.token === undefined)
    throw new CommandError(
      2,
      `there is no ${localCredentials} here: set REKEY_ENDPOINT and REKEY_TOKEN, or give --endpoint and --token`,
    );
  const connection = { endpoint: from.endpoint, token: from.token, ...(region ? { region } : {}) };
  if (endpoint === undefined) fromFile.add(connection);
  return connection;
}

/** On standard error, when others may read that file. */
export function warnOfLooseMode(path: string): void {
  if ((statSync(path).mode & 0o077) !== 0)
    process.stderr.write(`rekey: warning: others may read ${path}, which lets them do everything; run chmod 600 ${path}\n`);
}

/** What `root-credentials.json` tells; undefined when there is none. @throws CommandError for usage when it cannot be read. */
export function readCredentials(path: string): { endpoint?: string; token?: string } | undefined {
  try {
    const read: unknown = JSON.parse(readFileSync(path, "utf8"));
    return typeof read === "object" && read !== null ? read : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) throw new CommandError(2, `${path} is damaged: set REKEY_ENDPOINT and REKEY_TOKEN`);
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new CommandError(2, `${path} cannot be read: set REKEY_ENDPOINT and REKEY_TOKEN`, { cause: error });
  }
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
