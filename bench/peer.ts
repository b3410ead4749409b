// GetSecretValue and PutSecretValue beside moto's server, which plays the same API in memory: no signatures, no policies, no
// encryption, no audit. Left out where `moto_server` is not installed.
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { atLeast, type Figure } from "./figures.ts";
import { type LoadClient, startLoadClient, Void } from "./load.ts";
import { connections, credentialText, fill, nameOf, newCaller, startServer } from "./rekey.ts";
import type { Amount, RequestKind } from "./requests.ts";
import { type Signer, signedRequest } from "./signed-request.ts";
import { median } from "./statistics.ts";

const secrets = 1_000;
const program = "moto_server";
/** Moto needs no more to show how fast it is. */
const counts = { rekey: 20_000, moto: 1_500 };
const goals: Readonly<Record<RequestKind, number>> = { get: 25, put: 15 };
const names: Readonly<Record<RequestKind, string>> = { get: "GetSecretValue", put: "PutSecretValue" };

export async function measurePeer(amount: Amount): Promise<Figure[]> {
  const path = findProgram();
  if (path === undefined) {
    amount.say(`${program} is not installed: no comparison with it`);
    return [];
  }
  await using opened = new AsyncDisposableStack();
  const client = opened.use(startLoadClient());
  const bench = opened.use(await startServer());
  const moto = await startMoto(path, opened);
  amount.say(`filling both with ${secrets} secrets`);
  await fill(bench, client, { to: secrets });
  const caller = await newCaller(bench);
  await fillMoto(client, moto, bench.root);
  const figures: Figure[] = [];
  for (const kind of ["get", "put"] as const) {
    const sides = { rekey: { port: bench.port, signer: caller }, moto: { port: moto, signer: bench.root } };
    const rates: Record<"rekey" | "moto", number[]> = { rekey: [], moto: [] };
    for (let round = 0; round <= amount.rounds; round += 1) {
      for (const name of ["rekey", "moto"] as const) {
        const count = counts[name] / (amount.quick ? 4 : 1);
        const requests = requestsOf(kind, sides[name], count);
        const outcome = await client.run({ port: sides[name].port, requests, connections, count, maxMs: 60_000 });
        if (round > 0) rates[name].push((outcome.answered / outcome.elapsedMs) * 1000);
      }
    }
    const ratios = rates.rekey.map((rate, round) => rate / (rates.moto[round] ?? Number.NaN));
    figures.push(
      { name: `${names[kind]}: moto`, measured: median(rates.moto), unit: "req/s", rounds: rates.moto },
      { name: `${names[kind]}: over moto`, measured: median(ratios), unit: "x", goal: atLeast(goals[kind]), rounds: ratios },
    );
  }
  return figures;
}

function findProgram(): string | undefined {
  const places = (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, program));
  return places.find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

async function startMoto(path: string, opened: AsyncDisposableStack): Promise<number> {
  const port = await freePort();
  const child = spawn(path, ["-H", "127.0.0.1", "-p", String(port)], { stdio: "ignore", detached: true });
  opened.defer(() => end(child));
  for (;;) {
    const up = await fetch(`http://127.0.0.1:${port}/moto-api/`)
      .then((response) => response.ok)
      .catch(() => false);
    if (up) return port;
    if (child.exitCode !== null) throw new Void(`${program} ended with ${child.exitCode}`);
    await sleep(100);
  }
}

/** It may be a wrapper with the server below it: the whole group. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const ended = once(child, "exit");
  process.kill(-child.pid, "SIGKILL");
  await ended;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || address === null) throw new Void("no free port");
  return address.port;
}

async function fillMoto(client: LoadClient, port: number, signer: Signer): Promise<void> {
  const requests = Array.from({ length: secrets }, (_, index) =>
    signedRequest(signer, port, "CreateSecret", {
      Name: nameOf(index),
      ClientRequestToken: randomUUID(),
      SecretString: credentialText(index),
    }),
  );
  await client.run({ port, requests, connections: 8, count: secrets, maxMs: 120_000 });
}

function requestsOf(kind: RequestKind, { port, signer }: { port: number; signer: Signer }, count: number): Buffer[] {
  return Array.from({ length: kind === "get" ? 512 : count }, (_, index) => {
    const SecretId = nameOf(index % secrets);
    const put = { ClientRequestToken: randomUUID(), SecretString: credentialText(index) };
    return signedRequest(signer, port, names[kind], kind === "get" ? { SecretId } : { SecretId, ...put });
  });
}
