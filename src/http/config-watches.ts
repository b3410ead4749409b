import type { Logger } from "pino";
import { loadConfigs } from "../store/configs.ts";
import type { Hints } from "../store/hints.ts";
import type { Sql } from "../store/sql.ts";

/** Somebody who wants to hear of a config. */
export interface Watcher {
  /** Its download is another one now. */
  changed(): void;
  /** It was deleted. */
  gone(): void;
}

interface Watched {
  generation: number;
  readonly watchers: Set<Watcher>;
  readonly over: AbortController;
}

/** Changes by other processes are seen by looking. */
const lookMs = 1_000;
const hintMs = 3_600_000;
const idsAtOnce = 1_000;

/** Tells of configs whose generation rose: at once when this process changed them, within about a second otherwise. */
export class ConfigWatches {
  readonly #watched = new Map<string, Watched>();
  readonly #parts: { readonly sql: Sql; readonly hints: Hints; readonly log: Logger };
  #timer: NodeJS.Timeout | undefined;
  #looking = false;

  constructor(parts: { readonly sql: Sql; readonly hints: Hints; readonly log: Logger }) {
    this.#parts = parts;
  }

  /** `generation`: the one that the watcher knows. Gives the way to stop. */
  add(configId: string, generation: number, watcher: Watcher): () => void {
    const watched = this.#watched.get(configId) ?? this.#begin(configId, generation);
    watched.watchers.add(watcher);
    if (watched.generation !== generation) watcher.changed();
    return () => {
      watched.watchers.delete(watcher);
      if (watched.watchers.size === 0) this.#end(configId, watched);
    };
  }

  #begin(configId: string, generation: number): Watched {
    const watched: Watched = { generation, watchers: new Set(), over: new AbortController() };
    this.#watched.set(configId, watched);
    this.#timer ??= setInterval(() => void this.#lookAtAll(), lookMs);
    void this.#follow(configId, watched.over.signal);
    return watched;
  }

  #end(configId: string, watched: Watched): void {
    watched.over.abort();
    if (this.#watched.get(configId) === watched) this.#watched.delete(configId);
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #follow(configId: string, over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      await this.#parts.hints.wait(`config/${configId}`, hintMs, over);
      if (!over.aborted) await this.#look([configId]);
    }
  }

  async #lookAtAll(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const ids = [...this.#watched.keys()];
    for (let from = 0; from < ids.length; from += idsAtOnce) await this.#look(ids.slice(from, from + idsAtOnce));
    this.#looking = false;
  }

  /** Never rejects: what cannot be read now is looked at again. */
  async #look(ids: readonly string[]): Promise<void> {
    try {
      const asked = ids.map((id) => [id, this.#watched.get(id)] as const);
      const configs = await loadConfigs(this.#parts.sql, ids);
      for (const [id, watched] of asked) {
        if (!watched || this.#watched.get(id) !== watched) continue; // it may be younger than what was read
        const generation = configs.get(id)?.generation;
        if (generation === undefined) for (const watcher of [...watched.watchers]) watcher.gone();
        else if (generation > watched.generation) {
          watched.generation = generation;
          for (const watcher of [...watched.watchers]) watcher.changed();
        }
      }
    } catch (error) {
      this.#parts.log.warn({ err: error }, "generations of watched configs could not be read");
    }
  }
}
