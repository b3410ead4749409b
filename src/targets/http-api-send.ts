import { lookup as resolve } from "node:dns";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { LookupFunction } from "node:net";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { refusesAddress } from "./http-api-address.ts";
import type { FilledRequest } from "./http-api-request.ts";

export interface SendOptions {
  /** For messages. */
  readonly label: string;
  /** The request makes or deletes something: no answer leaves it open whether it did. */
  readonly changing: boolean;
  readonly timeoutMs: number;
  /** PEM text; absent: the system's authorities. */
  readonly ca: string | undefined;
  /** Addresses that are asked though they are special. */
  readonly allowAddresses: readonly string[];
  /** What stands in the answer is not read: its text is empty. */
  readonly statusOnly?: true;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

const maxAnswerBytes = 1024 * 1024;
const tlsCode = /^(ERR_TLS|ERR_SSL|EPROTO|CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

class TooLarge extends Error {}
class Encoded extends Error {}

/**
 * One request on a connection of its own: no redirect, no proxy, no cookie; bounded in time and size, certificates verified.
 * @throws RotatorError; `unknown` when a change may have been made.
 */
export async function send(request: FilledRequest, options: SendOptions): Promise<Answer> {
  const { label, changing, timeoutMs } = options;
  if (timeoutMs <= 0) throw new RotatorError("timeout", `${label}: no time was left to ask`);
  const signal = AbortSignal.timeout(timeoutMs);
  const sent = { connected: false };
  try {
    return await exchange(request, options, { signal, sent });
  } catch (error) {
    // Not kept as the cause: it may hold what was sent.
    throw failure(error, { label, late: signal.aborted, changing: changing && sent.connected });
  }
}

interface Exchange {
  readonly signal: AbortSignal;
  readonly sent: { connected: boolean };
}

async function exchange(
  { method, url, headers, body }: FilledRequest,
  { ca, allowAddresses, statusOnly }: SendOptions,
  { signal, sent }: Exchange,
): Promise<Answer> {
  const secure = url.protocol === "https:";
  const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
  const request = (secure ? httpsRequest : httpRequest)(url, {
    method,
    headers: { ...headers, ...length },
    agent: false,
    signal,
    lookup: guardedLookup(url.hostname, allowAddresses),
    ...(secure && { rejectUnauthorized: true, minVersion: "TLSv1.2", ...(ca !== undefined && { ca }) }),
  });
  request.once("socket", (socket) => {
    socket.once(secure ? "secureConnect" : "connect", () => {
      sent.connected = true;
    });
  });
  const answered = firstAnswer(request);
  request.end(body);
  const response = await answered;
  try {
    return { status: response.statusCode ?? 0, text: statusOnly ? "" : await readBounded(response) };
  } finally {
    response.destroy();
  }
}

function firstAnswer(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((done, failed) => {
    request.once("response", done);
    request.on("error", failed); // stays: later ones belong to a body that nobody reads any more
    request.once("upgrade", (_response, socket) => {
      socket.destroy();
      failed(new Error("upgraded"));
    });
  });
}

async function readBounded(response: IncomingMessage): Promise<string> {
  const encoding = response.headers["content-encoding"] ?? "identity";
  if (encoding !== "identity") throw new Encoded();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength;
    if (size > maxAnswerBytes) throw new TooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Connects to an address that was looked at, so that a name cannot lead elsewhere in between. */
function guardedLookup(hostname: string, allowed: readonly string[]): LookupFunction {
  const refuses = refusesAddress(hostname, allowed);
  return (host, options, callback) => {
    resolve(host, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, "", 0);
      const refused = addresses.some(({ address }) => refuses(address));
      const [first] = addresses;
      if (refused || !first) return callback(Object.assign(new Error("special address"), { code: "EADDRESS" }), "", 0);
      if (options.all) return callback(null, addresses);
      callback(null, first.address, first.family);
    });
  };
}

function failure(error: unknown, { label, late, changing }: { label: string; late: boolean; changing: boolean }): RotatorError {
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
  if (code === "EADDRESS") {
    return new RotatorError(
      "invalid",
      `${label}: the host's name leads to an address of this machine or its metadata: see allowAddresses`,
    );
  }
  const about = tooMuch(error);
  let outcome: Exclude<OutcomeClass, "ok"> = "unreachable";
  if (changing) outcome = "unknown";
  else if (late) outcome = "timeout";
  else if (about !== undefined) outcome = "invalid";
  else if (tlsCode.test(code)) outcome = "tls";
  const text = about ?? words[outcome] ?? "the API cannot be reached";
  return new RotatorError(outcome, `${label}: ${text}${/^[A-Z_]{2,64}$/.test(code) ? ` (${code})` : ""}`);
}

const words: Readonly<Partial<Record<OutcomeClass, string>>> = {
  timeout: "the API did not answer in time",
  tls: "no verified TLS connection: see caFile",
  unknown: "the connection ended before the answer, so it is not known whether it was done",
};

function tooMuch(error: unknown): string | undefined {
  if (error instanceof TooLarge) return `the answer is larger than ${maxAnswerBytes} bytes`;
  return error instanceof Encoded ? "the answer is compressed, which was not asked for" : undefined;
}
