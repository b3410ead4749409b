import { type ConfigFormat, renderSecrets } from "../../core/config-formats.ts";
import { type NameTransformer, transformNames } from "../../core/config-transformers.ts";
import { CommandError } from "../command-error.ts";
import { withProgress } from "../progress.ts";
import type { ConfigConnection } from "../scope.ts";
import { type Child, cameFromTerminal, passedSignals, StartFailure, signalCode, startChild, type Task } from "./child.ts";
import { childEnvironment, type EnvironmentRules, namesWithNul } from "./environment.ts";
import { ConfigSource, type Fetched, type OfflineRules } from "./fetch.ts";
import { LeaseKeeper } from "./lease-keeper.ts";
import type { Lease } from "./leased-values.ts";
import { Mount } from "./mount.ts";
import { renderTemplate } from "./template.ts";
import { watchConfig } from "./watch.ts";

/** What a child gets, and how. */
export interface RunOptions {
  readonly task: Task;
  readonly connection: ConfigConnection;
  readonly environment: EnvironmentRules;
  readonly offline: OfflineRules;
  /** Only these secrets, all of which have to be there. */
  readonly only?: readonly string[] | undefined;
  readonly transformer?: NameTransformer | undefined;
  /** Put them into a named pipe instead of the environment. */
  readonly mount?: MountOptions | undefined;
  readonly watch: boolean;
  readonly leases: boolean;
  readonly ttlSeconds?: number | undefined;
  readonly workload: string;
}

interface MountOptions {
  readonly path: string;
  readonly format: ConfigFormat;
  /** Instead of a format. */
  readonly template?: string | undefined;
  readonly maxReads?: number | undefined;
}

const graceMs = 10_000;
/** A child that was told to end is not started anew by a change that comes while it does. */
const endingMs = 10_000;

const warn = (text: string): void => void process.stderr.write(`rekey: warning: ${text}\n`);

/** Runs a program with a config's secrets to its end, and gives its exit code. @throws CommandError when it does not start. */
export async function runWithSecrets(options: RunOptions): Promise<number> {
  const run = new Run(options);
  const handlers = passedSignals.map((signal) => {
    const handler = () => run.pass(signal);
    process.on(signal, handler);
    return () => process.off(signal, handler);
  });
  try {
    return await run.toItsEnd();
  } catch (error) {
    if (error instanceof StartFailure) {
      process.stderr.write(`rekey: ${error.message}\n`);
      return error.childCode;
    }
    if (run.ending !== undefined) return signalCode(run.ending);
    throw error;
  } finally {
    await run.cleanUp();
    for (const remove of handlers) remove();
  }
}

class Run {
  readonly #options: RunOptions;
  readonly #source: ConfigSource;
  readonly #over = new AbortController();
  #keeper: LeaseKeeper;
  #formerKeeper: LeaseKeeper | undefined;
  #fetched: Fetched | undefined;
  #mount: Mount | undefined;
  #child: Child | undefined;
  #isStopping = false;
  #change = Promise.withResolvers<undefined>();
  #told = { at: 0 };
  #watching: Promise<void> | undefined;
  /** The signal that ended us while there was no child to pass it on to, or one that was to be replaced. */
  ending: NodeJS.Signals | undefined;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#source = new ConfigSource(options.connection, options.offline, warn);
    this.#keeper = this.#newKeeper();
  }

  #newKeeper(): LeaseKeeper {
    const { connection, watch, ttlSeconds } = this.#options;
    const onEnding = (lease: Lease) => void this.#leaseAnew(lease);
    return new LeaseKeeper({ connection, ttlSeconds, warn, ...(watch && { onEnding }) });
  }

  async toItsEnd(): Promise<number> {
    this.#accept(await withProgress("fetching secrets", () => this.#fetch(this.#options.leases), 1000));
    const { watch } = this.#options;
    if (watch) this.#watching = this.#watch();
    for (;;) {
      this.#change = Promise.withResolvers<undefined>();
      this.#child = await this.#start();
      this.#isStopping = false;
      await this.#releaseFormer();
      const code = await Promise.race([this.#child.exited, this.#change.promise]);
      if (code !== undefined) return code;
      this.#isStopping = true;
      await this.#child.stop(graceMs);
      if (this.ending !== undefined) return signalCode(this.ending);
    }
  }

  /** To the child, unless the terminal told it already; without one, or while it is being replaced, this is our own end. */
  pass(signal: NodeJS.Signals): void {
    if (signal !== "SIGUSR1" && signal !== "SIGUSR2" && signal !== "SIGHUP") this.#told.at = Date.now();
    if (!this.#child || this.#isStopping) {
      this.ending ??= signal;
      this.#over.abort();
    }
    if (this.#child && !cameFromTerminal(signal)) this.#child.signal(signal);
  }

  async cleanUp(): Promise<void> {
    this.#over.abort();
    await Promise.all([this.#mount?.close(), this.#watching, this.#releaseFormer(), this.#keeper.release()]);
  }

  async #releaseFormer(): Promise<void> {
    const former = this.#formerKeeper;
    this.#formerKeeper = undefined;
    await former?.release();
  }

  async #fetch(leases: boolean): Promise<Fetched> {
    const { only, ttlSeconds, workload } = this.#options;
    const took = (taken: readonly Lease[]) => this.#keeper.keep(taken);
    const rest = { names: only, ttlSeconds, workload, signal: this.#over.signal, took };
    if (!only || !leases) return this.#source.fetch({ leases, ...rest });
    // What is named may well be there without taking any lease.
    const lasting = await this.#source.fetch({ leases: false, ...rest });
    return only.every((name) => lasting.values.has(name)) ? lasting : this.#source.fetch({ leases, ...rest });
  }

  #accept(fetched: Fetched): void {
    this.#fetched = fetched;
    this.#keeper.keep(fetched.leases);
  }

  async #start(): Promise<Child> {
    const { task, environment, mount, transformer } = this.#options;
    const secrets = this.#chosen();
    requireAll(secrets, this.#options.only);
    if (mount) {
      const content = contentOf(secrets, mount, transformer);
      if (this.#mount) this.#mount.replace(content);
      else this.#mount = await Mount.at(mount.path, content, mount.maxReads);
      return startChild(task, process.env);
    }
    const withNul = namesWithNul(secrets);
    if (withNul.length > 0)
      throw new CommandError(1, `the values of ${withNul.join(", ")} hold a NUL, which no environment can: use --mount`);
    const names = transformNames(secrets.keys(), transformer);
    const named = new Map([...secrets].map(([name, value]) => [names.get(name) ?? name, value]));
    const { env, reserved } = childEnvironment(process.env, named, environment);
    if (reserved.length > 0)
      warn(`not put into the environment: ${reserved.join(", ")}; --overwrite ${reserved.join(",")} does it`);
    return startChild(task, env);
  }

  #chosen(): ReadonlyMap<string, string> {
    const { values, leased } = this.#fetched ?? { values: [], leased: [] };
    const all = new Map([...values, ...leased]);
    const { only } = this.#options;
    return only ? new Map([...all].filter(([name]) => only.includes(name))) : all;
  }

  /** Looks after every event whether the values have become others. Leases that are held stay. */
  async #watch(): Promise<void> {
    const { connection, leases } = this.#options;
    const { signal } = this.#over;
    for await (const _event of watchConfig(connection, { signal, warn })) {
      const before = this.#fetched;
      const fetched = await this.#fetch(leases && this.#keeper.isEmpty).catch(warnOnly);
      if (!fetched || !before || fetched.isOffline) continue;
      const leased = fetched.leases.length > 0 ? fetched.leased : before.leased;
      const shownBefore = this.#chosen();
      this.#accept({ ...fetched, leased });
      if (!isSame(this.#chosen(), shownBefore)) await this.#restartSoon("the secrets have changed");
    }
  }

  /** A lease cannot live on: takes new ones while the old ones work, and starts the child with them. */
  async #leaseAnew(ending: Lease): Promise<void> {
    const fetched = await this.#fetch(true).catch(warnOnly);
    if (!fetched || fetched.isOffline) return;
    this.#formerKeeper = this.#keeper;
    this.#keeper = this.#newKeeper();
    this.#accept(fetched);
    if (!this.#over.signal.aborted) await this.#restartSoon(`a lease of ${ending.name} ends`);
  }

  async #restartSoon(why: string): Promise<void> {
    while (Date.now() - this.#told.at < endingMs && !this.#over.signal.aborted)
      await new Promise((resolve) => setTimeout(resolve, 100));
    if (this.#over.signal.aborted) return;
    process.stderr.write(`rekey: ${why}: starting anew\n`);
    this.#change.resolve(undefined);
  }
}

/** @throws CommandError when one of the named secrets is not there. */
function requireAll(secrets: ReadonlyMap<string, string>, named: readonly string[] = []): void {
  const missing = named.filter((name) => !secrets.has(name));
  if (missing.length > 0) throw new CommandError(1, `--only-secrets names what is not there: ${missing.join(", ")}`);
}

function contentOf(secrets: ReadonlyMap<string, string>, mount: MountOptions, transformer: NameTransformer | undefined): string {
  if (mount.template !== undefined) return renderTemplate(mount.template, secrets);
  return renderSecrets(secrets, { format: mount.format, transformer }).body;
}

function isSame(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([name, value]) => b.get(name) === value);
}

function warnOnly(error: unknown): undefined {
  if (!(error instanceof CommandError)) throw error;
  warn(`what changed cannot be read: ${error.message}`);
}
