// What a stranger, a thief of a token or a hostile agent may try at the server: each is refused, and on record.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { type FarKeys, newFarKeys } from "../../src/crypto/message-keys.ts";
import { openRequest } from "../../src/crypto/messages.ts";
import { type AgentClient, askToEnrol, enrolAgent, type HandedOut, newEnrolment } from "../support/agent-client.ts";
import { native, nativeOk, newName } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());

const rotationLambdaArn = `arn:aws:lambda:us-east-1:${server.credentials.account}:function:SecretsManagerRDSPostgreSQLRotationSingleUser`;

interface Recorded {
  readonly action: string;
  readonly outcome: string;
  readonly principal: string;
  readonly resource: string;
  readonly parameters: Record<string, unknown>;
}

/** Records of an action since `from`, the newest first, once there are `count`: those of changes come a moment later. */
async function recorded(action: string, from: number, count = 1): Promise<Recorded[]> {
  for (let looks = 0; ; looks++) {
    const { records } = await nativeOk(server, "audit/search", { action, from: new Date(from).toISOString(), limit: 100 });
    const found = records as Recorded[];
    if (found.length >= count || looks === 1_200) return found;
    await pause(100);
  }
}

const code = ({ json }: { json: Record<string, unknown> | undefined }) => json?.code;

describe("enrolment tokens", () => {
  test("one is used once; asking again with the same keys, as after a lost answer, gives another token", async () => {
    const from = Date.now();
    const enrolment = await newEnrolment(server, "used-twice");
    const keys = await newFarKeys();
    const first = await askToEnrol(server, enrolment.secret, { keys });
    const again = await askToEnrol(server, enrolment.secret, { keys });
    assert.deepEqual([first.status, again.status], [200, 200]);
    assert.notEqual(first.json?.message, again.json?.message);
    const thief = await askToEnrol(server, enrolment.secret);
    assert.deepEqual([thief.status, code(thief)], [409, "PreconditionNotMetException"]);
    assert.match(String(thief.json?.detail), /used before; make another one: rekey agent enroll-token/);
    const outcomes = (await recorded("rekey:EnrolAgent", from, 3)).map(({ outcome }) => outcome);
    assert.deepEqual(outcomes, ["PreconditionNotMetException", "ok", "ok"]);
    const { agents } = await nativeOk(server, "agents/list", { network: "used-twice" });
    assert.equal((agents as object[]).length, 1);
  });

  test("once its agent has polled, it is over for the same keys too", async () => {
    const keys = await newFarKeys();
    const enrolment = await newEnrolment(server, "polled");
    const agent = await enrolAgent(server, "polled", { keys: await newFarKeys() });
    await agent.poll();
    assert.equal((await askToEnrol(server, enrolment.secret, { keys })).status, 200);
    // `agent`'s own enrolment is spent: its keys do not open another's.
    assert.equal(code(await askToEnrol(server, enrolment.secret, { keys: agent.keys })), "PreconditionNotMetException");
  });

  test("guessed and unknown ones are refused, as is any other token", async () => {
    const from = Date.now();
    const guessed = await askToEnrol(server, `dp.ae.${"A".repeat(40)}`);
    assert.deepEqual([guessed.status, code(guessed)], [401, "UnrecognizedClientException"]);
    const agent = await enrolAgent(server, "guessed");
    assert.equal(code(await askToEnrol(server, agent.token)), "AccessDeniedException");
    assert.equal(code(await askToEnrol(server, server.credentials.token)), "AccessDeniedException");
    const outcomes = (await recorded("rekey:EnrolAgent", from, 3)).map(({ outcome }) => outcome);
    assert.deepEqual(outcomes, ["AccessDeniedException", "AccessDeniedException", "ok"]);
  });

  test("one is good for its network, and for nothing else", async () => {
    const enrolment = await newEnrolment(server, "bound");
    const calls: [string, object][] = [
      ["agents/create-enrolment", { network: "bound" }],
      ["agents/poll", { version: "1", kinds: [], most: 1, waitSeconds: 0 }],
      ["agents/answer", { answers: [{ id: "x", reply: "y" }] }],
      ["agents/list", {}],
      ["me/get", {}],
      ["secrets/list", {}],
    ];
    for (const [path, members] of calls)
      assert.equal(code(await native(server, path, members, enrolment.secret)), "AccessDeniedException", path);
    const answer = await askToEnrol(server, enrolment.secret, { name: "x" });
    assert.equal(answer.status, 200);
    const { agents } = await nativeOk(server, "agents/list", { network: "bound" });
    assert.deepEqual(
      (agents as { network: string }[]).map(({ network }) => network),
      ["bound"],
    );
  });

  test("keys that are none, or one for both uses, enrol nobody", async () => {
    const { secret } = await newEnrolment(server, "keys");
    const keys = await newFarKeys();
    const same = await askToEnrol(server, secret, { keys: { signing: keys.signing, sealing: keys.signing } });
    assert.deepEqual([same.status, code(same)], [400, "ValidationException"]);
    const members = { name: "x", version: "1", kinds: [], keys: { signing: { kty: "oct", k: "AAAA" }, sealing: { kty: "RSA" } } };
    assert.equal(code(await native(server, "agents/enrol", members, secret)), "ValidationException");
    assert.equal((await askToEnrol(server, secret, { keys })).status, 200);
  });

  test("nobody makes one for a network that is not there, or without the right to", async () => {
    const refused = await native(server, "agents/create-enrolment", { network: "nowhere" });
    assert.deepEqual([refused.status, code(refused)], [404, "ResourceNotFoundException"]);
    const short = await native(server, "agents/create-enrolment", { network: "bound", expiresInSeconds: 1 });
    assert.equal(code(short), "ValidationException");
  });
});

describe("an agent's token", () => {
  test("is good for its own jobs, and for nothing else", async () => {
    const from = Date.now();
    const agent = await enrolAgent(server, "own");
    const name = newName();
    await nativeOk(server, "secrets/create", { name, secretString: "v" });
    const calls: [string, object][] = [
      ["agents/list", {}],
      ["agents/revoke", { agentId: agent.id }],
      ["agents/create-enrolment", { network: "own" }],
      ["networks/list", {}],
      ["secrets/get-value", { secretId: name }],
      ["secrets/list", {}],
      ["users/create", { userName: "x" }],
      ["me/get", {}],
      ["sts/get-caller-identity", {}],
      ["audit/search", {}],
    ];
    for (const [path, members] of calls) {
      const answer = await agent.ask(path, members);
      assert.deepEqual([answer.status, code(answer)], [403, "AccessDeniedException"], `${path} ${answer.text}`);
    }
    assert.ok(
      (await recorded("rekey:RevokeAgent", from)).some(
        ({ outcome, principal }) => outcome === "AccessDeniedException" && principal === agent.arn,
      ),
    );
    const v3 = await fetch(`${server.endpoint}/v3/me`, { headers: { authorization: `Bearer ${agent.token}` } });
    assert.ok(v3.status === 401 || v3.status === 403, String(v3.status));
    await agent.poll();
  });

  test("cannot be had by polling as another: who holds other tokens is no agent", async () => {
    const members = { version: "1", kinds: [], most: 1, waitSeconds: 0 };
    assert.equal(code(await native(server, "agents/poll", members)), "AccessDeniedException");
    const agent = await enrolAgent(server, "another");
    const named = await agent.rawPoll({ agentId: "somebody-else" });
    assert.deepEqual([named.status, code(named)], [400, "ValidationException"]);
  });

  test("is refused from its revocation on, also for a poll that waits", async () => {
    const agent = await enrolAgent(server, "revoked");
    const waiting = agent.rawPoll({ waitSeconds: 30 });
    await new Promise((resolve) => setTimeout(resolve, 200));
    const { movedJobs } = await nativeOk(server, "agents/revoke", { agentId: agent.id });
    assert.equal(movedJobs, 0);
    assert.deepEqual([(await waiting).status, code(await waiting)], [401, "UnrecognizedClientException"]);
    assert.equal(code(await agent.rawPoll()), "UnrecognizedClientException");
    const again = await native(server, "agents/revoke", { agentId: agent.id });
    assert.deepEqual([again.status, code(again)], [404, "ResourceNotFoundException"]);
  });
});

describe("polls and answers", () => {
  test("a flood of polls that find nothing is refused, on record, and each poll of an agent ends the one before", async () => {
    const from = Date.now();
    const agent = await enrolAgent(server, "flood");
    const waiting = agent.rawPoll({ waitSeconds: 40 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    const answered: number[] = [];
    const flood = Array.from({ length: 60 }, async () => {
      answered.push((await agent.rawPoll({ waitSeconds: 40 })).status);
    });
    for (const giveUpAt = Date.now() + 38_000; answered.length < flood.length - 1; await pause(20))
      assert.ok(Date.now() < giveUpAt, `one waits at most: ${answered}`);
    assert.equal((await waiting).status, 200);
    assert.ok(answered.includes(429), String(answered));
    await nativeOk(server, "agents/revoke", { agentId: agent.id }); // which ends the last one
    await Promise.all(flood);
    const outcomes = (await recorded("rekey:PollAgentJobs", from)).map(({ outcome }) => outcome);
    assert.ok(outcomes.includes("ThrottlingException") && !outcomes.includes("ok"), "empty polls leave no record");
  });

  test("of a copied folder: the newest process is the agent; an older one that goes on is refused, and both are told of", async () => {
    const from = Date.now();
    const agent = await enrolAgent(server, "copied");
    const seen = async () => {
      const { agents } = await nativeOk(server, "agents/list", { network: "copied" });
      return (agents as { state: string; copiedAt?: string }[])[0] ?? assert.fail();
    };
    await agent.poll({ session: "one" });
    const hanging = agent.rawPoll({ session: "one", waitSeconds: 50 });
    await pause(300);
    await agent.poll({ session: "two" });
    assert.equal((await hanging).status, 200, "a process that was ended may have left a poll");
    assert.equal((await seen()).copiedAt, undefined, "a restart is no copy");
    for (const more of [{}, { leaving: true }, { waitSeconds: 50 }]) {
      const refused = await agent.rawPoll({ session: "one", ...more });
      assert.deepEqual([refused.status, code(refused)], [409, "PreconditionNotMetException"]);
      assert.match(String(refused.json?.detail), /Another process with the keys of this agent has taken its place/);
    }
    assert.equal(code(await agent.rawPoll({ session: "no name" })), "ValidationException");
    const { state, copiedAt } = await seen();
    assert.equal(state, "live", "the older one's goodbye is not the agent's");
    assert.ok(Date.parse(String(copiedAt)) >= from);
    const refusals = (await recorded("rekey:PollAgentJobs", from, 4)).filter(({ principal }) => principal === agent.arn);
    assert.equal(refusals.filter(({ outcome }) => outcome === "PreconditionNotMetException").length, 3);
    await agent.poll({ session: "two" });
    await agent.poll({ session: "three" });
    assert.equal(code(await agent.rawPoll({ session: "two" })), "PreconditionNotMetException");
    assert.equal(code(await agent.rawPoll({ session: "one" })), "PreconditionNotMetException");
    assert.equal(code(await agent.rawPoll()), undefined, "one that names none is one of its own");
    assert.equal(code(await agent.rawPoll({ session: "three" })), "PreconditionNotMetException");
  });

  test("answers to jobs that are not one's own are refused and on record, each by itself", async () => {
    const from = Date.now();
    const agent = await enrolAgent(server, "strange");
    assert.deepEqual(
      await agent.answer([
        { id: "never-was", reply: "x" },
        { id: "nor-this", refused: "too-old" },
      ]),
      {
        "never-was": "refused",
        "nor-this": "refused",
      },
    );
    const denied = (await recorded("rekey:AnswerAgentJobs", from, 3)).filter(
      ({ outcome }) => outcome === "AccessDeniedException",
    );
    assert.deepEqual(denied.map(({ parameters }) => parameters.Job).sort(), ["never-was", "nor-this"]);
    assert.ok(denied.every(({ principal }) => principal === agent.arn));
  });

  test("what is larger, longer or of another shape than allowed is refused, and on record without its values", async () => {
    const from = Date.now();
    const agent = await enrolAgent(server, "shapes");
    const refused: [string, object][] = [
      ["agents/answer", { answers: [] }],
      ["agents/answer", { answers: [{ id: "a" }] }],
      ["agents/answer", { answers: [{ id: "a", reply: "b", refused: "c" }] }],
      ["agents/answer", { answers: [{ id: "a", refused: "Not A Reason\u001b[2J" }] }],
      ["agents/answer", { answers: Array.from({ length: 65 }, (_, index) => ({ id: `a${index}`, reply: "marked-reply" })) }],
      ["agents/answer", { answers: [{ id: "a", reply: "marked-reply".repeat(25_000) }] }],
      ["agents/poll", { version: "1", kinds: ["postgres %"], most: 1, waitSeconds: 0 }],
      ["agents/poll", { version: "1\u001b[2J", kinds: [], most: 1, waitSeconds: 0 }],
      ["agents/poll", { version: "1", kinds: [], most: 65, waitSeconds: 0 }],
      ["agents/poll", { version: "1", kinds: [], most: 1, waitSeconds: 51 }],
      ["agents/poll", { version: "1", kinds: [], most: 1, waitSeconds: 0, holding: Array.from({ length: 257 }, String) }],
    ];
    for (const [path, members] of refused) {
      const answer = await agent.ask(path, members);
      assert.deepEqual([answer.status, code(answer)], [400, "ValidationException"], `${path} ${answer.text.slice(0, 200)}`);
      assert.ok(!answer.text.includes("marked-reply"));
    }
    const huge = await agent.ask("agents/answer", { answers: [{ id: "a", reply: "x".repeat(1_100_000) }] });
    assert.deepEqual([huge.status, code(huge)], [413, "RequestEntityTooLarge"]);
    const records = [...(await recorded("rekey:AnswerAgentJobs", from)), ...(await recorded("rekey:PollAgentJobs", from))];
    assert.equal(records.filter(({ outcome }) => outcome === "ValidationException").length, refused.length);
    assert.ok(!JSON.stringify(records).includes("marked-reply"));
  });
});

describe("an agent that is hostile", () => {
  test("neither ends a rotation nor changes a secret by replies that are not its own to give", async () => {
    const from = Date.now();
    const agent = await enrolAgent(server, "hostile");
    const other = await enrolAgent(server, "elsewhere");
    const credential = { engine: "postgres", host: "db.internal", port: 5432, username: "app", password: "in-force" };
    const { arn: secretId } = await nativeOk(server, "secrets/create", {
      name: newName(),
      secretString: JSON.stringify(credential),
    });
    await nativeOk(server, "rotations/put-policy", { secretId, network: "hostile" });
    await nativeOk(server, "secrets/rotate", { secretId, rotationLambdaArn });
    const job = await agent.next();
    assert.ok(!job.message.includes("in-force"));
    await assert.rejects(other.open(job), /unreadable|sealed/);
    assert.deepEqual(await other.answer([{ id: job.id, reply: "x" }]), { [job.id]: "refused" });
    const request = await agent.open(job);
    const forged = await (await openedBy({ ...other.keys, sealing: agent.keys.sealing }, agent, job)).writeReply({
      status: "ok",
      result: { answer: null },
    });
    assert.deepEqual(
      await agent.answer([
        { id: job.id, reply: forged },
        { id: job.id, reply: forged },
      ]),
      { [job.id]: "known" },
    );
    const next = await agent.next();
    assert.notEqual(next.id, job.id);
    assert.deepEqual(await agent.answer([{ id: job.id, reply: await request.writeReply({ status: "ok", result: null }) }]), {
      [job.id]: "known",
    });
    await agent.answer([{ id: next.id, reply: await request.writeReply({ status: "ok", result: null }) }]);
    const denied = (await recorded("rekey:AnswerAgentJobs", from, 7)).filter(
      ({ outcome }) => outcome === "AccessDeniedException",
    );
    const by = (arn: string) => denied.filter(({ principal }) => principal === arn).map(({ parameters }) => parameters.Reply);
    assert.deepEqual([by(other.arn), by(agent.arn).sort()], [[undefined], ["unknown-key", "unreadable"]]);
    const { rotations } = await nativeOk(server, "rotations/list", { secretId });
    assert.equal((rotations as { state: string }[])[0]?.state, "running");
    const { secretString } = await nativeOk(server, "secrets/get-value", { secretId });
    assert.equal(JSON.parse(String(secretString)).password, "in-force");
  });
});

const openedBy = (keys: FarKeys, { keySet, arn }: AgentClient, { message }: HandedOut) =>
  openRequest(message, { keys, keySet, audience: arn, nowMs: Date.now() });

const pause = (ms: number) => new Promise<undefined>((resolve) => setTimeout(resolve, ms));
