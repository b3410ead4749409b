// An agent that dies at each point of one job, one after another: started again and handed the same job, it gives an answer, and
// never runs the verb a second time. CRASH_SHARE=1: all points.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { RotatorError } from "../../src/core/error.ts";
import { type AgentProcess, startAgent } from "../support/agent-process.ts";
import { type CountingTarget, type HostileServer, startCountingTarget, startHostileServer } from "../support/hostile-server.ts";
import { sampleOf, share } from "../support/sample.ts";
import { pointsOf } from "./campaign/far-points.ts";

/** More than a job has. */
const mostPoints = 60;
const sampled = 2;

const folder = mkdtempSync(join(tmpdir(), "rekey-journal-"));
const dataFolder = join(folder, "agent");
const { env } = pointsOf(join(import.meta.dirname, "../.."), dataFolder);
let target: CountingTarget;
let server: HostileServer;
let agent: AgentProcess;

before(async () => {
  target = await startCountingTarget();
  server = await startHostileServer(target);
  const flags = ["--server", server.url, "--enroll", server.token, "--allow", `postgres://127.0.0.1:${target.port}`];
  agent = await startAgent({ dataFolder, flags, env });
});
after(async () => {
  await agent?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  await target?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const again = async (): Promise<void> => {
  agent = await startAgent({ dataFolder, env });
};
const expiresAt = () => Date.now() + 120_000;

/** From now on, points count. */
async function killAt(point: number): Promise<void> {
  writeFileSync(env.POINTS_FILE ?? "", String(point));
  const armed = agent
    .log()
    .split("\n")
    .filter((line) => line.startsWith("points ")).length;
  process.kill(agent.pid, "SIGUSR2");
  while (
    agent
      .log()
      .split("\n")
      .filter((line) => line.startsWith("points ")).length === armed
  )
    await sleep(5);
}

test("killed at any point of a job, it does not run the job twice, and answers", async (context) => {
  const alone = await server.send({ expiresAt: expiresAt() });
  await server.answer(alone.id);
  const once = target.connections;
  const whole = Array.from({ length: mostPoints }, (_, index) => index + 1);
  const places: string[] = [];
  for (const point of share === 1 ? whole : sampleOf(whole.slice(0, 24), sampled, "points of a job")) {
    await killAt(point);
    const before = target.connections;
    const job = await server.write({ expiresAt: expiresAt() });
    server.jobs.push({ id: job.id, message: job.text });
    const died = agent.exited.then(() => true);
    const isDead = await Promise.race([died, server.answer(job.id).then(() => sleep(300, false))]);
    if (!isDead) break; // it has no more points
    places.push(/^killed (.*)$/m.exec(agent.log())?.[1] ?? "?");
    await again();
    server.jobs.push({ id: job.id, message: job.text });
    const { reply } = await server.answer(job.id);
    await agent.logged(new RegExp(`${job.id}.*a job (came again|is done)`));
    const where = `killed at point ${point}, ${places.at(-1)}`;
    assert.ok(target.connections - before <= once, `run twice: ${where}`);
    assert.ok(reply, `no reply: ${where}`);
    const read = await job.openReply(reply, Date.now()).catch((error: unknown) => error);
    if (read instanceof Error) assert.ok(read instanceof RotatorError && read.outcome === "unknown", `${read}: ${where}`);
  }
  context.diagnostic(places.join("; "));
  assert.ok(places.length > 0);
});

test("a job of an older claim that comes late is not run, also by the next process", async () => {
  await killAt(0);
  const subject = "11111111-1111-4111-8111-111111111111";
  const younger = await server.send({ subject, fence: 2, expiresAt: expiresAt() });
  await server.answer(younger.id);
  for (const when of ["at once", "after a kill"]) {
    const before = target.connections;
    const late = await server.send({ subject, fence: 1, expiresAt: expiresAt() });
    const { reply = "" } = await server.answer(late.id);
    assert.equal(target.connections, before, `it was run: ${when}`);
    await assert.rejects(late.openReply(reply, Date.now()), { outcome: "denied" }, when);
    if (when === "after a kill") break;
    await agent.stop("SIGKILL");
    await again();
  }
});
