// After a start of the server its agents come back one after another: a call waits for one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AgentReturns } from "../../src/engine/agent-house.ts";
import { Breakers } from "../../src/engine/breaker.ts";
import { agentGoneMs, noteAgentAway, noteGoneAgents, saveSightings } from "../../src/store/agents.ts";
import { Hints } from "../../src/store/hints.ts";
import { agentWorld, newAgent } from "../support/far-agents.ts";
import { forEachStore } from "../support/stores.ts";

const gone = { outcome: "unreachable", message: /No agent of network plant is connected/ };

forEachStore((name, open) => {
  test(`${name}: a server that was away waits for agents to come back`, async () => {
    const sql = await open();
    const world = await agentWorld(sql);
    const agent = await newAgent(sql, world.now());
    world.clock.aheadMs += 10 * agentGoneMs;
    await assert.rejects(world.route().call(world.call()), gone, "it is up for long");
    const started = world.node(new Hints(), world.now());
    const asked = started.route().call(world.call());
    const seen = { agentId: agent.id, version: "1.0.0", kinds: ["postgres"], clockSkewMs: undefined };
    await sql.transaction((tx) => saveSightings(tx, [{ ...seen, atMs: world.now() }]));
    await world.work(agent, { status: "ok", result: "far" });
    assert.equal(await asked, "far");
    world.clock.aheadMs += 10 * agentGoneMs;
    await assert.rejects(started.route().call(world.call()), gone, "agents had the time to come");
  });

  test(`${name}: an agent that is new, or back, has the silent targets of its network tried again`, async () => {
    const sql = await open();
    let nowMs = Date.now();
    const breakers = new Breakers(() => nowMs);
    const returns = new AgentReturns({ sql, now: () => nowMs }, breakers);
    const [here, elsewhere] = ["plant+postgres://db:5432", "mill+postgres://db:5432"];
    const silence = () => {
      for (const target of [here, elsewhere]) for (let count = 0; count < 5; count++) breakers.note(target, "unreachable");
    };
    const seen = (agentId: string) =>
      sql.transaction((tx) =>
        saveSightings(tx, [{ agentId, atMs: nowMs, version: "1.0.0", kinds: ["postgres"], clockSkewMs: undefined }]),
      );
    /** What is tried again after a while. */
    const tried = async (afterMs: number) => {
      nowMs += afterMs;
      await returns.page();
      const free = [here, elsewhere].filter((target) => !breakers.silence(target));
      silence();
      return free;
    };
    silence();
    assert.deepEqual(await tried(20_000), []);
    const agent = await newAgent(sql, nowMs); // its first poll
    assert.deepEqual(await tried(1_000), [here]);
    await seen(agent.id);
    assert.deepEqual(await tried(20_000), [], "it was there all the time");
    nowMs += 1;
    await sql.transaction((tx) => noteAgentAway(tx, agent.id, nowMs));
    nowMs += 1;
    await seen(agent.id);
    assert.deepEqual(await tried(1), [here]);
    await sql.transaction((tx) => noteAgentAway(tx, agent.id, nowMs + 1));
    nowMs += 2;
    await seen(agent.id);
    assert.deepEqual(await tried(1), [], "one that comes and goes has them tried now and then");
    assert.deepEqual(await tried(10_000), [here]);
    nowMs += 2 * agentGoneMs;
    await seen(agent.id);
    assert.deepEqual(await tried(1), [here], "nothing was seen of it for long");
    nowMs += 2 * agentGoneMs;
    assert.equal(await noteGoneAgents(sql, nowMs, 10), 1);
    await seen(agent.id);
    assert.deepEqual(await tried(1), [here], "it was said to be gone");
  });
});
