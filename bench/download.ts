// Downloads of a config of 50 secrets, and the answer that nothing changed, as shares of what a bare `node:http` server does with
// the same requests and the same answers, round by round in turn.
import { randomUUID } from "node:crypto";
import { isObject } from "../src/core/json-object.ts";
import type { Figure } from "./figures.ts";
import { startBareServer, startLoadClient, Void } from "./load.ts";
import { type BenchServer, startServer } from "./rekey.ts";
import { type Amount, type Measured, measureSide, type Side } from "./requests.ts";
import { median } from "./statistics.ts";

const secrets = 50;
const project = "bench";
const place = `project=${project}&config=dev`;
const path = `/v3/configs/config/secrets/download?${place}&format=json&include_dynamic_secrets=true`;

export async function measureDownloads(amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const client = opened.use(startLoadClient());
  const bench = opened.use(await startServer());
  const token = await fillConfig(bench);
  const whole = await download(bench, token);
  const etag = whole.headers.etag ?? "";
  const unchanged = await download(bench, token, etag);
  if (whole.status !== 200 || unchanged.status !== 304)
    throw new Void(`downloads answered ${whole.status} and ${unchanged.status}`);

  const bare = opened.use(await startBareServer(whole));
  const bareUnchanged = opened.use(await startBareServer(unchanged));
  const ask = [Buffer.from(head(token))];
  const askAgain = [Buffer.from(head(token, etag))];
  const sides: Side[] = [
    { name: "bare", port: bare.port, pid: bare.pid, requests: () => ask },
    { name: "download", port: bench.port, pid: bench.server.pid, requests: () => ask },
    { name: "bare 304", port: bareUnchanged.port, pid: bareUnchanged.pid, requests: () => askAgain, status: 304 },
    { name: "304", port: bench.port, pid: bench.server.pid, requests: () => askAgain, status: 304 },
  ];
  const count = 20_000 / (amount.quick ? 4 : 1);
  const rounds: Record<string, Measured>[] = [];
  for (let round = 0; round <= amount.rounds; round += 1) {
    const measured: Record<string, Measured> = {};
    for (const side of sides) measured[side.name] = await measureSide(client, side, count);
    if (round > 0) rounds.push(measured); // the first one warms up
    const said = sides.map(
      ({ name }) => `${name} ${Math.round(measured[name]?.perSecond ?? 0)}/s p99 ${measured[name]?.p99.toFixed(1)} ms`,
    );
    amount.say(`download round ${round}${round === 0 ? " (warm-up)" : ""}: ${said.join(", ")}`);
  }
  return figuresOf(rounds, Buffer.byteLength(whole.body));
}

function figuresOf(rounds: readonly Record<string, Measured>[], bytes: number): Figure[] {
  const of = (side: string, what: keyof Measured) => rounds.map((round) => round[side]?.[what] ?? Number.NaN);
  const share = (side: string, bare: string) => {
    const others = of(bare, "perSecond");
    return of(side, "perSecond").map((value, index) => value / (others[index] ?? Number.NaN));
  };
  const figure = (name: string, values: number[], unit: string, more: Partial<Figure> = {}): Figure => ({
    name,
    measured: median(values),
    unit,
    rounds: values,
    ...more,
  });
  return [
    figure("download: bare node:http", of("bare", "perSecond"), "req/s"),
    figure("download", of("download", "perSecond"), "req/s", { note: `${secrets} secrets, ${bytes} bytes` }),
    figure("download: share of bare", share("download", "bare"), "x"),
    figure("download: p50", of("download", "p50"), "ms"),
    figure("download: p99", of("download", "p99"), "ms"),
    figure("download: CPU of the server", of("download", "cpuUs"), "us/req"),
    figure("download, unchanged (304): bare node:http", of("bare 304", "perSecond"), "req/s"),
    figure("download, unchanged (304)", of("304", "perSecond"), "req/s"),
    figure("download, unchanged (304): share of bare", share("304", "bare 304"), "x"),
    figure("download, unchanged (304): p99", of("304", "p99"), "ms"),
    figure("download, unchanged (304): CPU of the server", of("304", "cpuUs"), "us/req"),
  ];
}

/** Credentials, and URLs that refer to them; read by a service token. */
async function fillConfig({ server }: BenchServer): Promise<string> {
  const ask = async (path: string, body: object): Promise<Record<string, unknown>> => {
    const headers = { authorization: `Bearer ${server.credentials.token}`, "content-type": "application/json" };
    const response = await fetch(`${server.endpoint}/v3/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    const answer: unknown = await response.json();
    if (!response.ok || !isObject(answer)) throw new Void(`${path} answered ${response.status}`);
    return answer;
  };
  await ask("projects", { name: project, description: "" });
  const plain = Array.from({ length: secrets - 10 }, (_, index) => [`SERVICE_${index}_PASSWORD`, randomUUID()]);
  const urls = Array.from({ length: 10 }, (_, index) => [
    `DATABASE_${index}_URL`,
    `postgres://service:\${SERVICE_${index}_PASSWORD}@database.internal.example:5432/orders`,
  ]);
  await ask(`configs/config/secrets?${place}`, { secrets: Object.fromEntries([...plain, ...urls]) });
  const { token } = await ask("configs/config/tokens", { project, config: "dev", name: "bench", access: "read" });
  if (!isObject(token) || typeof token.key !== "string") throw new Void("no service token was answered");
  return token.key;
}

/** As the command line asks. */
function head(token: string, etag?: string): string {
  const fields = [
    `GET ${path} HTTP/1.1`,
    "Host: 127.0.0.1",
    `Authorization: Bearer ${token}`,
    "Accept: application/json",
    "Content-Type: application/json",
    ...(etag === undefined ? [] : [`If-None-Match: ${etag}`]),
  ];
  return `${fields.join("\r\n")}\r\n\r\n`;
}

/** One answer, for the bare server to say. */
async function download({ server }: BenchServer, token: string, etag?: string) {
  const headers = { authorization: `Bearer ${token}`, ...(etag !== undefined && { "if-none-match": etag }) };
  const response = await fetch(`${server.endpoint}${path}`, { headers });
  const body = await response.text();
  const kept = ["x-request-id", "content-type", "etag"].flatMap((name) => {
    const value = response.headers.get(name);
    return value === null ? [] : [[name, value] as const];
  });
  return { status: response.status, headers: Object.fromEntries(kept), body };
}
