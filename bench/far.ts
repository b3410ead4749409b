// The way through a network's agent, or through a function of AWS Lambda, against the direct one: the same verb, the same lease,
// the same rotation, in turn.
import { randomUUID } from "node:crypto";
import { newFarKeys, publicFarKeys } from "../src/crypto/message-keys.ts";
import { startAgent } from "../test/support/agent-process.ts";
import { nativeOk } from "../test/support/aws.ts";
import { startAwsAccount } from "../test/support/aws-account.ts";
import { lambdaZip } from "../test/support/lambda-zips.ts";
import { type RedisServer, startRedis } from "../test/support/redis-server.ts";
import { timeWaves } from "./by-hand.ts";
import { atLeast, atMost, type Figure } from "./figures.ts";
import { newDynamicSecret } from "./lease.ts";
import { Void } from "./load.ts";
import { type BenchServer, compiledProgram, ownEnv, type ServerOptions, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { rotationWorld } from "./rotation.ts";
import { median } from "./statistics.ts";

const network = "far";
/** While it starts, a server takes half of what it may. */
const limits = ["--rotations-at-once", "80", "--rotations-per-target", "80"];
const warmUpWaves = 8;

/** One thing that is done through both ways. */
interface Work {
  readonly what: string;
  direct(atOnce: number): Promise<unknown>;
  far(atOnce: number): Promise<unknown>;
}

/** What is to be reached by the way through the network. */
interface Goals {
  /** Of one at a time, over the direct way. */
  readonly times?: number;
  /** Of one at a time, beside the direct way. */
  readonly addedMs?: number;
  /** Of the most at once. */
  readonly perSecond?: number;
}

interface Way {
  /** `agent` */
  readonly name: string;
  readonly atOnce: Readonly<Record<keyof World, readonly number[]>>;
  readonly goals: Readonly<Record<keyof World, Goals>>;
}

const agentWay: Way = {
  name: "an agent",
  atOnce: { verb: [1, 8, 32], lease: [1, 8], rotation: [1, 8] },
  goals: { verb: { addedMs: 50, perSecond: 40 }, lease: { times: 3 }, rotation: { times: 3 } },
};
/** Each call at the same time is another process of the function here, on the same few cores. */
const lambdaWay: Way = {
  name: "Lambda",
  atOnce: { verb: [1, 4], lease: [1, 4], rotation: [1, 4] },
  goals: { verb: { addedMs: 75 }, lease: { times: 3 }, rotation: { times: 3 } },
};

export async function measureAgent(amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const world = await farWorld(opened, {}, async ({ server }, addresses) => {
    await nativeOk(server, "networks/create", { name: network });
    const { token } = await nativeOk(server, "agents/create-enrolment", { network });
    const allow = addresses.flatMap((address) => ["--allow", address]);
    const flags = ["--server", server.endpoint, "--name", "one", "--jobs-at-once", "32", ...allow];
    const env = { ...ownEnv, REKEY_ENROLL: String(token) };
    opened.use(await startAgent({ program: compiledProgram(), flags, env }));
  });
  return await compareAll(agentWay, world, amount);
}

export async function measureLambda(amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const aws = opened.use(await startAwsAccount());
  const moreFlags = ["--functions-lambda", "--functions-lambda-prefix", "rekey-"];
  const world = await farWorld(opened, { moreFlags, moreEnv: aws.env }, async ({ server }) => {
    const keySet = await (await fetch(`${server.endpoint}/.well-known/jwks.json`)).text();
    const functions: Record<string, unknown> = {};
    for (const kind of ["postgres", "redis"]) {
      const [keys, { zip }] = [await newFarKeys(), await lambdaZip(kind)];
      const environment = { REKEY_KEY_SET: keySet, REKEY_FAR_KEYS: JSON.stringify(keys) };
      const { arn, name: functionName } = aws.createFunction({ name: `rekey-${kind}`, zip, environment });
      const lambda = { functionArn: arn, protocol: "rekey", farKey: JSON.stringify(publicFarKeys(keys)) };
      await nativeOk(server, "functions/create", { functionName, lambda });
      functions[kind] = (await nativeOk(server, "functions/get", { functionName })).functionArn;
    }
    await nativeOk(server, "networks/create", { name: network, functions });
  });
  return await compareAll(lambdaWay, world, amount);
}

interface World {
  readonly verb: Work;
  readonly lease: Work;
  readonly rotation: Work;
}

/** A server beside a PostgreSQL and a Redis, with a far side in its network. */
async function farWorld(
  opened: AsyncDisposableStack,
  { moreFlags = [], ...options }: ServerOptions,
  addFarSide: (bench: BenchServer, addresses: readonly string[]) => Promise<void>,
): Promise<World> {
  const redis = opened.use(await startRedis({ password: "of-default" }));
  const { postgres, bench, rotate, inNetwork } = await rotationWorld(opened, async (log) =>
    opened.use(await startServer({ ...options, onLog: log.read, moreFlags: [...limits, ...moreFlags] })),
  );
  await addFarSide(bench, [`postgres://${postgres.host}:${postgres.port}`, `redis://${redis.host}:${redis.port}`]);
  const [issue, issueFar] = [await newDynamicSecret(bench, postgres), await newDynamicSecret(bench, postgres, network)];
  const [verify, verifyFar] = [await newVerify(bench, redis), await newVerify(bench, redis, network)];
  return {
    verb: { what: "login at Redis", direct: times(verify), far: times(verifyFar) },
    lease: { what: "lease", direct: times(() => issue()), far: times(() => issueFar()) },
    rotation: { what: "rotation", direct: rotate, far: await inNetwork(network) },
  };
}

const times = (work: () => Promise<unknown>) => (count: number) => Promise.all(Array.from({ length: count }, work));

/** Looks whether an integration works: one verb, and nothing changes at the target. */
async function newVerify({ server }: BenchServer, redis: RedisServer, through?: string): Promise<() => Promise<void>> {
  const name = `redis-${randomUUID().slice(0, 8)}`;
  const data = { host: redis.host, port: redis.port, username: "default", password: "of-default", ssl: "false" };
  await nativeOk(server, "integrations/create", { name, type: "redis", data, network: through });
  return async () => {
    const { works, reason } = await nativeOk(server, "integrations/verify", { integration: name });
    if (works !== true) throw new Void(`an integration does not work: ${reason}`);
  };
}

async function compareAll(way: Way, world: World, amount: Amount): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const part of ["verb", "lease", "rotation"] as const) {
    const [work, counts] = [world[part], way.atOnce[part]];
    for (let wave = 0; wave < warmUpWaves; wave += 1) {
      await work.direct(Math.max(...counts));
      await work.far(Math.max(...counts));
    }
    for (const atOnce of counts) figures.push(...(await compare(way, work, { atOnce, ...way.goals[part] }, amount)));
  }
  return figures;
}

async function compare(
  { name: through }: Way,
  { what, direct, far }: Work,
  { atOnce, ...goals }: Goals & { readonly atOnce: number },
  { rounds, quick, say }: Amount,
): Promise<Figure[]> {
  const waves = Math.ceil((quick ? 8 : 24) / Math.sqrt(atOnce));
  const name = `${what}, ${atOnce} at once`;
  const [ofDirect, ofFar]: [number[], number[]] = [[], []];
  for (let round = 0; round <= rounds; round += 1) {
    const directMs = await timeWaves(waves, atOnce, () => direct(atOnce));
    const farMs = await timeWaves(waves, atOnce, () => far(atOnce));
    if (round > 0) {
      ofDirect.push(directMs);
      ofFar.push(farMs);
    }
    say(`${name}, round ${round}: direct ${directMs.toFixed(1)} ms, through ${through} ${farMs.toFixed(1)} ms`);
  }
  const both = (join: (farMs: number, directMs: number) => number) => ofFar.map((ms, i) => join(ms, ofDirect[i] ?? Number.NaN));
  const figure = (text: string, values: readonly number[], unit: string, goal?: Figure["goal"]): Figure => ({
    name: `${name}: ${text}`,
    measured: median(values),
    unit,
    rounds: values,
    ...(goal && { goal }),
  });
  const added = both((farMs, directMs) => farMs - directMs);
  const ratio = both((farMs, directMs) => farMs / directMs);
  const rate = ofFar.map((ms) => 1000 / ms);
  return [
    figure("direct", ofDirect, "ms"),
    figure(`through ${through}`, ofFar, "ms"),
    figure(`added by ${through}`, added, "ms", wanted(atOnce === 1, atMost, goals.addedMs)),
    figure(`through ${through}`, rate, "/s", wanted(atOnce === 32, atLeast, goals.perSecond)),
    figure(`through ${through} over direct`, ratio, "x", wanted(atOnce === 1, atMost, goals.times)),
  ];
}

const wanted = (here: boolean, goalOf: (at: number) => Figure["goal"], at: number | undefined): Figure["goal"] =>
  here && at !== undefined ? goalOf(at) : undefined;
