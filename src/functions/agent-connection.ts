import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { isErrorCode, ServiceError } from "../core/error.ts";

/** The server did not answer, or not as Rekey does: asking again may help. `message` names the cause in words. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
}

/** Whether the server says that it does not know us, or no more. */
export const isRevoked = (error: unknown): boolean =>
  error instanceof ServiceError && (error.code === "UnrecognizedClientException" || error.code === "ExpiredTokenException");

/** Whether the server says, at a poll, that a newer process with our keys is the agent now. */
export const isReplaced = (error: unknown): boolean =>
  error instanceof ServiceError && error.code === "PreconditionNotMetException";

const firstBackOffMs = 500;
const longestBackOffMs = 20_000;

/** With full jitter, so that many agents do not come back at once. `failures`: 1 or more. `random`: from 0 up to 1. */
export const backOffMs = (failures: number, random: () => number): number =>
  Math.round(random() * Math.min(longestBackOffMs, firstBackOffMs * 2 ** Math.min(failures - 1, 10)));

/** Asks the server; every connection is made by this side. */
export interface AgentConnection {
  /**
   * One operation of the native API, named `noun/verb`.
   * @throws ServiceError when the server refuses, NoAnswer when it did not answer in full
   */
  ask(operation: string, input: object, options: AskOptions): Promise<Readonly<Record<string, unknown>>>;
  /** What it publishes at `/.well-known/jwks.json`. @throws NoAnswer */
  publishedKeys(): Promise<Readonly<Record<string, unknown>>>;
  close(): void;
}

interface AskOptions {
  readonly token: string;
  /** For the whole answer. */
  readonly withinMs: number;
  /** Of the answer; default 1 MiB. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
}

export interface ConnectionParts {
  /** `https://host:port`, or `http://` to this machine. */
  readonly server: string;
  /** Certificates in PEM to trust in place of those of the system. */
  readonly ca?: string | undefined;
  readonly userAgent: string;
  /** HTTPS_PROXY, HTTP_PROXY, NO_PROXY, as written there. */
  readonly proxies: Readonly<Record<string, string | undefined>>;
}

const defaultMaxBytes = 1024 * 1024;

/** Keeps connections open between calls; certificates are always verified. */
export function connectTo({ server, ca, userAgent, proxies }: ConnectionParts): AgentConnection {
  const isTls = new URL(server).protocol === "https:";
  const settings = { keepAlive: true, proxyEnv: { ...proxies }, timeout: 120_000 };
  const agent = isTls ? new HttpsAgent({ ...settings, ...(ca === undefined ? {} : { ca }) }) : new HttpAgent(settings);
  return {
    async ask(operation, input, { token, withinMs, maxBytes = defaultMaxBytes, signal }) {
      const body = JSON.stringify(input);
      const headers = {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
        "user-agent": userAgent,
      };
      const until = signal ? AbortSignal.any([signal, AbortSignal.timeout(withinMs)]) : AbortSignal.timeout(withinMs);
      const options = { method: "POST", headers, agent, signal: until };
      const { status, text } = await exchange(`${server}/rekey/v1/${operation}`, options, body, maxBytes);
      return readAnswer(status, text);
    },
    async publishedKeys() {
      const options = { method: "GET", headers: { "user-agent": userAgent }, agent, signal: AbortSignal.timeout(15_000) };
      const { status, text } = await exchange(`${server}/.well-known/jwks.json`, options, "", defaultMaxBytes);
      return readAnswer(status, text);
    },
    close: () => agent.destroy(),
  };
}

type RequestOptions = Parameters<typeof requestHttps>[1];

/** No redirects are followed: a token goes to nobody else. */
async function exchange(
  url: string,
  options: RequestOptions,
  body: string,
  maxBytes: number,
): Promise<{ status: number; text: string }> {
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const send = url.startsWith("https:") ? requestHttps : requestHttp;
      send(url, options, resolve).on("error", reject).end(body);
    });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes) throw new NoAnswer(`its answer is larger than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
    return { status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") };
  } catch (error) {
    throw error instanceof NoAnswer ? error : new NoAnswer(describe(error), { cause: error });
  }
}

function readAnswer(status: number, text: string): Readonly<Record<string, unknown>> {
  const answer = parsed(text);
  if (answer === undefined) throw new NoAnswer(`what answers there is not Rekey (HTTP ${status})`);
  if (status === 200) return answer;
  const { code, detail } = answer;
  if (typeof code !== "string" || !isErrorCode(code) || status === 429 || status >= 500)
    throw new NoAnswer(`it answered with HTTP ${status}${typeof code === "string" ? ` (${code.slice(0, 100)})` : ""}`);
  throw new ServiceError(code, typeof detail === "string" ? detail.slice(0, 1_000) : "the server refused");
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** What went wrong on the way, with what to look at. Messages of the platform name hosts and codes, never headers. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return "the connection failed";
  const code = "code" in error ? String(error.code) : "";
  if (error.name === "TimeoutError" || (error.cause instanceof Error && error.cause.name === "TimeoutError"))
    return "it did not answer in time";
  if (/CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS|ERR_SSL/.test(code))
    return `its certificate is not accepted (${code}): give --ca the certificate of the authority that signed it`;
  if (code === "ERR_PROXY_TUNNEL") return "the proxy of HTTPS_PROXY did not let the connection through";
  return code === "" ? "the connection broke" : `the connection failed (${code})`;
}
