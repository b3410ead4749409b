// Agents and their jobs: enrolled once, handed out by turns, taken over, answered once; and what is not their own is refused.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { RotatorError, ServiceError } from "../../src/core/error.ts";
import { newFarKeys } from "../../src/crypto/message-keys.ts";
import { openRequest } from "../../src/crypto/messages.ts";
import { abandonAllJobs, agentsWithJobs, findAgentJob, purgeAgentJobs } from "../../src/store/agent-jobs.ts";
import {
  agentGoneMs,
  chooseAgent,
  countAgentStates,
  findAgent,
  listAgents,
  noteAgentAway,
  noteGoneAgents,
  revokeAgent,
  saveSightings,
} from "../../src/store/agents.ts";
import { eventsAfter, firstPosition } from "../../src/store/event-list.ts";
import { Hints } from "../../src/store/hints.ts";
import { agentWorld, network, newAgent } from "../support/far-agents.ts";
import { forEachStore } from "../support/stores.ts";

const failing = (outcome: RotatorError["outcome"], text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof RotatorError, String(error));
  assert.equal(error.outcome, outcome);
  assert.match(error.message, text);
  return true;
};

forEachStore((name, open) => {
  describe(`agents: ${name}`, () => {
    test("a call is run by an agent, and nothing of it can be read in the store", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const asked = world.route().call(world.call({ fence: 9 }));
      const job = await world.next(agent);
      const [row] = await sql.query<{ message: string }>("select message from agent_jobs");
      assert.ok(row && !row.message.includes("s3cret"));
      const opened = await world.open(agent, job);
      assert.deepEqual(opened.body, { kind: "postgres", input: { password: "s3cret-in-a-message" } });
      assert.deepEqual([opened.step, opened.fence, opened.id], ["rotator.set", 9, job.id]);
      const reply = await opened.writeReply({ status: "ok", result: { answer: { new: "s3cret" } } });
      assert.equal(await world.reply(agent, job.id, reply), "taken");
      assert.deepEqual(await asked, { answer: { new: "s3cret" } });
      assert.equal(await world.reply(agent, job.id, reply), "known");
      assert.equal((await findAgentJob(sql, job.id))?.reply, null);
      assert.deepEqual(world.outcomes, ["answered"]);
    });

    test("the far side's failure is the call's", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const asked = assert.rejects(world.route().call(world.call()), failing("locked", /^account is locked$/));
      await world.work(agent, { status: "error", error: { class: "locked", message: "account is locked" } });
      await asked;
      assert.deepEqual(world.records, []);
    });

    test("agents that run the kind share the work by turns; who has least to do comes first", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const [one, two] = [await newAgent(sql, world.now()), await newAgent(sql, world.now(), { name: "two" })];
      await newAgent(sql, world.now(), { name: "three", kinds: ["post", "redis"] });
      await newAgent(sql, world.now(), { name: "four", of: "elsewhere" });
      const calls = [1, 2, 3, 4].map(() => world.route().call(world.call()));
      const ran = { one: 0, two: 0 };
      const drain = async (which: "one" | "two", agent: typeof one) => {
        for (const job of await world.take(agent)) {
          const opened = await world.open(agent, job);
          await world.reply(agent, job.id, await opened.writeReply({ status: "ok", result: which }));
          ran[which]++;
        }
      };
      while (ran.one + ran.two < 4) {
        await drain("one", one);
        await drain("two", two);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await Promise.all(calls);
      assert.ok(ran.one >= 1 && ran.two >= 1);
      assert.notEqual(await chosen(), await chosenAfterWork());

      async function chosen() {
        const wanted = { network, kind: "postgres", nowMs: world.now(), not: [], maxOpen: 9 };
        return (await chooseAgent(sql, wanted))?.id;
      }
      async function chosenAfterWork() {
        const first = (await chosen()) === one.id ? one : two;
        const asked = world.route().call(world.call());
        await world.work(first, { status: "ok", result: 1 });
        await asked;
        return chosen();
      }
    });

    test("a job that its agent does not fetch goes to another one; the first has nothing of it any more", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agents = [await newAgent(sql, world.now()), await newAgent(sql, world.now(), { name: "two" })];
      const asked = world.route().call(world.call());
      const slow = await agentWithJob();
      world.clock.aheadMs += 2_001;
      const other = agents.find(({ id }) => id !== slow);
      assert.ok(other);
      await world.work(other, { status: "ok", result: "done" });
      assert.equal(await asked, "done");
      const first = agents.find(({ id }) => id === slow);
      assert.ok(first && (await world.take(first)).length === 0);
      assert.deepEqual(world.outcomes, ["moved", "answered"]);

      async function agentWithJob(): Promise<string | undefined> {
        for (;;) {
          const [id] = await agentsWithJobs(sql, 10);
          if (id) return id;
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }
    });

    test("with one agent alone it waits there until its deadline, and tells that nothing was done", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const late = assert.rejects(world.route().call(world.call()), failing("unreachable", /did not fetch .* nothing was done/));
      while ((await agentsWithJobs(sql, 10)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      world.clock.aheadMs += 10_001;
      await late;
      assert.deepEqual(await world.take(agent), []);
      const away = assert.rejects(
        world.route().call(world.call()),
        failing("unreachable", /No agent of network plant took the call/),
      );
      while ((await agentsWithJobs(sql, 10)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      await sql.transaction((tx) => noteAgentAway(tx, agent.id, world.now()));
      await away;
    });

    test("one that took the call and is silent leaves it unknown, and its answer comes too late", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const asked = assert.rejects(world.route().call(world.call()), failing("timeout", /has the call and did not answer/));
      const job = await world.next(agent);
      const opened = await world.open(agent, job);
      const reply = await opened.writeReply({ status: "ok", result: 1 });
      world.clock.aheadMs += 10_001;
      assert.equal(await world.reply(agent, job.id, reply), "late");
      await asked;
      assert.equal(await world.reply(agent, job.id, reply), "late");
      assert.deepEqual(world.outcomes, ["silent"]);
    });

    test("a revoked agent's queued jobs move on; what it has is unknown, and it gets nothing more", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const unknown = assert.rejects(world.route().call(world.call()), failing("unknown", /was revoked while it had the call/));
      const held = await world.next(agent);
      const moved = world.route().call(world.call());
      while ((await agentsWithJobs(sql, 10)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const other = await newAgent(sql, world.now(), { name: "two" });
      const revoked = await sql.transaction((tx) => revokeAgent(tx, agent.id, world.now()));
      assert.deepEqual(revoked, { moved: 1 });
      await unknown;
      await world.work(other, { status: "ok", result: "by two" });
      assert.equal(await moved, "by two");
      assert.equal(await world.reply(agent, held.id, "anything"), "late");
      assert.deepEqual(await world.take(agent), []);
      assert.equal(await sql.transaction((tx) => revokeAgent(tx, agent.id, world.now())), undefined);
      assert.deepEqual(
        (await listAgents(sql, { network, after: "", limit: 9 })).map(({ id }) => id),
        [other.id],
      );
      assert.equal((await sql.query("select id from tokens where id = $1", [agent.id])).length, 0);
    });

    test("what an agent was sent and does not have it is sent again", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const asked = world.route().call(world.call());
      const job = await world.next(agent);
      assert.deepEqual(await world.take(agent, 5, [job.id]), []);
      assert.deepEqual(await world.take(agent, 0, [], "two"), [], "a copy of the agent does not know whether it was run");
      assert.deepEqual(await world.take(agent, 0), [job]);
      const opened = await world.open(agent, job);
      await world.reply(agent, job.id, await opened.writeReply({ status: "ok", result: 5 }));
      assert.equal(await asked, 5);
    });

    test("replies by another key, to another request or of another agent are not believed, and go on record", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const [agent, thief] = [await newAgent(sql, world.now()), await newFarKeys()];
      const holding: string[] = [];
      const forged = async (reply: (id: string, text: string) => Promise<string>) => {
        const asked = assert.rejects(world.route().call(world.call()), failing("unknown", /cannot be believed/));
        const job = await world.next(agent, holding);
        assert.equal(await world.reply(agent, job.id, await reply(job.id, job.message)), "taken");
        await asked;
        const record = world.records.pop();
        assert.deepEqual([record?.principal, record?.outcome], [agent.arn, "AccessDeniedException"]);
        return record?.parameters;
      };
      const ok = { status: "ok", result: 1 } as const;
      const openedBy = (keys: typeof thief, message: string) =>
        openRequest(message, { keys, keySet: world.keySet, audience: agent.arn, nowMs: world.now() });
      await forged(async (_id, message) => {
        const opened = await openedBy({ signing: thief.signing, sealing: agent.keys.sealing }, message);
        return opened.writeReply(ok);
      });
      const other = world.route().call(world.call());
      const otherJob = await world.next(agent);
      holding.push(otherJob.id);
      const otherOpened = await world.open(agent, otherJob);
      await forged(async () => otherOpened.writeReply(ok));
      await forged(async () => "not.a.reply");
      await world.reply(agent, otherJob.id, await otherOpened.writeReply(ok));
      assert.equal(await other, 1);
    });

    test("an agent answers its own jobs alone, and only those that it was sent", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const asked = world.route().call(world.call());
      while ((await agentsWithJobs(sql, 10)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const [row] = await sql.query<{ id: string }>("select id from agent_jobs");
      const id = String(row?.id);
      const other = await newAgent(sql, world.now(), { name: "two", kinds: ["redis"] });
      assert.equal(await world.reply(other, id, "forged"), "refused");
      assert.equal(await world.reply(agent, id, "before it was sent"), "refused");
      assert.equal(await world.reply(agent, randomUUID(), "never was"), "refused");
      const [job] = await world.take(agent);
      assert.ok(job);
      assert.equal(await world.reply(other, id, "forged"), "refused");
      const opened = await world.open(agent, job);
      await world.reply(agent, id, await opened.writeReply({ status: "ok", result: 2 }));
      assert.equal(await world.reply(other, id, "forged"), "refused");
      assert.equal(await asked, 2);
    });

    test("a refused message goes to another agent when it may be run twice, and else leaves it unknown", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const [one, two] = [
        await newAgent(sql, world.now()),
        await newAgent(sql, world.now(), { name: "two", kinds: ["postgres"] }),
      ];
      const asked = world.route().call(world.call());
      const refusing = await Promise.race([world.next(one), new Promise<undefined>((resolve) => setTimeout(resolve, 300))]);
      const [first, second] = refusing ? [one, two] : [two, one];
      const job = refusing ?? (await world.next(first));
      await world.reply(first, job.id, "too-old", "refused");
      await world.work(second, { status: "ok", result: "second" });
      assert.equal(await asked, "second");
      await sql.transaction((tx) => revokeAgent(tx, second.id, world.now()));
      const once = world.route().call(world.call({ repeatable: false }));
      const failed = assert.rejects(once, failing("unknown", /refused the call \(too-old\); look at its log/));
      await world.reply(first, (await world.next(first)).id, "too-old", "refused");
      await failed;
      assert.deepEqual(
        world.records.map(({ parameters }) => (parameters as { Refused: string }).Refused),
        ["too-old", "too-old"],
      );
    });

    test("a refusal of a stale claim is the agent's signed word, and goes on record", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const asked = assert.rejects(world.route().call(world.call()), failing("denied", /^A younger claim/));
      await world.work(agent, { status: "stale" });
      await asked;
      assert.deepEqual(
        world.records.map(({ outcome, parameters }) => [outcome, (parameters as { Refused: string }).Refused]),
        [["AccessDeniedException", "stale"]],
      );
    });

    test("nodes that share a store find jobs and answers of each other", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const asked = world.node(new Hints()).route().call(world.call());
      await world.work(agent, { status: "ok", result: "far" });
      assert.equal(await asked, "far");
    });

    test("without agents a call says what to do", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const fails = (text: RegExp) => assert.rejects(world.route().call(world.call()), failing("unreachable", text));
      await fails(/Network plant has no agent: make one with rekey agent enroll-token --network plant. Nothing was done/);
      const agent = await newAgent(sql, world.now(), { kinds: ["redis"] });
      await fails(/works at postgres, or all have too much to do/);
      world.clock.aheadMs += agentGoneMs;
      await fails(/No agent of network plant is connected; the one it has cannot be seen/);
      assert.deepEqual([...(await countAgentStates(sql, world.now()))], [["gone", 1]]);
      assert.equal(await noteGoneAgents(sql, world.now(), 10), 1);
      assert.equal(await noteGoneAgents(sql, world.now(), 10), 0);
      const sighting = { agentId: agent.id, version: "2.0.0", kinds: ["postgres"], clockSkewMs: -7 };
      await sql.transaction((tx) => saveSightings(tx, [{ ...sighting, atMs: world.now() }]));
      const back = await findAgent(sql, agent.id);
      assert.deepEqual([back?.goneAt, back?.version, back?.kinds, back?.clockSkewMs], [undefined, "2.0.0", ["postgres"], -7]);
      assert.deepEqual([...(await countAgentStates(sql, world.now()))], [["live", 1]]);
    });

    test("what a process that died had queued, or sent without its being received, is handed out no more", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const lost = [1, 2].map(() => assert.rejects(world.route().call(world.call()), failing("unknown", /revoked|given up/)));
      const sent = await world.next(agent);
      while ((await agentsWithJobs(sql, 10)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      await abandonAllJobs(sql);
      assert.deepEqual(await world.take(agent), []);
      assert.equal(await world.reply(agent, sent.id, "x"), "late");
      await Promise.all(lost);
    });

    test("jobs are removed some time after their deadlines, a page at a time", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      const calls = [1, 2, 3].map(() => world.route().call(world.call()));
      for (const _ of calls) await world.work(agent, { status: "ok", result: 1 });
      await Promise.all(calls);
      assert.equal(await purgeAgentJobs(sql, world.now(), 10), 0);
      world.clock.aheadMs += 11 * 60_000;
      assert.equal(await purgeAgentJobs(sql, world.now(), 2), 2);
      assert.equal(await purgeAgentJobs(sql, world.now(), 2), 1);
      assert.equal(await purgeAgentJobs(sql, world.now(), 2), 0);
    });

    test("a network has so many agents and no more; events tell of their comings and goings", async () => {
      const sql = await open();
      const world = await agentWorld(sql);
      const agent = await newAgent(sql, world.now());
      await sql.query(
        `insert into agents (id, arn, network, name, signing_key, sealing_key, version, kinds, enrolled_by, enrolled_at, seen_at)
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 999)
         select 'agent-' || i, 'arn', $1, 'x', '{}', '{}', '1', ' ', 'me', 1, 1 from n`,
        [network],
      );
      await assert.rejects(
        newAgent(sql, world.now()),
        (error) => error instanceof ServiceError && error.code === "LimitExceededException",
      );
      await sql.transaction((tx) => revokeAgent(tx, agent.id, world.now()));
      await newAgent(sql, world.now());
      assert.equal(await noteGoneAgents(sql, world.now(), 500), 500);
      assert.equal(await noteGoneAgents(sql, world.now(), 500), 499);
      const types = (await eventsAfter(sql, firstPosition, 1000)).map(({ type }) => type);
      assert.deepEqual(
        [types[0], types.length, types.filter((type) => type === "agent.gone").length],
        ["agent.revoked", 1000, 999],
      );
    });
  });
});
