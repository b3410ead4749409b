import { ServiceError } from "../core/error.ts";
import { encryptionContext } from "../core/value-context.ts";
import type { Envelope } from "../crypto/envelope.ts";
import { findSecret, loadSecret, loadValue } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import { secretTexts } from "./cut-values.ts";

const maxReads = 200;
/** Newest first: a function reads and writes the newest. */
const maxVersionsEach = 10;
/** To look for more takes too long. */
const maxTexts = 1_000;

/** What functions may know of secrets: to be cut out of all that they write. */
export class KnownValues {
  readonly #sql: Sql;
  readonly #envelope: Pick<Envelope, "open">;
  /** Ids of secrets, by the ARN of the role that read them. */
  readonly #reads = new Map<string, Set<string>>();

  constructor(sql: Sql, envelope: Pick<Envelope, "open">) {
    this.#sql = sql;
    this.#envelope = envelope;
  }

  /** From now on what the role reads is noted. */
  watch(roleArn: string): void {
    if (!this.#reads.has(roleArn)) this.#reads.set(roleArn, new Set());
  }

  noteRead(secretId: string, principalArn: string): void {
    const secrets = this.#reads.get(principalArn);
    if (!secrets) return;
    secrets.delete(secretId);
    secrets.add(secretId);
    const [oldest] = secrets;
    if (secrets.size > maxReads && oldest !== undefined) secrets.delete(oldest);
  }

  /**
   * The texts that would tell values which a process of the role may have: of all that the role read, and of the secret that
   * a call is about. `undefined` when one cannot be opened now, or there are too many: then nothing of what it wrote can be kept.
   */
  async texts(roleArn: string, region: string, secretArn: string | undefined): Promise<string[] | undefined> {
    const ids = new Set(this.#reads.get(roleArn));
    const about = secretArn === undefined ? undefined : await findSecret(this.#sql, region, secretArn);
    if (about) ids.add(about.id);
    try {
      const found: string[] = [];
      for (const id of ids) found.push(...(await this.#textsOf(id)));
      return found.length > maxTexts ? undefined : found;
    } catch (error) {
      if (error instanceof ServiceError) return undefined;
      throw error;
    }
  }

  async #textsOf(secretId: string): Promise<string[]> {
    const secret = await loadSecret(this.#sql, secretId);
    const newest = [...(secret?.versions ?? [])].sort((a, b) => b.createdAt - a.createdAt).slice(0, maxVersionsEach);
    const found: string[] = [];
    for (const { id } of newest) {
      const stored = await loadValue(this.#sql, secretId, id);
      if (!stored || !secret) continue;
      const plaintext = await this.#envelope.open(stored, encryptionContext(secret.arn, id));
      const text = stored.kind === "string" ? plaintext.revealText() : Buffer.from(plaintext.reveal()).toString("base64");
      found.push(...secretTexts(text));
    }
    return found;
  }
}
