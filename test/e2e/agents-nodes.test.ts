// Agents and several processes: polls are handed on to the one that writes, and any node may be asked for what another one queued.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type AgentClient, enrolAgent } from "../support/agent-client.ts";
import { nativeOk } from "../support/aws.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { runRekey } from "../support/processes.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { functionArn, rotationWorld } from "../support/rotation-e2e.ts";

const network = "plant";
let database: PostgresServer;

before(async () => {
  if (!postgresSkip) database = await startPostgres();
});
after(async () => database?.[Symbol.asyncDispose]());

/** A login of the database whose secret is reached through the network's agents. */
async function newSecret(server: RekeyServer) {
  const world = rotationWorld(server, database);
  const { SecretId } = await world.newSecret(await world.newLogin());
  await nativeOk(server, "rotations/put-policy", { secretId: SecretId, network });
  return { world, SecretId };
}

async function rotates(server: RekeyServer): Promise<void> {
  const { world, SecretId } = await newSecret(server);
  await world.root.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, "SingleUser") });
  const { state, reason } = await world.rotationOf(SecretId);
  assert.equal(state, "succeeded", reason);
  assert.equal(await world.logsIn(await world.value(SecretId)), true);
}

async function stateOf({ server, id }: AgentClient): Promise<unknown> {
  const { agents } = await nativeOk(server, "agents/list", { network });
  return (agents as { agentId: string; state: string }[]).find(({ agentId }) => agentId === id)?.state;
}

async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  const giveUpAt = Date.now() + 120_000;
  while (!(await holds())) {
    assert.ok(Date.now() < giveUpAt, `waited in vain for ${what}`);
    await sleep(50);
  }
}

/** A poll on a connection of its own, which can be cut. */
function pollAlone({ server, token }: AgentClient): { cut(): void } {
  const asking = request(`${server.endpoint}/rekey/v1/agents/poll`, {
    method: "POST",
    agent: new Agent(),
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
  });
  asking.on("error", () => undefined);
  asking.end(JSON.stringify({ version: "1.0.0", kinds: ["postgres"], most: 1, waitSeconds: 50 }));
  return { cut: () => asking.destroy() };
}

describe("agents of a server of several processes", { skip: postgresSkip }, () => {
  let server: RekeyServer;
  before(async () => {
    server = await startRekey({ flags: ["--processes", "3", "--settle-ms", "0"] });
  });
  after(async () => server?.[Symbol.asyncDispose]());

  test("their polls wait, hold up nobody, and bring work at once", async () => {
    const agents = [await enrolAgent(server, network), await enrolAgent(server, network, { name: "two" })];
    const idle = Array.from({ length: 12 }, async (_, index) => enrolAgent(server, "idle", { name: `idle-${index}` }));
    const waiting = (await Promise.all(idle)).map((agent) => agent.poll({ waitSeconds: 8 }));
    const serving = agents.map((agent) => agent.serve());
    await rotates(server);
    for (const one of serving) await one[Symbol.asyncDispose]();
    assert.ok((await Promise.all(waiting)).every(({ jobs }) => jobs.length === 0));
    for (const agent of agents) await nativeOk(server, "agents/revoke", { agentId: agent.id });
  });

  test("one whose connection breaks is away at once, whichever process it was at, and its queued work goes to another", async () => {
    const [gone, other] = [await enrolAgent(server, network), await enrolAgent(server, network, { name: "two" })];
    for (let round = 0; round < 4; round++) {
      const poll = pollAlone(gone);
      await sleep(200);
      assert.equal(await stateOf(gone), "live");
      poll.cut();
      await until(async () => (await stateOf(gone)) === "away", "its being away");
    }
    await using _serving = other.serve();
    await rotates(server);
    await gone.poll();
    assert.equal(await stateOf(gone), "live");
    await gone.poll({ leaving: true });
    assert.equal(await stateOf(gone), "away");
  });
});

describe("agents of nodes on one PostgreSQL", { skip: postgresSkip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-agents-"));
  let engine: RekeyServer;
  let door: RekeyServer;

  before(async () => {
    const url = await database.newDatabase();
    const { code, out, err } = await runRekey(["init", "--database-url", url, "--data", folder, "--json"]);
    assert.equal(code, 0, err);
    writeFileSync(join(folder, "root-credentials.json"), out, { mode: 0o600 });
    const flags = ["--database-url", url, "--settle-ms", "0"];
    engine = await startRekey({ dataFolder: folder, flags });
    door = await startRekey({ dataFolder: folder, flags: [...flags, "--engine", "off"] });
  });
  after(async () => {
    for (const node of [engine, door]) await node?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  test("an agent polls one node while the other one's engine rotates; enrolled there, it is known here", async () => {
    const agent = await enrolAgent(engine, network);
    const serving = agent.at(door).serve();
    await rotates(engine);
    await serving[Symbol.asyncDispose]();
    await using _elsewhere = agent.serve();
    await rotates(door);
  });

  test("one that was revoked at one node is refused at the other from then on", async () => {
    const agent = await enrolAgent(engine, network);
    await agent.at(door).poll();
    await nativeOk(engine, "agents/revoke", { agentId: agent.id });
    assert.equal((await agent.at(door).rawPoll()).json?.code, "UnrecognizedClientException");
  });
});
