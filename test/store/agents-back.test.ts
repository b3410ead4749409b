// After a start of the server its agents come back one after another: a call waits for one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { agentGoneMs, saveSightings } from "../../src/store/agents.ts";
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
});
