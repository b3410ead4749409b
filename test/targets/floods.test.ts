// Servers that never stop talking: drivers keep an answer until it is whole, so they are hung up on.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { TLSSocket } from "node:tls";
import { mongodb } from "../../src/targets/mongodb.ts";
import { mysql } from "../../src/targets/mysql.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { redis } from "../../src/targets/redis.ts";
import { sqlserver } from "../../src/targets/sqlserver.ts";
import { hasOpenssl, makeCertificate, unlessCi } from "../support/server-process.ts";
import { tools } from "./contract.ts";

const block = Buffer.alloc(65_535, 1);

interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** PostgreSQL's way to TLS: the server says S first. */
  readonly after: "S" | "";
}

/** Says `greeting` to whoever connects, then `more` for ever. */
async function floods(greeting: Buffer, more: Buffer = block, tls?: Certificate) {
  let sent = 0;
  const sockets = new Set<Socket>();
  const flood = (socket: Socket): void => {
    socket.on("error", () => undefined).resume();
    const talk = (): void => {
      while (!socket.destroyed) {
        sent += more.length;
        if (!socket.write(more)) return;
      }
    };
    socket.on("drain", talk);
    socket.write(greeting);
    talk();
  };
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    if (!tls) return flood(socket);
    const secure = () => flood(new TLSSocket(socket, { isServer: true, cert: tls.cert, key: tls.key }));
    socket.on("error", () => undefined);
    if (tls.after === "") return secure();
    socket.once("data", () => socket.write(tls.after, secure));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    sent: () => sent,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const int32 = (value: number, write: "writeInt32BE" | "writeInt32LE"): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes[write](value);
  return bytes;
};

const cases = [
  { rotator: postgres, greeting: Buffer.concat([Buffer.from("D"), int32(2_000_000_000, "writeInt32BE")]) },
  // Packets of the greatest length go on in the next one.
  {
    rotator: mysql,
    greeting: Buffer.alloc(0),
    more: Buffer.concat([Buffer.from([255, 255, 255, 0]), Buffer.alloc(0xffffff, 1)]),
  },
  { rotator: redis, greeting: Buffer.from("$2000000000\r\n") },
  { rotator: mongodb, greeting: int32(60_000_000, "writeInt32LE") },
  // A packet of 32 KiB that is not the last of its message.
  {
    rotator: sqlserver,
    greeting: Buffer.alloc(0),
    more: Buffer.concat([Buffer.from([4, 0, 128, 0, 0, 0, 1, 0]), Buffer.alloc(32_760, 1)]),
  },
] as const;

const mostTaken = 160 * 1024 * 1024;

async function endsFlood(
  rotator: (typeof cases)[number]["rotator"],
  { port, sent }: Pick<Awaited<ReturnType<typeof floods>>, "port" | "sent">,
  more: object,
): Promise<void> {
  const credential = { engine: rotator.kind, host: "127.0.0.1", port, username: "app", password: "word", ...more };
  const outcome = await rotator.probe(credential, { ...tools(), deadlineAt: Date.now() + 3_000 });
  assert.ok(!["ok", "refused", "tls"].includes(outcome), outcome);
  assert.ok(sent() < mostTaken, `${Math.round(sent() / 1024 / 1024)} MiB were taken: ${outcome}`);
}

for (const { rotator, greeting, ...rest } of cases)
  test(`${rotator.kind}: a flood ends, and is no refusal`, async () => {
    await using server = await floods(greeting, "more" in rest ? rest.more : block);
    await endsFlood(rotator, server, rotator === sqlserver ? {} : { ssl: false });
  });

for (const { rotator, greeting } of cases.filter(({ rotator }) => rotator === postgres || rotator === redis))
  test(`${rotator.kind}: over TLS, too`, { skip: unlessCi(hasOpenssl() ? false : "no openssl") }, async () => {
    const home = mkdtempSync(join(tmpdir(), "rekey-flood-"));
    const caFile = makeCertificate(home);
    const [cert, key] = [readFileSync(caFile), readFileSync(join(home, "server.key"))];
    await using server = await floods(greeting, block, { cert, key, after: rotator === postgres ? "S" : "" });
    await endsFlood(rotator, server, { ssl: true, sslrootcert: caFile });
    rmSync(home, { recursive: true });
  });
