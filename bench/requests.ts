// GetSecretValue and PutSecretValue of the real program, as shares of what a bare `node:http` server does with the same
// requests and the same answer, round by round in turn.
import { randomUUID } from "node:crypto";
import { atLeast, atMost, type Figure } from "./figures.ts";
import { type BareServer, type LoadClient, startBareServer, startLoadClient, Void } from "./load.ts";
import type { Outcome } from "./load-client.ts";
import { cpuMs, residentMiB } from "./machine.ts";
import { type BenchServer, connections, credentialText, fill, nameOf, newCaller, startServer } from "./rekey.ts";
import { type Signer, signedRequest } from "./signed-request.ts";
import { median, percentile } from "./statistics.ts";

export interface Amount {
  readonly rounds: number;
  /** Less of everything: figures to look at, not to quote. */
  readonly quick: boolean;
  say(text: string): void;
}

const secrets = 10_000;
const readRequests = 512;
const roundMaxMs = 60_000;

export interface Side {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  /** Which answers are good; absent: 2xx. */
  readonly status?: number;
  requests(): Buffer[];
}

export interface Measured {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  /** CPU time of the server for one request. */
  readonly cpuUs: number;
}

interface World {
  readonly client: LoadClient;
  readonly bare: BareServer;
  readonly one: BenchServer;
  readonly two: BenchServer;
  readonly callers: ReadonlyMap<BenchServer, Signer>;
}

export type RequestKind = "get" | "put";

export async function measureRequests(kind: RequestKind, amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const client = opened.use(startLoadClient());
  const one = opened.use(await startServer());
  const two = opened.use(await startServer({ processes: 2 }));
  amount.say(`filling two stores with ${secrets} secrets each`);
  const callers = new Map<BenchServer, Signer>();
  for (const bench of [one, two]) {
    await fill(bench, client, { to: secrets });
    callers.set(bench, await newCaller(bench));
  }
  const bare = opened.use(await startBareServer(await answerOf(kind, one, callerOf(callers, one))));
  const figures = await compare(kind, { client, bare, one, two, callers }, amount);
  const resident = residentMiB(one.server.pid);
  if (resident === undefined) return figures;
  return [
    ...figures,
    { name: `${names[kind]}: memory of 1 process after this load`, measured: resident, unit: "MiB", goal: atMost(250) },
  ];
}

async function compare(kind: RequestKind, { client, bare, one, two, callers }: World, amount: Amount): Promise<Figure[]> {
  const count = (kind === "get" ? 40_000 : 10_000) / (amount.quick ? 4 : 1);
  const ofServer = (name: string, bench: BenchServer): Side => ({
    name,
    port: bench.port,
    pid: bench.server.pid,
    requests: () => requestsOf(kind, bench, callerOf(callers, bench), count),
  });
  const sides: Side[] = [
    { name: "bare", port: bare.port, pid: bare.pid, requests: () => requestsOf(kind, one, callerOf(callers, one), count) },
    ofServer("one", one),
    ofServer("two", two),
  ];
  const rounds: Record<string, Measured>[] = [];
  for (let round = 0; round <= amount.rounds; round += 1) {
    const measured: Record<string, Measured> = {};
    for (const side of sides) measured[side.name] = await measureSide(client, side, count);
    if (round > 0) rounds.push(measured); // the first one warms up
    amount.say(
      `${kind} round ${round}${round === 0 ? " (warm-up)" : ""}: ${sides
        .map(({ name }) => `${name} ${Math.round(measured[name]?.perSecond ?? 0)}/s p99 ${measured[name]?.p99.toFixed(1)} ms`)
        .join(", ")}`,
    );
  }
  return figuresOf(kind, rounds);
}

/** One round on one server. */
export async function measureSide(client: LoadClient, side: Side, count: number): Promise<Measured> {
  const requests = side.requests();
  const cpuBefore = cpuMs(side.pid) ?? Number.NaN;
  const outcome: Outcome = await client.run({
    port: side.port,
    requests,
    connections,
    count,
    maxMs: roundMaxMs,
    ...(side.status !== undefined && { status: side.status }),
  });
  const cpuUsed = (cpuMs(side.pid) ?? Number.NaN) - cpuBefore;
  return {
    perSecond: (outcome.answered / outcome.elapsedMs) * 1000,
    p50: percentile(outcome.latenciesMs, 0.5),
    p99: percentile(outcome.latenciesMs, 0.99),
    cpuUs: (cpuUsed * 1000) / outcome.answered,
  };
}

const names = { get: "GetSecretValue", put: "PutSecretValue" } as const;
const shares = { get: 0.4, put: 0.3 } as const;

function figuresOf(kind: RequestKind, rounds: readonly Record<string, Measured>[]): Figure[] {
  const of = (side: string, what: keyof Measured) => rounds.map((round) => round[side]?.[what] ?? Number.NaN);
  const ratio = (a: number[], b: number[]) => a.map((value, index) => value / (b[index] ?? Number.NaN));
  const figure = (name: string, values: number[], unit: string, more: Partial<Figure> = {}): Figure => ({
    name: `${names[kind]}: ${name}`,
    measured: median(values),
    unit,
    rounds: values,
    ...more,
  });
  const share = ratio(of("one", "perSecond"), of("bare", "perSecond"));
  return [
    figure("bare node:http", of("bare", "perSecond"), "req/s"),
    figure("1 process", of("one", "perSecond"), "req/s"),
    figure("2 processes", of("two", "perSecond"), "req/s"),
    figure("1 process, share of bare", share, "x", { goal: atLeast(shares[kind]) }),
    figure(
      "2 processes over 1",
      ratio(of("two", "perSecond"), of("one", "perSecond")),
      "x",
      kind === "get" ? { goal: atLeast(1.25) } : {},
    ),
    figure("p50 bare", of("bare", "p50"), "ms"),
    figure("p50, 1 process", of("one", "p50"), "ms"),
    figure("p99 bare", of("bare", "p99"), "ms"),
    figure("p99, 1 process", of("one", "p99"), "ms"),
    figure(
      "p99, 1 process over bare",
      ratio(of("one", "p99"), of("bare", "p99")),
      "x",
      kind === "get" ? { goal: atMost(3) } : {},
    ),
    figure("p99, 2 processes over bare", ratio(of("two", "p99"), of("bare", "p99")), "x"),
    figure("CPU of the bare server", of("bare", "cpuUs"), "us/req"),
    figure("CPU of the server, 1 process", of("one", "cpuUs"), "us/req"),
  ];
}

/** Signed now, as signatures hold for five minutes. Every write has a value and a token of its own. */
function requestsOf(kind: RequestKind, bench: BenchServer, caller: Signer, count: number): Buffer[] {
  const first = Math.floor(Math.random() * secrets);
  return Array.from({ length: kind === "get" ? readRequests : count }, (_, turn) =>
    requestOf(kind, bench, caller, (first + turn * 7) % secrets),
  );
}

function requestOf(kind: RequestKind, bench: BenchServer, caller: Signer, index: number): Buffer {
  const SecretId = nameOf(index);
  return kind === "get"
    ? signedRequest(caller, bench.port, "GetSecretValue", { SecretId })
    : signedRequest(caller, bench.port, "PutSecretValue", {
        SecretId,
        ClientRequestToken: randomUUID(),
        SecretString: credentialText(index),
      });
}

/** What the bare server is to say: the answer to one such request, as it came. */
async function answerOf(kind: RequestKind, bench: BenchServer, caller: Signer) {
  const [head = "", sent = ""] = requestOf(kind, bench, caller, 1).toString().split("\r\n\r\n");
  const headers = head
    .split("\r\n")
    .slice(1)
    .map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]);
  const own = headers.filter(([name]) => !["host", "content-length"].includes(name));
  const response = await fetch(`http://127.0.0.1:${bench.port}/`, { method: "POST", headers: own, body: sent });
  const body = await response.text();
  if (!response.ok) throw new Void(`${names[kind]} answered ${response.status}: ${body}`);
  const kept = ["x-amzn-requestid", "content-type"].map((name) => [name, response.headers.get(name) ?? ""] as const);
  return { headers: Object.fromEntries(kept), body };
}

function callerOf(callers: ReadonlyMap<BenchServer, Signer>, bench: BenchServer): Signer {
  const caller = callers.get(bench);
  if (!caller) throw new Error("a server without its caller");
  return caller;
}
