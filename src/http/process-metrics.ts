import { collectDefaultMetrics, Gauge, Registry } from "prom-client";

/** Numbers about this process and what it works at, as text for Prometheus. */
export interface ProcessMetrics {
  text(): Promise<string>;
}

/** Pauses and lags are measured from now on. `rotations` counts those of each state; when it rejects, all else is there. */
export function createProcessMetrics(rotations?: () => Promise<ReadonlyMap<string, number>>): ProcessMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  if (rotations) addRotations(registry, rotations);
  return { text: () => registry.metrics() };
}

function addRotations(registry: Registry, rotations: () => Promise<ReadonlyMap<string, number>>): void {
  new Gauge({
    name: "rekey_rotations",
    help: "Rotations on record, by state.",
    labelNames: ["state"],
    registers: [registry],
    async collect() {
      this.reset();
      const counts = await rotations().catch(() => new Map<string, number>());
      for (const [state, count] of counts) this.set({ state }, count);
    },
  });
}
