/** Longer than a message can be late or early by the clocks of both sides. */
const keptMs = 120_000;
const most = 20_000;

interface Call {
  readonly id: string;
  readonly subject: string;
  readonly fence: number;
}

/**
 * What one execution environment of a function has seen, in memory. AWS may keep several for a function and ends them as it
 * likes: what was seen in one is not known in another.
 */
export class LambdaJournal {
  /** By id: epoch ms when it was seen. Oldest first. */
  readonly #seen = new Map<string, number>();
  /** By subject; the one seen longest ago first. */
  readonly #fences = new Map<string, number>();

  /** `begun`: not seen before; `stale`: a younger claim on its subject was seen; `full`: more calls than can be kept apart. */
  begin({ id, subject, fence }: Call, nowMs: number): "begun" | "replayed" | "stale" | "full" {
    for (const [old, seenAt] of this.#seen) {
      if (nowMs - seenAt <= keptMs) break;
      this.#seen.delete(old);
    }
    if (this.#seen.has(id)) return "replayed";
    if (this.#seen.size >= most) return "full";
    this.#seen.set(id, nowMs);
    const newest = this.#fences.get(subject) ?? 0;
    if (fence < newest) return "stale";
    this.#fences.delete(subject);
    this.#fences.set(subject, fence);
    const [oldest] = this.#fences.keys();
    if (this.#fences.size > most && oldest !== undefined) this.#fences.delete(oldest);
    return "begun";
  }
}
