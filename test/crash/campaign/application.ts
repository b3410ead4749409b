// An application as it should be: it logs in with what it last read, and reads anew every so often and when it is refused.
import { setTimeout as sleep } from "node:timers/promises";
import { GetSecretValueCommand, type SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import type { AnyCredential } from "../../../src/targets/index.ts";
import { secretsClient } from "../../support/aws.ts";
import { region } from "../../support/engine-world.ts";
import type { RekeyServer } from "../../support/rekey-server.ts";
import type { Target } from "./targets.ts";

const readEveryMs = 50;
const readEveryRefusedMs = 5;

/** What applications met. */
export interface Met {
  readonly logins: number;
  /** Answered ones; while the server is down they go on with what they have. */
  readonly reads: number;
  readonly refused: number;
  /** From a refusal to the next login that went well, as far as the server was up: how long it is down, others decide. */
  readonly longestGapMs: number;
}

export class Application {
  readonly #client: SecretsManagerClient;
  readonly #secret: string;
  readonly #login: (credential: AnyCredential) => Promise<string>;
  readonly #everyMs: number;
  readonly #ended = new AbortController();
  readonly #running: Promise<void>;
  readonly #failures = new Set<string>();
  #credential: AnyCredential | undefined;
  #askedAt = 0;
  #logins = 0;
  #reads = 0;
  #refused = 0;
  #refusedAt: number | undefined;
  #longestGapMs = 0;
  #downSince: number | undefined;
  #downMs = 0;

  /** The target's `login` says `down` while it is that: nothing can be said of the credential. */
  constructor(server: RekeyServer, secret: string, target: Pick<Target, "login" | "logsIn">, everyMs = 5) {
    this.#client = secretsClient(server, server.credentials, region);
    this.#secret = secret;
    this.#everyMs = everyMs;
    this.#login = target.login ?? target.logsIn;
    this.#running = this.#run();
  }

  /** Resolves when it has what was current when this was called. */
  async caughtUp(): Promise<void> {
    const from = performance.now();
    while (this.#askedAt < from && !this.#ended.signal.aborted) await sleep(2);
  }

  /** The server is dead, until `up`. */
  down(): void {
    this.#downSince ??= performance.now();
  }

  up(): void {
    this.#downMs = performance.now() - this.#upMs();
    this.#downSince = undefined;
  }

  /** A clock that stands while the server is down. */
  #upMs(): number {
    return (this.#downSince ?? performance.now()) - this.#downMs;
  }

  async stop(): Promise<Met & { readonly failures: readonly string[] }> {
    this.#ended.abort();
    await this.#running;
    this.#client.destroy();
    if (this.#refusedAt !== undefined) this.#gap(this.#refusedAt);
    return {
      logins: this.#logins,
      reads: this.#reads,
      refused: this.#refused,
      longestGapMs: this.#longestGapMs,
      failures: [...this.#failures],
    };
  }

  async #run(): Promise<void> {
    await Promise.all([this.#keepReading(), this.#keepLoggingIn()]);
  }

  async #keepReading(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      const askedAt = performance.now();
      const credential = await this.#read();
      if (credential) {
        this.#credential = credential;
        this.#askedAt = askedAt;
        this.#reads += 1;
      }
      await sleep(this.#refusedAt === undefined ? readEveryMs : readEveryRefusedMs);
    }
  }

  /** `undefined` while the server is down. */
  async #read(): Promise<AnyCredential | undefined> {
    try {
      const abortSignal = AbortSignal.timeout(5_000);
      const { SecretString = "" } = await this.#client.send(new GetSecretValueCommand({ SecretId: this.#secret }), {
        abortSignal,
      });
      return JSON.parse(SecretString) as AnyCredential;
    } catch {
      return undefined;
    }
  }

  async #keepLoggingIn(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      const startedAt = performance.now();
      if (this.#credential) await this.#logIn(this.#credential);
      await sleep(Math.max(0, this.#everyMs - (performance.now() - startedAt)));
    }
  }

  async #logIn(credential: AnyCredential): Promise<void> {
    const answer = await this.#login(credential);
    this.#logins += 1;
    if (answer === "refused") {
      this.#refused += 1;
      this.#refusedAt ??= this.#upMs();
    } else if (answer === "ok") {
      if (this.#refusedAt !== undefined) this.#gap(this.#refusedAt);
      this.#refusedAt = undefined;
    } else if (answer !== "down") this.#failures.add(answer);
  }

  #gap(since: number): void {
    this.#longestGapMs = Math.max(this.#longestGapMs, this.#upMs() - since);
  }
}
