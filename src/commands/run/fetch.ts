import { setTimeout as sleep } from "node:timers/promises";
import { CommandError } from "../command-error.ts";
import { askText, ConfigApiRefusal, jsonOf, notRekey } from "../config-api.ts";
import { cell } from "../output.ts";
import type { ConfigConnection } from "../scope.ts";
import { type Lease, leasesIn } from "./leased-values.ts";
import { type OfflineFile, requireUsable } from "./offline-file.ts";
import type { OfflineCopy } from "./sealed-copy.ts";

/** A config's values, those of leases apart. */
export interface Fetched {
  readonly values: ReadonlyMap<string, string>;
  readonly leased: ReadonlyMap<string, string>;
  readonly leases: readonly Lease[];
  /** Not from the server but from the offline copy. */
  readonly isOffline: boolean;
}

/** How values are asked for. */
export interface FetchOptions {
  /** Whether to take leases of the config's dynamic secrets. */
  readonly leases: boolean;
  /** Only these, and all fields of a dynamic secret of which one is named. */
  readonly names?: readonly string[] | undefined;
  readonly ttlSeconds?: number | undefined;
  /** Which program on which machine it is for: what shares a lease where that is allowed. */
  readonly workload?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told of leases that were taken although the whole then fails: they have to be ended. */
  took?(leases: readonly Lease[]): void;
}

/** When the offline copy may stand in. */
export interface OfflineRules {
  readonly file?: OfflineFile | undefined;
  /** Do not ask the server at all. */
  readonly only?: boolean;
  readonly maxAgeSeconds?: number | undefined;
  /** Go on without the credentials that would have to be leased. */
  readonly allowMissingLeases?: boolean;
}

/** They say which config it is. */
const placeNames = ["DOPPLER_PROJECT", "DOPPLER_CONFIG"];
const maxTries = 3;
/** Making credentials at a slow target takes a while. */
const waitMs = 60_000;

/** Asks for a config's values, and keeps them for when nobody answers. */
export class ConfigSource {
  readonly #connection: ConfigConnection;
  readonly #offline: OfflineRules;
  readonly #warn: (text: string) => void;
  #copy: OfflineCopy | undefined;
  #isRead = false;

  constructor(connection: ConfigConnection, offline: OfflineRules, warn: (text: string) => void) {
    this.#connection = connection;
    this.#offline = offline;
    this.#warn = warn;
  }

  /** @throws CommandError when refused, or when nobody answers and no offline copy can stand in. */
  async fetch(options: FetchOptions): Promise<Fetched> {
    if (!this.#isRead) this.#copy = await this.#offline.file?.read();
    this.#isRead = true;
    if (this.#offline.only) return this.#fromCopy(options, undefined);
    try {
      return await this.#fromServer(options);
    } catch (error) {
      if (isForbidden(error)) this.#offline.file?.remove();
      if (!isHiccup(error) || options.signal?.aborted || !this.#offline.file) throw error;
      return this.#fromCopy(options, error);
    }
  }

  async #fromServer(options: FetchOptions): Promise<Fetched> {
    const first = await this.#download(options).catch((error: unknown) => {
      throw isLeaseRefused(error)
        ? new CommandError(1, `${error.message}\n--no-leases goes without leased credentials`, { cause: error })
        : error;
    });
    if (!options.leases || first.etag !== undefined) return this.#kept({ ...first, leasedNames: [] }, new Map(), []);
    // An answer without ETag holds leases; the same without them tells which values those are.
    const lasting = await this.#download({ ...options, leases: false }).catch((error: unknown) => {
      options.took?.(leasesIn(first.values, first.serverAheadMs));
      throw error;
    });
    const leased = new Map([...first.values].filter(([name, value]) => lasting.values.get(name) !== value));
    const leases = leasesIn(leased, first.serverAheadMs);
    return this.#kept({ ...lasting, leasedNames: [...leased.keys()] }, leased, leases);
  }

  async #kept(
    { values, etag, leasedNames }: Download & { leasedNames: readonly string[] },
    leased: ReadonlyMap<string, string>,
    leases: readonly Lease[],
  ): Promise<Fetched> {
    const before = this.#copy;
    const place = (name: string) => values.get(`DOPPLER_${name}`);
    this.#copy = {
      values: Object.fromEntries(values),
      // A look without leases knows nothing new of them.
      leasedNames: leases.length > 0 || !before ? leasedNames : before.leasedNames,
      ...(etag !== undefined && { etag }),
      confirmedAt: Date.now(),
      ...placeMembers(place("PROJECT"), place("CONFIG")),
    };
    await this.#offline.file?.keep(this.#copy, before, this.#warn);
    return { values, leased, leases, isOffline: false };
  }

  async #download({ leases, names, ttlSeconds, workload, signal }: FetchOptions): Promise<Download> {
    const copy = this.#copy;
    const known = copy?.etag;
    const { response, text } = await patiently(signal, () =>
      askText(this.#connection, "configs/config/secrets/download", {
        query: {
          format: "json",
          secrets: names && [...names, ...placeNames].join(","),
          include_dynamic_secrets: leases,
          dynamic_secrets_ttl_sec: leases ? ttlSeconds : undefined,
          workload: leases ? workload : undefined,
        },
        headers: known === undefined ? {} : { "if-none-match": known },
        waitMs,
        ...(signal && { signal }),
      }),
    );
    const date = Date.parse(response.headers.get("date") ?? "");
    const etag = response.headers.get("etag") ?? undefined;
    return {
      values: new Map(
        Object.entries(response.status === 304 && copy ? copy.values : secretsOf(this.#connection, response, text)),
      ),
      etag: response.status === 304 ? known : etag,
      serverAheadMs: Number.isNaN(date) ? 0 : date - Date.now(),
    };
  }

  #fromCopy({ leases }: FetchOptions, reason: unknown): Fetched {
    const copy = this.#copy;
    const because = reason instanceof Error ? `${reason.message}; ` : "";
    if (!copy)
      throw new CommandError(3, `${because}there is no offline copy that this token opens (${this.#offline.file?.path})`);
    requireUsable(copy, this.#connection, this.#offline.maxAgeSeconds, Date.now());
    const missing = leases ? copy.leasedNames : [];
    if (missing.length > 0 && !this.#offline.allowMissingLeases)
      throw new CommandError(
        3,
        `${because}the offline copy holds no leased credentials, so these are missing: ${missing.join(", ")}; --allow-missing-leases goes on without them`,
      );
    if (reason !== undefined) this.#warn(`${because}using the offline copy of ${cell(new Date(copy.confirmedAt).toISOString())}`);
    if (missing.length > 0) this.#warn(`leased credentials are missing: ${missing.join(", ")}`);
    return { values: new Map(Object.entries(copy.values)), leased: new Map(), leases: [], isOffline: true };
  }
}

interface Download {
  readonly values: ReadonlyMap<string, string>;
  readonly etag: string | undefined;
  /** How far the server's clock is ahead of ours. */
  readonly serverAheadMs: number;
}

/** @throws CommandError when it is something else, such as a page of what stands in between. */
function secretsOf(connection: ConfigConnection, response: Response, text: string): Record<string, string> {
  const read = jsonOf(text);
  if (!read || Object.values(read).some((value) => typeof value !== "string")) throw notRekey(connection, response);
  return read as Record<string, string>;
}

const placeMembers = (project: string | undefined, config: string | undefined) => ({
  ...(project !== undefined && { project }),
  ...(config !== undefined && { config }),
});

/** Nobody answered, or only what stands in between did. */
const isHiccup = (error: unknown): boolean =>
  error instanceof CommandError &&
  (error.exitCode === 3 || (error instanceof ConfigApiRefusal && (error.status >= 500 || error.status === 429)));

const isForbidden = (error: unknown): boolean => error instanceof ConfigApiRefusal && [401, 403, 404].includes(error.status);

/** The values may be had, only leases not. */
const isLeaseRefused = (error: unknown): error is ConfigApiRefusal =>
  error instanceof ConfigApiRefusal && error.status === 403 && error.message.includes("rekey:IssueLease");

/** A server that restarts is back in a moment; one that took the question and was slow is not asked twice. */
async function patiently<T>(signal: AbortSignal | undefined, ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      const isSlow = error instanceof Error && error.cause instanceof Error && error.cause.name === "TimeoutError";
      const again = error instanceof CommandError && error.exitCode === 3 && !isSlow;
      if (!again || tries === maxTries || signal?.aborted) throw error;
      await sleep(2 ** tries * (100 + Math.random() * 100));
    }
  }
}
