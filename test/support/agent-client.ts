// An agent that does what a test says, good or bad: keys, token and messages, over plain HTTP.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import type { JWK } from "jose";
import { type EnrolmentToken, parseEnrolmentToken } from "../../src/core/agent.ts";
import { RotatorError } from "../../src/core/error.ts";
import { generatePassword, rotationPasswordOptions } from "../../src/core/password.ts";
import { type FarKeys, newFarKeys, publicFarKeys } from "../../src/crypto/message-keys.ts";
import type { ReplyOutcome } from "../../src/crypto/message-reply.ts";
import { type OpenedRequest, openRequest } from "../../src/crypto/messages.ts";
import { runFarVerb } from "../../src/targets/far-verbs.ts";
import { findRotator } from "../../src/targets/index.ts";
import { findLeaseTarget } from "../../src/targets/lease-targets.ts";
import { native, nativeOk, type RawAnswer } from "./aws.ts";
import type { RekeyServer } from "./rekey-server.ts";

interface Offered {
  readonly key: JWK;
  readonly endorsement?: string;
}

export interface HandedOut {
  readonly id: string;
  readonly message: string;
}

interface PollAnswer {
  readonly jobs: HandedOut[];
  readonly serverTime: string;
  readonly keys: Offered[];
}

/** Makes the network when it is not there. */
export async function newEnrolment(
  server: RekeyServer,
  network: string,
  more: object = {},
): Promise<EnrolmentToken & { readonly text: string }> {
  await native(server, "networks/create", { name: network });
  const { token } = await nativeOk(server, "agents/create-enrolment", { network, ...more });
  const parsed = parseEnrolmentToken(String(token));
  assert.ok(parsed);
  return { ...parsed, text: String(token) };
}

export interface EnrolOptions {
  readonly name?: string;
  readonly kinds?: readonly string[];
  readonly keys?: FarKeys;
}

/** What `agents/enrol` answers to an agent with these keys. */
export async function askToEnrol(
  server: RekeyServer,
  secret: string,
  { name = "one", kinds = ["postgres"], keys }: EnrolOptions = {},
): Promise<RawAnswer> {
  const offered = publicFarKeys(keys ?? (await newFarKeys()));
  return native(server, "agents/enrol", { name, version: "1.0.0", kinds, keys: offered }, secret);
}

/** Enrols an agent, and holds the answer against the keys that the enrolment token names. */
export async function enrolAgent(server: RekeyServer, network: string, options: EnrolOptions = {}): Promise<AgentClient> {
  const enrolment = await newEnrolment(server, network);
  const keys = options.keys ?? (await newFarKeys());
  const { status, json, text } = await askToEnrol(server, enrolment.secret, { ...options, keys });
  assert.equal(status, 200, text);
  const { message, keys: offered } = json as { message: string; keys: Offered[] };
  const keySet = offered.map(({ key }) => key).filter(({ kid }) => enrolment.keys.includes(String(kid)));
  const opened = await openRequest(message, {
    keys,
    keySet,
    audience: String(publicFarKeys(keys).signing.kid),
    nowMs: Date.now(),
  });
  assert.deepEqual([opened.type, opened.step, opened.fence], ["agent.enrolled", "enrol", 0]);
  const body = opened.body as { agentId: string; arn: string; network: string; name: string; token: string };
  assert.deepEqual([body.network, body.agentId], [network, opened.subject]);
  return new AgentClient(server, { ...body, id: body.agentId }, keys, keySet);
}

/** Does what a good agent does. */
async function runNear({ body, step, subject, expiresAt }: OpenedRequest): Promise<ReplyOutcome> {
  const tools = {
    verb: step,
    subject,
    deadlineAt: expiresAt,
    generatePassword: (asked?: object) => generatePassword(rotationPasswordOptions(asked), randomInt),
    findRotator,
    findLeaseTarget,
  };
  try {
    return { status: "ok", result: await runFarVerb(body, tools) };
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    return { status: "error", error: { class: error.outcome, message: error.message } };
  }
}

export class AgentClient {
  readonly server: RekeyServer;
  readonly id: string;
  readonly arn: string;
  readonly token: string;
  readonly keys: FarKeys;
  readonly keySet: readonly JWK[];

  constructor(
    server: RekeyServer,
    { id, arn, token }: { id: string; arn: string; token: string },
    keys: FarKeys,
    keySet: readonly JWK[],
  ) {
    this.server = server;
    this.id = id;
    this.arn = arn;
    this.token = token;
    this.keys = keys;
    this.keySet = keySet;
  }

  ask(path: string, members: object): Promise<RawAnswer> {
    return native(this.server, path, members, this.token);
  }

  rawPoll(more: object = {}): Promise<RawAnswer> {
    const knownKeys = this.keySet.map(({ kid }) => kid);
    return this.ask("agents/poll", { version: "1.0.0", kinds: ["postgres"], most: 10, waitSeconds: 0, knownKeys, ...more });
  }

  async poll(more: object = {}): Promise<PollAnswer> {
    const { status, json, text } = await this.rawPoll(more);
    assert.equal(status, 200, text);
    return json as unknown as PollAnswer;
  }

  async open({ message }: HandedOut): Promise<OpenedRequest> {
    return openRequest(message, { keys: this.keys, keySet: this.keySet, audience: this.arn, nowMs: Date.now() });
  }

  /** Outcomes by id. */
  async answer(
    answers: readonly ({ id: string } & ({ reply: string } | { refused: string }))[],
  ): Promise<Record<string, string>> {
    const { status, json, text } = await this.ask("agents/answer", { answers });
    assert.equal(status, 200, text);
    const results = json?.results as { id: string; outcome: string }[];
    return Object.fromEntries(results.map(({ id, outcome }) => [id, outcome]));
  }

  /** The next job. */
  async next(more: object = {}): Promise<HandedOut> {
    const { jobs } = await this.poll({ waitSeconds: 30, most: 1, ...more });
    assert.ok(jobs[0], "no job came");
    return jobs[0];
  }

  /** The same agent at another node. */
  at(server: RekeyServer): AgentClient {
    return new AgentClient(server, this, this.keys, this.keySet);
  }

  /** Takes jobs and answers each as `handle` says, until it is disposed of. */
  serve(handle: (request: OpenedRequest) => Promise<ReplyOutcome> | ReplyOutcome = runNear): AsyncDisposable {
    let stopped = false;
    const run = async () => {
      while (!stopped) {
        const { jobs } = await this.poll({ waitSeconds: 1 });
        for (const job of jobs) {
          const request = await this.open(job);
          await this.answer([{ id: job.id, reply: await request.writeReply(await handle(request)) }]);
        }
      }
    };
    const running = run();
    return {
      async [Symbol.asyncDispose]() {
        stopped = true;
        await running;
      },
    };
  }
}
