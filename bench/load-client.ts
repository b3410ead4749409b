// The client of all HTTP measurements, a process of its own: raw sockets and requests made beforehand, so that it costs
// little beside the server. One job a message; answers with what it saw.
import { connect, type Socket } from "node:net";

export interface Job {
  readonly port: number;
  /** Whole requests, head and body; taken in turn, from the first again after the last. */
  readonly requests: readonly Uint8Array[];
  readonly connections: number;
  /** Which answers are good; absent: 2xx. */
  readonly status?: number;
  /** Ends after this many answers. */
  readonly count: number;
  /** Ends after this time even if fewer were answered. */
  readonly maxMs: number;
}

export interface Outcome {
  readonly answered: number;
  readonly elapsedMs: number;
  /** Answers of another status than is good. */
  readonly failed: number;
  /** The first of those, in full. */
  readonly firstFailure: string | undefined;
  /** One for each answer. */
  readonly latenciesMs: Float64Array;
  /** CPU time of the client. */
  readonly cpuMs: number;
}

process.on("message", (job: Job) => {
  run(job).then(
    (outcome) => process.send?.(outcome),
    (error: unknown) => process.send?.({ error: String(error) }),
  );
});
process.on("disconnect", () => process.exit(0));

async function run(job: Job): Promise<Outcome> {
  const sockets = new Set(await Promise.all(Array.from({ length: job.connections }, () => open(job.port))));
  const latencies = new Float64Array(job.count);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let [sent, answered, failed, running] = [0, 0, 0, sockets.size];
  let firstFailure: string | undefined;
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const endsAt = startedAt + job.maxMs;

  /** For a server that takes one request for each connection. */
  const replace = (socket: Socket): void => {
    sockets.delete(socket);
    open(job.port).then((fresh) => {
      sockets.add(fresh);
      converse(fresh);
    }, reject);
  };
  const converse = (socket: Socket): void => {
    let sentAt = 0;
    let leaving = false;
    const next = (): void => {
      if (leaving) forget(socket);
      const request = job.requests[sent % job.requests.length];
      if (sent >= job.count || request === undefined || performance.now() >= endsAt) {
        running -= 1;
        if (running === 0) resolve();
        return;
      }
      if (leaving) return void replace(socket);
      sent += 1;
      sentAt = performance.now();
      socket.write(request);
    };
    onAnswers(socket, (status, answer) => {
      latencies[answered] = performance.now() - sentAt;
      answered += 1;
      if (job.status === undefined ? status < 200 || status > 299 : status !== job.status) {
        failed += 1;
        firstFailure ??= answer.toString();
      }
      leaving = answer.includes(closing);
      next();
    });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("the server closed a connection")));
    next();
  };
  for (const socket of sockets) converse(socket);
  try {
    await promise;
  } finally {
    for (const socket of sockets) forget(socket);
  }
  const elapsedMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  const latenciesMs = latencies.slice(0, answered);
  return { answered, elapsedMs, failed, firstFailure, latenciesMs, cpuMs: (user + system) / 1000 };
}

function forget(socket: Socket): void {
  socket
    .removeAllListeners()
    .on("error", () => undefined)
    .destroy();
}

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, noDelay: true });
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
  });
}

const endOfHead = Buffer.from("\r\n\r\n");
const closing = Buffer.from("\r\nConnection: close");
const lengthName = Buffer.from("ontent-");
const length = /^[Ll]ength: (\d+)/;
const notModified = 304;

/** One answer at a time, as one request at a time is under way. */
function onAnswers(socket: Socket, take: (status: number, answer: Buffer) => void): void {
  let received: Buffer | undefined;
  let wholeBytes = 0;
  socket.on("data", (chunk: Buffer) => {
    received = received ? Buffer.concat([received, chunk]) : chunk;
    if (wholeBytes === 0) {
      const headBytes = received.indexOf(endOfHead);
      if (headBytes < 0) return;
      wholeBytes = headBytes + endOfHead.length + bodyBytes(received, headBytes);
    }
    if (received.length < wholeBytes) return;
    const answer = received;
    received = undefined;
    wholeBytes = 0;
    take(statusOf(answer), answer);
  });
}

const statusOf = (answer: Buffer): number => Number.parseInt(answer.toString("latin1", 9, 12), 10);

function bodyBytes(answer: Buffer, headBytes: number): number {
  if (statusOf(answer) === notModified) return 0;
  for (let at = answer.indexOf(lengthName); at >= 0 && at < headBytes; at = answer.indexOf(lengthName, at + 1)) {
    const [, digits] = length.exec(answer.toString("latin1", at + lengthName.length, at + 30)) ?? [];
    if (digits !== undefined) return Number(digits);
  }
  throw new Error("an answer without Content-Length");
}
