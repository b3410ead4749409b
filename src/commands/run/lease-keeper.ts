import { callApi } from "../api-client.ts";
import { CommandError } from "../command-error.ts";
import { type Answer, cell } from "../output.ts";
import type { Lease } from "./leased-values.ts";

/** What a keeper needs of its surroundings. */
export interface KeeperOptions {
  readonly connection: { readonly endpoint: string; readonly token: string };
  /** What was asked for; absent: as long as it was given, in whole minutes. */
  readonly ttlSeconds?: number | undefined;
  warn(text: string): void;
  /** Told once for a lease that cannot live on, some time before it ends. */
  onEnding?(lease: Lease): void;
}

interface Kept extends Lease {
  readonly ttlSeconds: number;
  readonly isWarned: boolean;
}

const releaseWaitMs = 10_000;
/** A renewal that gains less has met the longest life of its lease. */
const leastGainMs = 1_000;
/** Timers cannot wait longer than 24 days. */
const longestWaitMs = 86_400_000;

/** Renews leases at half their life for as long as somebody uses them, and ends them afterwards. */
export class LeaseKeeper {
  readonly #options: KeeperOptions;
  readonly #kept = new Map<string, Kept>();
  readonly #timers = new Map<string, NodeJS.Timeout>();

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.#kept.size === 0;
  }

  keep(leases: readonly Lease[]): void {
    for (const lease of leases) {
      // Some seconds of it went by until it was here.
      const ttlSeconds = Math.ceil((lease.expiresAt - Date.now()) / 60_000) * 60;
      this.#schedule({ ...lease, ttlSeconds: this.#options.ttlSeconds ?? ttlSeconds, isWarned: false });
    }
  }

  /** Ends all of them, those that nobody else shares; bounded, and what cannot be ended ends by itself. */
  async release(): Promise<void> {
    const kept = [...this.#kept.values()];
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#kept.clear();
    await Promise.all(kept.map((lease) => this.#revoke(lease)));
  }

  /** Half way to its end, and not all at the same moment. */
  #schedule(lease: Kept): void {
    const leftMs = lease.expiresAt - Date.now();
    this.#later(lease, leftMs * (0.45 + Math.random() * 0.1));
  }

  #later(lease: Kept, waitMs: number): void {
    this.#kept.set(lease.id, lease);
    const dueAt = Date.now() + waitMs;
    const timer = setTimeout(
      () => (dueAt > Date.now() + 1000 ? this.#later(lease, dueAt - Date.now()) : void this.#renew(lease)),
      Math.min(Math.max(waitMs, 100), longestWaitMs),
    );
    this.#timers.set(lease.id, timer);
  }

  async #renew(lease: Kept): Promise<void> {
    const { connection, warn } = this.#options;
    try {
      const answer = await callApi(connection, "leases/renew", { leaseId: lease.id, ttlSeconds: lease.ttlSeconds });
      if (!this.#kept.has(lease.id)) return; // released meanwhile
      const expiresAt = endOf(answer, lease);
      if (expiresAt < lease.expiresAt + leastGainMs) this.#letEnd({ ...lease, expiresAt });
      else this.#schedule({ ...lease, expiresAt, isWarned: false });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      if (!this.#kept.has(lease.id)) return;
      if (isFinal(error)) {
        warn(`lease ${lease.id} of ${lease.name} is not renewed: ${error.message}`);
        this.#letEnd(lease);
      } else this.#retry(lease, error);
    }
  }

  #retry(lease: Kept, error: CommandError): void {
    const leftMs = lease.expiresAt - Date.now();
    if (leftMs <= 0) {
      this.#options.warn(`lease ${lease.id} of ${lease.name} has ended: it could not be renewed`);
      this.#letEnd(lease);
      return;
    }
    if (!lease.isWarned)
      this.#options.warn(
        `lease ${lease.id} of ${lease.name} could not be renewed yet (${error.message}); trying until ${timeText(lease)}`,
      );
    const waitMs = Math.min(leftMs / 4, 30_000) * (0.5 + Math.random() / 2);
    this.#later({ ...lease, isWarned: true }, Math.max(waitMs, 500));
  }

  /** It stays in our hands, to be ended early when its user is. */
  #letEnd(lease: Kept): void {
    const { warn, onEnding } = this.#options;
    const leftMs = lease.expiresAt - Date.now();
    this.#kept.set(lease.id, lease);
    if (leftMs > 0 && !onEnding)
      warn(`lease ${lease.id} of ${lease.name} ends at ${timeText(lease)} and cannot live longer: start anew before`);
    if (onEnding)
      this.#timers.set(
        lease.id,
        setTimeout(() => onEnding(lease), Math.min(Math.max(leftMs, 0) * 0.7, longestWaitMs)),
      );
    else this.#timers.delete(lease.id);
  }

  async #revoke({ id, name, expiresAt }: Kept): Promise<void> {
    if (expiresAt <= Date.now()) return;
    try {
      await callApi(this.#options.connection, "leases/revoke", { leaseId: id, unlessShared: true }, releaseWaitMs);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      this.#options.warn(`lease ${id} of ${name} could not be ended (${error.message}); it ends at ${timeText({ expiresAt })}`);
    }
  }
}

/** Asking again would be answered alike; anything else may pass. */
const isFinal = (error: CommandError): boolean =>
  /^(ResourceNotFound|AccessDenied|UnrecognizedClient|ExpiredToken)|cannot be renewed/.test(error.message);

const endOf = (answer: Answer, { serverAheadMs }: Kept): number => {
  const told = (answer.lease ?? answer) as Answer;
  return Date.parse(String(told.expiresAt)) - serverAheadMs;
};

const timeText = ({ expiresAt }: { readonly expiresAt: number }): string => cell(new Date(expiresAt).toISOString());
