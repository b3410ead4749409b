// What somebody may try at an agent who has its server's address, its network, or its server: nothing is run that is not the server's own.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CompactEncrypt, type JWK } from "jose";
import { RotatorError } from "../../src/core/error.ts";
import {
  imported,
  importSigningKey,
  newFarKeys,
  newPrivateJwk,
  publicFarKeys,
  publicJwk,
} from "../../src/crypto/message-keys.ts";
import { endorse } from "../../src/crypto/signing-key-chain.ts";
import { type AgentProcess, startAgent } from "../support/agent-process.ts";
import { type CountingTarget, type HostileServer, startCountingTarget, startHostileServer } from "../support/hostile-server.ts";
import { unlessCi } from "../support/server-process.ts";

const noPrlimit = spawnSync("prlimit", ["--version"]).status === 0 ? false : unlessCi("prlimit of util-linux is not there");
const dataFolder = mkdtempSync(join(tmpdir(), "rekey-agent-"));
let target: CountingTarget;
let server: HostileServer;
let agent: AgentProcess;

before(async () => {
  target = await startCountingTarget();
  server = await startHostileServer(target);
  const flags = ["--server", server.url, "--enroll", server.token, "--allow", `postgres://127.0.0.1:${target.port}`];
  agent = await startAgent({ dataFolder, flags });
});
after(async () => {
  await agent?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  await target?.[Symbol.asyncDispose]();
  rmSync(dataFolder, { recursive: true });
});

/** A job that must be run: its reply tells that the target ended the connection. */
async function runs(by?: { key: JWK }): Promise<void> {
  const before = target.connections;
  const job = await server.send({}, by);
  const { reply = "" } = await server.answer(job.id);
  const result = (await job.openReply(reply, Date.now() + server.clockAheadMs)) as { answer: string };
  assert.notEqual(result.answer, "ok");
  assert.ok(target.connections > before);
}

/** Hands out a message under the id of a job, and gives what the agent says to that. */
async function handOut(message: string, id: string = randomUUID()): Promise<string | undefined> {
  const before = target.connections;
  server.jobs.push({ id, message });
  const { refused: reason } = await server.answer(id);
  assert.equal(target.connections, before, "nothing was run");
  await agent.logged(new RegExp(`${id}.*a job was refused`));
  return reason;
}

async function sealed(text: string): Promise<string> {
  const header = { alg: "ECDH-ES", enc: "A256GCM", cty: "JWT" };
  const key = await imported(server.agent().keys.sealing, "enc");
  return new CompactEncrypt(new TextEncoder().encode(text)).setProtectedHeader(header).encrypt(key);
}

/** The reply to a job that is signed and sealed as it must be, and still not run. */
async function declined(changes: Parameters<HostileServer["send"]>[0]): Promise<{ outcome: string; message: string }> {
  const before = target.connections;
  const job = await server.send(changes);
  const { reply = "" } = await server.answer(job.id);
  const error = await job.openReply(reply, Date.now()).catch((thrown: unknown) => thrown);
  assert.ok(error instanceof RotatorError);
  assert.equal(target.connections, before, "nothing was run");
  return { outcome: error.outcome, message: error.message };
}

test("a good job is run", async () => runs());

test("what is not signed, or not sealed, is refused", async () => {
  assert.equal(await handOut('{"kind":"postgres"}'), "unreadable");
  const { text } = await server.write();
  assert.equal(await handOut(`${text.slice(0, -8)}AAAAAAAA`), "unreadable");
  assert.equal(await handOut(await sealed('{"kind":"postgres"}')), "unreadable");
  const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.e30.`;
  assert.equal(await handOut(await sealed(none)), "algorithm");
});

test("what another key signed, or is sealed to another agent, or addressed to it, is refused", async () => {
  const stranger = await server.write({}, { key: await newPrivateJwk("sig") });
  assert.equal(await handOut(stranger.text, stranger.id), "unknown-key");
  const others = await server.write({}, { receiver: publicFarKeys(await newFarKeys()) });
  assert.match(String(await handOut(others.text, others.id)), /other-receiver|unreadable/);
  const audience = "arn:aws:rekey:us-east-1:000000000000:agent/a2";
  const addressed = await server.write({ audience });
  assert.equal(await handOut(addressed.text, addressed.id), "audience");
  const foreign = await server.write({}, { issuer: "install2" });
  assert.equal(await handOut(foreign.text, foreign.id), "issuer");
});

test("what is of the past or the future, too large, or under another id, is refused", async () => {
  const old = await server.write({ expiresAt: Date.now() + 10_000 }, { nowMs: Date.now() - 40_000 });
  assert.equal(await handOut(old.text, old.id), "too-old");
  const early = await server.write({}, { nowMs: Date.now() + 40_000 });
  assert.equal(await handOut(early.text, early.id), "too-early");
  const expired = await server.write({ expiresAt: Date.now() - 1 });
  assert.equal(await handOut(expired.text, expired.id), "expired");
  assert.equal(await handOut("x".repeat(300_000)), "too-large");
  const { text } = await server.write();
  assert.equal(await handOut(text), "other-job");
});

test("a job for a target outside of the allow-list is refused, by every address in it", async () => {
  const credential = (host: string, port: number) => ({
    engine: "postgres",
    username: "u",
    password: "p",
    dbname: "d",
    host,
    port,
  });
  const here = credential("127.0.0.1", target.port);
  for (const [host, port] of [
    ["127.0.0.2", target.port],
    ["localhost", target.port],
    ["127.0.0.1", 1],
    ["169.254.169.254", 80],
  ] as const) {
    const probe = { kind: "postgres", input: { credential: credential(host, port) } };
    assert.deepEqual((await declined({ body: probe })).outcome, "denied", host);
    const versions = { current: here, admin: credential(host, port), pending: here };
    const set = { kind: "postgres", input: { versions, strategy: "single-user" } };
    const { outcome, message } = await declined({ step: "rotator.set", body: set });
    assert.equal(outcome, "denied");
    assert.match(message, /not on the allow-list/);
  }
  const mysql = { kind: "mysql", input: { credential: { ...here, engine: "mysql" } } };
  assert.equal((await declined({ body: mysql })).outcome, "denied", "another kind of target at the same address");
});

test("what an agent of this version does not know is told as such", async () => {
  const told: { outcome: string; message: string }[] = [];
  for (const changes of [
    { body: { kind: "postgres", input: {}, hurry: true } },
    { type: "rekey.dance" },
    { step: "rotator.dance", body: { kind: "postgres", input: {} } },
    { body: { kind: "clay-tablet", input: { credential: {} } } },
  ])
    told.push(await declined(changes));
  for (const { outcome, message } of told) {
    assert.equal(outcome, "invalid");
    assert.match(message, /[Uu]pdate/, message);
  }
});

test("a job that comes again gets the same reply, also after the agent was started again, and is not run again", async () => {
  const job = await server.send();
  const first = await server.answer(job.id);
  const before = target.connections;
  server.jobs.push({ id: job.id, message: job.text });
  assert.deepEqual(await server.answer(job.id, 2), first);
  await agent.stop("SIGKILL");
  agent = await startAgent({ dataFolder });
  server.jobs.push({ id: job.id, message: job.text });
  assert.deepEqual(await server.answer(job.id, 3), first);
  assert.equal(target.connections, before);
});

test("an older claim on the same work is refused, also after the agent was started again", async () => {
  const subject = randomUUID();
  const job = await server.send({ subject, fence: 7 });
  await server.answer(job.id);
  assert.equal((await declined({ subject, fence: 6 })).outcome, "denied");
  await agent.stop("SIGTERM");
  agent = await startAgent({ dataFolder });
  assert.equal((await declined({ subject, fence: 6 })).outcome, "denied");
  const same = await server.send({ subject, fence: 7 });
  assert.ok((await server.answer(same.id)).reply);
});

test("an answer that is lost is told again", async () => {
  let lost = 0;
  server.disturb = (operation, response) => {
    if (operation !== "answer" || lost === 2) return false;
    lost += 1;
    if (lost === 1) response.destroy();
    else response.writeHead(500).end("broken");
    return true;
  };
  await runs();
  assert.equal(lost, 2);
  server.disturb = undefined;
});

test("what is not an answer of Rekey does not end the agent, and it goes to no other place", async () => {
  await using elsewhere = await startCountingTarget();
  const { promise: polledAgain, resolve: pollsAgain } = Promise.withResolvers<void>();
  const answers: ((response: ServerResponse) => void)[] = [
    (response) => response.writeHead(200).end("<html>"),
    (response) => response.writeHead(200).end("[]"),
    (response) => response.writeHead(200).end('{"jobs":[{"id":1}],"serverTime":"now","keys":[]}'),
    (response) => response.writeHead(302, { location: `http://127.0.0.1:${elsewhere.port}/` }).end("{}"),
    (response) => response.writeHead(200).end(`{"jobs":"${"x".repeat(9_000_000)}"}`),
    (response) => response.destroy(),
  ];
  server.disturb = (operation, response) => {
    const answer = operation === "poll" ? answers.shift() : undefined;
    answer?.(response);
    if (operation === "poll" && !answer) pollsAgain();
    return answer !== undefined;
  };
  const { polls } = server;
  const asked = polls.length;
  await agent.stop("SIGTERM"); // the poll under way is of before
  agent = await startAgent({ dataFolder });
  await polledAgain; // after pauses that may outlast a job's life
  server.disturb = undefined;
  await runs();
  assert.equal(answers.length, 0);
  assert.equal(elsewhere.connections, 0);
  assert.ok(polls.length > asked);
});

test("a clock that differs is told, and the server hears of it", async () => {
  server.clockAheadMs = 12_000;
  await runs();
  await agent.logged(/clock is 12 s behind the server's/);
  await runs();
  assert.ok(Math.abs((server.polls.at(-1)?.clockSkewMs ?? 0) + 12_000) < 2_000, String(server.polls.at(-1)?.clockSkewMs));
  server.clockAheadMs = 0;
  await runs();
  await agent.logged(/agrees with the server's again/);
});

test("a signing key that follows from a trusted one is trusted, also after a new start", async () => {
  const next = await newPrivateJwk("sig");
  const now = Date.now();
  const endorsed = { publicKey: publicJwk(next), signsFromAt: now, previousUntilAt: now + 3_600_000 };
  server.keys = [{ key: publicJwk(next), endorsement: await endorse(endorsed, await importSigningKey(server.key), now) }];
  await runs();
  await agent.logged(/signing keys have changed/);
  server.keys = [];
  await runs({ key: next });
  await agent.stop("SIGTERM");
  agent = await startAgent({ dataFolder });
  await runs({ key: next });
  assert.deepEqual(server.polls.at(-1)?.knownKeys, [publicJwk(server.key).kid, publicJwk(next).kid]);
});

test("a signing key that follows from none is an alarm: nothing is taken until it is gone", async () => {
  const stranger = await newPrivateJwk("sig");
  const now = Date.now();
  const claimed = { publicKey: publicJwk(stranger), signsFromAt: now, previousUntilAt: now };
  for (const endorsement of [undefined, await endorse(claimed, await importSigningKey(stranger), now)]) {
    server.keys = [{ key: publicJwk(stranger), ...(endorsement === undefined ? {} : { endorsement }) }];
    await agent.stop("SIGTERM");
    agent = await startAgent({ dataFolder });
    assert.match(await agent.logged(/ALARM/), /find out who answers there/);
  }
  const before = target.connections;
  const job = await server.send();
  assert.equal(target.connections, before);
  assert.deepEqual(
    server.jobs.map(({ id }) => id),
    [job.id],
    "nobody took it",
  );
  server.keys = [];
  await agent.stop("SIGTERM");
  agent = await startAgent({ dataFolder });
  assert.ok((await server.answer(job.id)).reply);
});

test("no secret of a job is in the log or on disk, and the files are for their owner alone", () => {
  assert.doesNotMatch(agent.log(), /a-secret-of-a-job/);
  for (const file of readdirSync(dataFolder)) {
    assert.doesNotMatch(readFileSync(join(dataFolder, file), "latin1"), /a-secret-of-a-job/, file);
    assert.equal(statSync(join(dataFolder, file)).mode & 0o077, 0, file);
  }
});

test("a full disk: what cannot be written down is not run, which is told; when there is room, it goes on", {
  skip: noPrlimit,
}, async () => {
  const before = target.connections;
  execFileSync("prlimit", ["--pid", String(agent.pid), "--fsize=1:"]);
  const job = await server.send();
  const { reply = "" } = await server.answer(job.id);
  await assert.rejects(job.openReply(reply, Date.now()), {
    outcome: "unreachable",
    message: /cannot write its journal.*See to the disk/,
  });
  await agent.logged(/the journal cannot be written, so nothing is run: is its disk full\?/);
  assert.equal(target.connections, before);
  execFileSync("prlimit", ["--pid", String(agent.pid), "--fsize=unlimited:"]);
  const next = await server.send();
  assert.ok((await server.answer(next.id)).reply);
  assert.ok(target.connections > before);
});

const unknownHere = (_operation: string, response: ServerResponse) => {
  response.writeHead(401).end('{"code":"UnrecognizedClientException","detail":"This agent was revoked."}');
  return true;
};

test("a stranger at the server's address that knows no agent ends none: it is an alarm, and the agent goes on", async () => {
  server.published = await newPrivateJwk("sig");
  server.disturb = unknownHere;
  await agent.stop("SIGTERM");
  agent = await startAgent({ dataFolder });
  assert.match(await agent.logged(/ALARM/), /shows no signing key that this agent trusts/);
  server.disturb = undefined;
  server.published = server.key;
  assert.ok((await server.answer((await server.send()).id)).reply);
});

test("a revoked agent ends by itself and says what to do", async () => {
  server.disturb = unknownHere;
  await agent.stop("SIGKILL");
  agent = await startAgent({ dataFolder });
  assert.equal(await agent.exited, 1);
  assert.match(agent.log(), /does not know this agent, or no more; to go on, remove .*agent\.json and enrol again/);
});
