/** How a request came in; `http`: it was refused before anything could be told of it. */
export type DoorName = "aws-json" | "aws-query" | "rekey-api" | "config-api" | "http";

interface Series {
  readonly labels: string;
  count: number;
}

interface Durations {
  readonly labels: string;
  readonly buckets: Float64Array;
  seconds: number;
}

const bounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

/**
 * Counts of requests and histograms of how long they took. Labels come from Rekey's own tables alone (doors, operations,
 * error codes), never from what a caller wrote, so that there is a bound to their number.
 */
export class RequestCounts {
  readonly #counts = new Map<string, Series>();
  readonly #durations = new Map<string, Durations>();

  /** `outcome` is `ok` or an error code; `seconds` is left out for what was refused before it was a request. */
  add(door: DoorName, operation: string, outcome: string, seconds?: number): void {
    const full = `${door} ${operation} ${outcome}`;
    let series = this.#counts.get(full);
    if (!series) {
      series = { labels: `door="${door}",operation="${operation}",outcome="${outcome}"`, count: 0 };
      this.#counts.set(full, series);
    }
    series.count += 1;
    if (seconds !== undefined) this.#observe(door, operation, seconds);
  }

  #observe(door: DoorName, operation: string, seconds: number): void {
    const name = `${door} ${operation}`;
    let durations = this.#durations.get(name);
    if (!durations) {
      const labels = `door="${door}",operation="${operation}"`;
      durations = { labels, buckets: new Float64Array(bounds.length + 1), seconds: 0 };
      this.#durations.set(name, durations);
    }
    durations.seconds += seconds;
    let bucket = 0;
    while (bucket < bounds.length && seconds > (bounds[bucket] ?? 0)) bucket += 1;
    durations.buckets[bucket] = (durations.buckets[bucket] ?? 0) + 1;
  }

  /** In the form that Prometheus reads. Source: Prometheus documentation, "Text-based format". */
  text(): string {
    const lines = [
      "# HELP rekey_requests_total Requests answered, by door, operation and outcome.",
      "# TYPE rekey_requests_total counter",
      ...[...this.#counts.values()].map(({ labels, count }) => `rekey_requests_total{${labels}} ${count}`),
      "# HELP rekey_request_duration_seconds Time from a request's arrival to its answer.",
      "# TYPE rekey_request_duration_seconds histogram",
      ...[...this.#durations.values()].flatMap(histogramLines),
    ];
    return `${lines.join("\n")}\n`;
  }
}

/** Buckets of the format count everything up to their bound. */
function histogramLines({ labels, buckets, seconds }: Durations): string[] {
  const name = "rekey_request_duration_seconds";
  let count = 0;
  const lines = [...buckets].map((inBucket, index) => {
    count += inBucket;
    return `${name}_bucket{${labels},le="${bounds[index] ?? "+Inf"}"} ${count}`;
  });
  return [...lines, `${name}_sum{${labels}} ${seconds}`, `${name}_count{${labels}} ${count}`];
}
