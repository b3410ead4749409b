// The keys that requests to agents and functions are signed with, through the real program.
import assert from "node:assert/strict";
import { createPublicKey } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { readKeySet } from "../../src/crypto/message-keys.ts";
import { native, nativeOk } from "../support/aws.ts";
import { commandLine, run } from "../support/cli.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-signing-"));
after(() => rmSync(folder, { recursive: true }));

async function published(endpoint: string): Promise<{ keys: Record<string, string>[]; answer: Response }> {
  const answer = await fetch(`${endpoint}/.well-known/jwks.json`);
  return { keys: ((await answer.json()) as { keys: Record<string, string>[] }).keys, answer };
}
const kids = (keys: readonly { kid?: string }[]) => keys.map(({ kid }) => kid);

describe("on the embedded store", () => {
  it("one is there from the first start; rotated, both are published, and both are there after a restart", async () => {
    const dataFolder = join(folder, "data");
    let old: string | undefined;
    {
      await using server = await startRekey({ dataFolder });
      const { keys, answer } = await published(server.endpoint);
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get("cache-control"), "public, max-age=240");
      assert.match(answer.headers.get("content-type") ?? "", /^application\/jwk-set\+json/);
      assert.deepEqual(
        keys.map((key) => Object.keys(key).sort()),
        [["alg", "crv", "kid", "kty", "use", "x", "y"]],
      );
      assert.deepEqual(kids((await readKeySet({ keys })) ?? []), kids(keys), "the id of a key follows from its numbers");
      old = keys[0]?.kid;
      const { keyId, state } = await nativeOk(server, "signing-keys/rotate", {});
      assert.equal(state, "published");
      assert.deepEqual(kids((await published(server.endpoint)).keys), [old, keyId]);
      const again = await native(server, "signing-keys/rotate", {});
      assert.equal(again.status, 400);
      assert.match(JSON.stringify(again), /is published and signs from/);
      const records = JSON.stringify(await nativeOk(server, "audit/search", { action: "rekey:RotateSigningKey" }));
      assert.ok(records.includes("InvalidRequestException"), records);
      const { events } = await nativeOk(server, "events/list", {});
      assert.ok(JSON.stringify(events).includes('"signing-key.rotated"'));
    }
    await using server = await startRekey({ dataFolder, flags: ["--processes", "2"] });
    for (let n = 0; n < 6; n += 1) {
      const { keys } = await published(server.endpoint);
      assert.equal(keys.length, 2);
      assert.equal(keys[0]?.kid, old);
    }
    await commands(server);
  });
});

async function commands(server: RekeyServer): Promise<void> {
  const cli = commandLine(server.endpoint, server.credentials.token, folder);
  const { keys } = await published(server.endpoint);
  const listed = await cli.ask("signing-key list");
  assert.match(listed, /published/);
  assert.match(listed, /signing/);
  assert.deepEqual(JSON.parse((await cli.run("signing-key export")).out), { keys });
  const pem = await cli.ask("signing-key export --format pem");
  const [first = ""] = pem.split("-----END PUBLIC KEY-----");
  const { x, y } = createPublicKey(`${first}-----END PUBLIC KEY-----\n`).export({ format: "jwk" });
  assert.deepEqual([x, y], [keys[0]?.x, keys[0]?.y]);
}

describe("on PostgreSQL", { skip: postgresSkip }, () => {
  it("nodes that start at once have one key, and learn of its rotation", async () => {
    await using postgres = await startPostgres();
    const databaseUrl = await postgres.newDatabase();
    const dataFolder = join(folder, "node");
    const init = await run(["init", "--data", dataFolder, "--json"], { env: { REKEY_DATABASE_URL: databaseUrl } });
    assert.equal(init.code, 0, init.err);
    writeFileSync(join(dataFolder, "root-credentials.json"), init.out);
    const client = new pg.Client(databaseUrl);
    await client.connect();
    await client.query("delete from signing_keys"); // as if init had been another version's
    await client.end();
    const options = { dataFolder, env: { REKEY_DATABASE_URL: databaseUrl } };
    await using stack = new AsyncDisposableStack();
    const nodes = await Promise.all([1, 2].map(async () => stack.use(await startRekey(options))));
    const [one, two] = await Promise.all(nodes.map(({ endpoint }) => published(endpoint)));
    assert.equal(one?.keys.length, 1);
    assert.deepEqual(one?.keys, two?.keys);
    const cli = commandLine(nodes[0]?.endpoint ?? "", JSON.parse(init.out).token, folder);
    assert.match(await cli.ask("signing-key rotate --signs-in 2h"), /is published, and signs from/);
    await sleep(1_100); // how long a process keeps what it read
    const seen = await published(nodes[1]?.endpoint ?? "");
    assert.deepEqual(kids(seen.keys).slice(0, 1), kids(one?.keys ?? []));
    assert.equal(seen.keys.length, 2);
  });
});
