// HTTP as bytes, for what no client would send.
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface Reply {
  readonly status: number;
  /** By name in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

export async function open(endpoint: string): Promise<Socket> {
  const { hostname, port } = new URL(endpoint);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined); // a reset is an end too
  await once(socket, "connect");
  return socket;
}

/** Sends the bytes and gives all answers that come until the server ends the connection. */
export async function speak(endpoint: string, ...parts: readonly (string | Buffer)[]): Promise<Reply[]> {
  const socket = await open(endpoint);
  const heard = hear(socket);
  for (const part of parts) socket.write(part);
  return heard;
}

/** All answers on a connection, once the server has ended it. */
export async function hear(socket: Socket): Promise<Reply[]> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve)); // `once` would reject at a reset
  return parseReplies(Buffer.concat(chunks).toString("latin1"));
}

/** Answers with Content-Length, which are all that the server sends to such requests. */
function parseReplies(text: string): Reply[] {
  const replies: Reply[] = [];
  let rest = text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, "");
  while (rest !== "") {
    const end = rest.indexOf("\r\n\r\n");
    const [first = "", ...lines] = rest.slice(0, end).split("\r\n");
    const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(first) ?? [];
    if (end < 0 || status === undefined) throw new Error(`no HTTP answer: ${rest.slice(0, 200)}`);
    const headers = new Map(
      lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
    );
    const length = Number(headers.get("content-length") ?? 0);
    replies.push({ status: Number(status), headers, body: rest.slice(end + 4, end + 4 + length) });
    rest = rest.slice(end + 4 + length);
  }
  return replies;
}

/** A request's text: `lines` are its headers beside Host. */
export const requestText = (first: string, lines: readonly string[] = [], body = ""): string =>
  [`${first} HTTP/1.1`, "Host: rekey.test", ...lines, "", body].join("\r\n");
