import { setTimeout as sleep } from "node:timers/promises";
import { logIn } from "./database.ts";
import type { Vault } from "./vault.ts";

export interface Counts {
  /** Logins that the database accepted. */
  readonly logins: number;
  /** Refused, and accepted after one re-read of the secret. */
  readonly firstRefusals: number;
  /** Refused even after one re-read. */
  readonly refused: number;
}

const workersPerService = 2;

/**
 * Services that do what applications do: read the credential from Rekey, open a new connection with it, use it, close it,
 * begin again. They remember nothing between two logins.
 */
export class Application implements AsyncDisposable {
  /** What went wrong besides refusals; empty as long as all is well. */
  readonly problems: string[] = [];
  readonly #vault: Vault;
  readonly #workers: Promise<void>[] = [];
  #counts = { logins: 0, firstRefusals: 0, refused: 0 };
  #pauseMs = 5;
  #stopping = false;

  constructor(vault: Vault) {
    this.#vault = vault;
  }

  /** A service that uses a secret to read a table. */
  start(secret: string, table: string): void {
    for (let worker = 0; worker < workersPerService; worker += 1) this.#workers.push(this.#work(secret, table));
  }

  get counts(): Counts {
    return { ...this.#counts };
  }

  /** From now on about so many logins a second in all. */
  slowDown(loginsPerSecond: number): void {
    this.#pauseMs = (1000 * this.#workers.length) / loginsPerSecond;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#workers);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #work(secret: string, table: string): Promise<void> {
    while (!this.#stopping) {
      try {
        await this.#logInOnce(secret, table);
      } catch (error) {
        // Whatever it is, the demo shows it and fails: here nothing but passwords may change.
        if (!this.#stopping) this.problems.push(`${secret}: ${error instanceof Error ? error.message : String(error)}`);
        await sleep(200);
      }
      await sleep(this.#pauseMs);
    }
  }

  async #logInOnce(secret: string, table: string): Promise<void> {
    for (const refusals of [0, 1]) {
      const { credential } = await this.#vault.read(secret);
      if (!(await logIn(credential, table))) continue;
      this.#counts.logins += 1;
      this.#counts.firstRefusals += refusals;
      return;
    }
    this.#counts.refused += 1;
  }
}
