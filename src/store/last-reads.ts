import type { Sql } from "./sql.ts";

const dayMs = 86_400_000;
const maxPerTransaction = 200;

/** Of a config's values: `configId` and nothing else but the time. */
interface Fetch {
  readonly configId: string;
  readonly atMs: number;
}

interface Read {
  readonly secretId: string;
  readonly versionId: string;
  readonly principal: string;
  readonly atMs: number;
}

/**
 * Reads since the last flush, the latest of each principal and version: what LastAccessedDate and the evidence for retiring
 * old versions are made of; and the latest fetch of each config. A crash loses what was not flushed; the audit trail does not.
 */
export class LastReads {
  readonly #maxEntries: number;
  #reads = new Map<string, Read | Fetch>();

  constructor(maxEntries = 50_000) {
    this.#maxEntries = maxEntries;
  }

  note(secretId: string, versionId: string, principal: string, atMs: number): void {
    if (this.#reads.size >= this.#maxEntries) return;
    this.#reads.set(`${secretId} ${versionId} ${principal}`, { secretId, versionId, principal, atMs });
  }

  noteFetch(configId: string, atMs: number): void {
    if (this.#reads.size >= this.#maxEntries) return;
    this.#reads.set(configId, { configId, atMs });
  }

  /** What was noted since the last time this was asked. */
  take(): (Read | Fetch)[] {
    const taken = [...this.#reads.values()];
    this.#reads = new Map();
    return taken;
  }
}

/** Writes reads in transactions of bounded size, which do not wait for the disk: the audit trail is what must not lose them. Reads of versions that are gone meanwhile are dropped. */
export async function saveReads(sql: Sql, reads: readonly (Read | Fetch)[]): Promise<void> {
  for (let start = 0; start < reads.length; start += maxPerTransaction) {
    const page = reads.slice(start, start + maxPerTransaction);
    const save = async (tx: Sql) => {
      for (const read of page) await ("configId" in read ? saveFetch(tx, read) : saveRead(tx, read));
    };
    await sql.transaction(save, { durable: false });
  }
}

async function saveRead(tx: Sql, { secretId, versionId, principal, atMs }: Read): Promise<void> {
  // AWS shows the day only, so most reads change nothing here.
  const day = atMs - (atMs % dayMs);
  const stale = "and (last_accessed_at is null or last_accessed_at < $2)";
  await tx.query(`update secrets set last_accessed_at = $2 where id = $1 ${stale}`, [secretId, day]);
  await tx.query(`update versions set last_accessed_at = $2 where secret_id = $1 and version_id = $3 ${stale}`, [
    secretId,
    day,
    versionId,
  ]);
  await tx.query(
    `insert into last_reads (secret_id, version_id, principal, last_read_at)
     select secret_id, version_id, $3, $4 from versions where secret_id = $1 and version_id = $2
     on conflict (secret_id, version_id, principal) do update set last_read_at = excluded.last_read_at`,
    [secretId, versionId, principal, atMs],
  );
}

/** The first fetch of a config, and of an environment, is kept for ever. */
async function saveFetch(tx: Sql, { configId, atMs }: Fetch): Promise<void> {
  const [config] = await tx.query<{ project_id: string; environment: string; initial_fetch_at: number | null }>(
    "select project_id, environment, initial_fetch_at from configs where id = $1",
    [configId],
  );
  if (!config) return;
  await tx.query(
    `update configs set initial_fetch_at = coalesce(initial_fetch_at, $2), last_fetch_at = $2
     where id = $1 and (last_fetch_at is null or last_fetch_at < $2)`,
    [configId, atMs],
  );
  if (config.initial_fetch_at === null)
    await tx.query(
      "update environments set initial_fetch_at = $3 where project_id = $1 and slug = $2 and initial_fetch_at is null",
      [config.project_id, config.environment, atMs],
    );
}
