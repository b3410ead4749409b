import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";

/** Numbers about this process and what it works at, as text for Prometheus. */
export interface ProcessMetrics {
  text(): Promise<string>;
}

/** Asked at every scrape; when one rejects, all else is there. */
export interface StoreCounts {
  /** Rotations of each state. */
  rotations(): Promise<ReadonlyMap<string, number>>;
  /** Secrets by what the last try of their credential came to. */
  heartbeats(): Promise<ReadonlyMap<string, number>>;
  /** Targets that rotations wait for: `silent` ones. */
  targets(): Promise<ReadonlyMap<string, number>>;
  /** Agents by where they are. */
  agents(): Promise<ReadonlyMap<string, number>>;
  /** Jobs that this process gave to agents, by what became of them. */
  agentJobs(): ReadonlyMap<string, number>;
}

/** Pauses and lags are measured from now on. */
export function createProcessMetrics(counts?: StoreCounts): ProcessMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  if (counts) {
    addCounts(registry, { name: "rekey_rotations", help: "Rotations on record, by state.", label: "state" }, counts.rotations);
    const help = "Secrets by what the last heartbeat of their credential came to.";
    addCounts(registry, { name: "rekey_heartbeats", help, label: "outcome" }, counts.heartbeats);
    const about = "Targets that do not answer and that rotations wait for.";
    addCounts(registry, { name: "rekey_targets", help: about, label: "state" }, counts.targets);
    const agents = "Agents that were not revoked: live, away (no connection just now) or gone (not seen for 90 seconds).";
    addCounts(registry, { name: "rekey_agents", help: agents, label: "state" }, counts.agents);
    addAgentJobs(registry, counts.agentJobs);
  }
  return { text: () => registry.metrics() };
}

function addAgentJobs(registry: Registry, read: () => ReadonlyMap<string, number>): void {
  new Counter({
    name: "rekey_agent_jobs_total",
    help: "Jobs for agents, by what became of them.",
    labelNames: ["outcome"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [outcome, count] of read()) this.inc({ outcome }, count);
    },
  });
}

interface Counted {
  readonly name: string;
  readonly help: string;
  readonly label: string;
}

function addCounts(registry: Registry, { name, help, label }: Counted, read: () => Promise<ReadonlyMap<string, number>>): void {
  new Gauge({
    name,
    help,
    labelNames: [label],
    registers: [registry],
    async collect() {
      this.reset();
      const counts = await read().catch(() => new Map<string, number>());
      for (const [value, count] of counts) this.set({ [label]: value }, count);
    },
  });
}
