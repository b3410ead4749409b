// What agents have the store do goes by index: with a thousand of them it costs as little as with one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { findEnrolment, purgeEnrolments } from "../../src/store/agent-enrolments.ts";
import { agentsWithJobs, anyAgentJob, purgeAgentJobs } from "../../src/store/agent-jobs.ts";
import {
  chooseAgent,
  countAgents,
  findAgent,
  findNewAgent,
  listAgents,
  noteAgentAway,
  noteGoneAgents,
  revokeAgent,
} from "../../src/store/agents.ts";
import { agentWorld, network, newAgent } from "../support/far-agents.ts";
import { fullScans, recording, smallTables } from "../support/plans.ts";
import { forEachStore } from "../support/stores.ts";

forEachStore((name, open) => {
  test(`agents go by index: ${name}`, async () => {
    const store = await open();
    const { sql, statements } = recording(store);
    const world = await agentWorld(sql);
    const agent = await newAgent(sql, world.now());
    const asked = world.route().call(world.call());
    await world.work(agent, { status: "ok", result: 1 });
    await asked;
    await anyAgentJob(sql, { agentId: agent.id, session: "one", holding: [], most: 1, nowMs: 1 });
    await agentsWithJobs(sql, 10);
    await chooseAgent(sql, { network, kind: "postgres", nowMs: 1, not: [], maxOpen: 1 });
    await countAgents(sql, network, 1);
    await findAgent(sql, "id");
    await findNewAgent(sql, "id");
    await findEnrolment(sql, "id");
    for (const named of [network, undefined]) await listAgents(sql, { network: named, after: "", limit: 1 });
    world.clock.aheadMs += 86_400_000;
    await noteGoneAgents(sql, world.now(), 10);
    await purgeAgentJobs(sql, world.now(), 10);
    await purgeEnrolments(sql, world.now(), 10);
    await sql.transaction((tx) => noteAgentAway(tx, agent.id, world.now()));
    await sql.transaction((tx) => revokeAgent(tx, agent.id, world.now()));
    const scans: string[] = [];
    for (const text of statements)
      for (const step of await fullScans(store, text)) if (!smallTables.test(step)) scans.push(`${step}: ${text}`);
    assert.deepEqual(scans, []);
  });
});
