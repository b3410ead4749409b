import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Members } from "./contract-door.ts";
import { type ContractPoint, contractPoints, contractSteps } from "./contract-points.ts";
import { type BenchOptions, ContractBench, type ContractStep, Lost, type Run } from "./contract-run.ts";

/** What became of a point; `skipped`: this function and secret cannot be asked for it, so it does not count. */
export interface ContractResult extends ContractPoint {
  readonly result: "won" | "lost" | "skipped";
  /** Why it was lost or skipped. */
  readonly reason?: string | undefined;
}

export interface KitOptions extends BenchOptions {
  /** Ends the run after the rotation that is under way. */
  readonly signal?: AbortSignal | undefined;
  /** Told of each point as it is decided. */
  onPoint?(done: number, of: number): void;
}

/**
 * Takes the function through its steps by the contract of Secrets Manager: plainly, repeated, killed, with answers lost, twice
 * at once, with wrong calls and with its target away. Rotates the secret for real, many times; it ends with a version that works,
 * unless the function has left none.
 */
export async function runContractKit(options: KitOptions): Promise<ContractResult[]> {
  await using bench = await ContractBench.open(options);
  const kit = new Kit(bench, options);
  for (const scenario of scenarios) await kit.run(scenario);
  kit.end("one-version", bench.strayVersions);
  kit.end("secrecy", bench.leak);
  if (bench.hasTarget) kit.end("current-works", (await bench.works("AWSCURRENT")) ? undefined : "it does not");
  await bench.tidy();
  return kit.results();
}

type Play = (kit: Kit, bench: ContractBench, run: Run) => Promise<void>;
/** One rotation, or part of one. */
interface Scenario {
  readonly play: Play;
  /** Only where the target can be taken away. */
  readonly needs?: "gate";
}

class Kit {
  readonly #bench: ContractBench;
  readonly #options: KitOptions;
  readonly #decided = new Map<string, string | undefined>();
  #over: string | undefined;

  constructor(bench: ContractBench, options: KitOptions) {
    this.#bench = bench;
    this.#options = options;
  }

  async run({ play, needs }: Scenario): Promise<void> {
    if (this.#options.signal?.aborted) this.#over ??= "the test was interrupted";
    if (this.#over !== undefined || (needs === "gate" && !this.#bench.gate)) return;
    const run = await this.#bench.begin();
    try {
      await play(this, this.#bench, run);
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      if (play === plain) this.#over = `a plain rotation does not work: ${error.message}`;
    } finally {
      await this.#bench.settle(run).catch((error: unknown) => {
        if (!(error instanceof Lost)) throw error;
        this.#over ??= error.message;
      });
    }
  }

  /** Wins the point when `work` goes well. False when it was lost. */
  async point(id: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      this.end(id, undefined);
      return true;
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      this.end(id, error.message);
      return false;
    }
  }

  /** `reason`: why it is lost; absent: it is won. */
  end(id: string, reason: string | undefined): void {
    this.#decided.set(id, reason);
    this.#options.onPoint?.(this.#decided.size, contractPoints.length);
  }

  endUnlessLost(id: string): void {
    if (!this.#decided.has(id)) this.end(id, undefined);
  }

  results(): ContractResult[] {
    return contractPoints.map((point) => {
      if (this.#decided.has(point.id)) {
        const reason = this.#decided.get(point.id);
        return { ...point, result: reason === undefined ? "won" : "lost", reason };
      }
      const skipped = this.#skipped(point.id);
      if (skipped !== undefined) return { ...point, result: "skipped", reason: skipped };
      return { ...point, result: "lost", reason: this.#over ?? "not reached: a step before it failed" };
    });
  }

  #skipped(id: string): string | undefined {
    const ofTarget = /^(unreachable|silent|target)-/.test(id);
    if (!this.#bench.hasTarget && (ofTarget || ["test-refuses", "current-works"].includes(id))) return "the secret has no target";
    if (ofTarget && !this.#bench.gate)
      return "the value tells no host and port, or http address, at which the target can be taken away";
    return undefined;
  }
}

const rest = async (bench: ContractBench, run: Run, from: ContractStep): Promise<void> => {
  for (const step of contractSteps.slice(contractSteps.indexOf(from))) await bench.must(run, step);
};

const plain: Play = async (kit, bench, run) => {
  for (const step of contractSteps) {
    if (step === "setSecret" && bench.hasTarget) await kit.point("test-refuses", () => refused(bench, run.token, ["testSecret"]));
    bench.door.asked.length = 0;
    bench.gate?.cutAnswer(0);
    let tookMs = 0;
    const won = await kit.point(`plain-${step}`, async () => {
      ({ tookMs } = await bench.must(run, step));
      if (step === "createSecret" && run.stored === (await bench.digestOf(run.before.current ?? "")))
        throw new Lost("the new value is the current one");
    });
    bench.paces.set(step, { tookMs, asked: [...bench.door.asked], answers: bench.gate?.answers ?? 0 });
    const { current } = await bench.labels();
    if (step !== "finishSecret" && current !== run.before.current) kit.end("untouched", `${step} moved AWSCURRENT`);
    else if (step === "testSecret") kit.endUnlessLost("untouched");
    if (!won) throw new Lost(`${step} failed`);
  }
  const { previous } = await bench.labels();
  kit.end("previous", previous === run.before.current ? undefined : "AWSPREVIOUS is not at the version that was current");
};

const again: Play = async (kit, bench, run) => {
  for (const step of contractSteps) {
    if (step === "finishSecret")
      await kit.point("again-all", async () => {
        for (const one of contractSteps.slice(0, 3)) await bench.must(run, one);
      });
    await bench.must(run, step);
    await kit.point(`again-${step}`, () => bench.must(run, step));
  }
  await kit.point("again-finished", async () => {
    const before = await bench.labels();
    for (const step of contractSteps) await bench.call(run.token, step);
    await bench.unchanged(before, "a rotation that had ended");
    if ((await bench.digestOf(run.token)) !== run.stored) throw new Lost("its value was changed");
  });
};

const lost: Play = async (kit, bench, run) => {
  for (const step of contractSteps) {
    await bench.must(run, step);
    bench.caller.renew();
    await kit.point(`lost-${step}`, () => bench.must(run, step));
  }
};

/** The operation is done, and nobody hears of it. */
const cutAfter = (operation: string) => {
  let cuts = 0;
  return async (asked: string, forward: () => Promise<Members>): Promise<Members | "cut"> => {
    const done = await forward();
    return asked === operation && cuts++ === 0 ? "cut" : done;
  };
};

const cut: Play = async (kit, bench, run) => {
  bench.door.between = cutAfter("PutSecretValue");
  await bench.call(run.token, "createSecret", { fresh: true });
  bench.door.between = undefined;
  run.stored = await bench.digestOf(run.token);
  await kit.point("cut-put", () => bench.must(run, "createSecret"));
  await bench.must(run, "setSecret");
  await bench.must(run, "testSecret");
  bench.door.between = cutAfter("UpdateSecretVersionStage");
  await bench.call(run.token, "finishSecret", { fresh: true });
  bench.door.between = undefined;
  await kit.point("cut-label", () => bench.must(run, "finishSecret"));
};

/** Ends the process at its n-th call of Secrets Manager, before or after that is done; then what is stored counts. */
async function killAt(bench: ContractBench, run: Run, step: ContractStep, n: number, when: "ask" | "answer"): Promise<void> {
  let calls = 0;
  let kill = () => undefined as unknown;
  bench.door.between = async (_operation, forward) => {
    calls += 1;
    if (calls !== n) return forward();
    if (when === "answer") await forward();
    kill();
    return "cut";
  };
  await bench.call(run.token, step, {
    fresh: true,
    onBegun: (end) => {
      kill = end;
    },
  });
  bench.door.between = undefined;
  run.stored ??= await bench.digestOf(run.token);
}

const killedAt =
  (when: "ask" | "answer"): Play =>
  async (kit, bench, run) => {
    for (const step of contractSteps) {
      const calls = bench.paces.get(step)?.asked.length ?? 0;
      await kit.point(`kill-${when}-${step}`, async () => {
        for (const n of new Set([1, calls])) if (n > 0) await killAt(bench, run, step, n, when);
        await bench.must(run, step);
      });
      await bench.must(run, step);
    }
  };

const killedAtWork: Play = async (kit, bench, run) => {
  for (const step of contractSteps) {
    const { tookMs = 0 } = bench.paces.get(step) ?? {};
    await kit.point(`kill-work-${step}`, async () => {
      for (const share of [0.25, 0.5, 0.75]) {
        let timer: NodeJS.Timeout | undefined;
        const onBegun = (kill: () => void) => {
          timer = setTimeout(kill, tookMs * share);
        };
        await bench.call(run.token, step, { fresh: true, onBegun });
        clearTimeout(timer);
        run.stored ??= await bench.digestOf(run.token);
      }
      await bench.must(run, step);
    });
    await bench.must(run, step);
  }
};

const longestWaitMs = 1_000;

/** Each of two calls waits with this operation until the other one has come as far. */
function together(operation: string) {
  let waiting = 0;
  const both = Promise.withResolvers<void>();
  return async (asked: string, forward: () => Promise<Members>): Promise<Members> => {
    if (asked !== operation) return forward();
    waiting += 1;
    if (waiting === 2) both.resolve();
    await Promise.race([both.promise, sleep(longestWaitMs, undefined, { ref: false })]);
    return forward();
  };
}

const twice: Play = async (kit, bench, run) => {
  const meet = { createSecret: "PutSecretValue", setSecret: "GetSecretValue", finishSecret: "UpdateSecretVersionStage" } as const;
  const both = (step: keyof typeof meet) => async () => {
    bench.door.between = together(meet[step]);
    const called = await Promise.all([1, 2].map(() => bench.call(run.token, step)));
    bench.door.between = undefined;
    if (!called.some(({ ok }) => ok)) throw new Lost(`both calls failed: ${bench.clean(called[0]?.error ?? "")}`);
    await bench.must(run, step);
    if (step === "setSecret") await bench.must(run, "testSecret");
  };
  await kit.point("twice-createSecret", both("createSecret"));
  await kit.point("twice-setSecret", both("setSecret"));
  await bench.must(run, "testSecret");
  await kit.point("twice-finishSecret", both("finishSecret"));
};

/** Calls that have to fail and change nothing. @throws Lost */
async function refused(bench: ContractBench, token: string, steps: readonly string[]): Promise<void> {
  const before = await bench.labels();
  for (const step of steps) {
    const { ok } = await bench.call(token, step);
    await bench.unchanged(before, `${step}`);
    if (ok) throw new Lost(`${step} answered as if it were done`);
  }
}

const wrong: Play = async (kit, bench, run) => {
  await kit.point("no-value", () => refused(bench, run.token, ["setSecret", "testSecret", "finishSecret"]));
  await kit.point("unknown-step", () => refused(bench, run.token, ["rotateSecret"]));
  bench.door.view.pending = undefined;
  await kit.point("unknown-token", () => refused(bench, randomUUID(), contractSteps));
  const { previous } = run.before;
  if (previous !== undefined) await kit.point("not-pending", () => refused(bench, previous, contractSteps));
};

const unreachable: Play = async (kit, bench, run) => {
  await bench.must(run, "createSecret");
  await bench.gate?.be("closed");
  for (const step of ["setSecret", "testSecret"] as const)
    await kit.point(`unreachable-${step}`, () => refused(bench, run.token, [step]));
  await bench.gate?.be("open");
  await kit.point("unreachable-after", () => rest(bench, run, "createSecret"));
};

const silent: Play = async (kit, bench, run) => {
  await bench.must(run, "createSecret");
  await bench.gate?.be("silent");
  for (const step of ["setSecret", "testSecret"] as const)
    await kit.point(`silent-${step}`, async () => {
      const { ok, late, error } = await bench.call(run.token, step);
      if (ok) throw new Lost(`${step} answered as if it were done`);
      if (late) throw new Lost(error);
    });
  await bench.gate?.be("open");
  await rest(bench, run, "createSecret");
};

const targetLost: Play = async (kit, bench, run) => {
  await bench.must(run, "createSecret");
  const { answers = 0 } = bench.paces.get("setSecret") ?? {};
  await kit.point("target-lost", async () => {
    for (let n = Math.min(answers, mostCuts); n > 0; n--) {
      bench.gate?.cutAnswer(n);
      await bench.call(run.token, "setSecret", { fresh: true });
    }
    bench.gate?.cutAnswer(0);
    await rest(bench, run, "setSecret");
  });
};
/** Of the pieces in which a target's answers come. */
const mostCuts = 6;

const scenarios: readonly Scenario[] = [
  { play: plain },
  { play: again },
  { play: lost },
  { play: cut },
  { play: killedAt("ask") },
  { play: killedAt("answer") },
  { play: killedAtWork },
  { play: twice },
  { play: wrong },
  { play: unreachable, needs: "gate" },
  { play: silent, needs: "gate" },
  { play: targetLost, needs: "gate" },
];
