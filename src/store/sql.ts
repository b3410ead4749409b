export type SqlValue = string | number | bigint | null | Uint8Array;
export type Row = Record<string, SqlValue>;

/**
 * All that Rekey asks of a database. Placeholders are `$1`, `$2`, … on both; times are epoch milliseconds in bigint
 * columns, read back as numbers; booleans are 0/1 integers; bytes are Uint8Array (`bytea` / `blob`).
 */
export interface Sql {
  /** Read only inside `store/`. */
  readonly dialect: "sqlite" | "postgres";
  query<R extends object = Row>(text: string, values?: readonly SqlValue[]): Promise<R[]>;
  /**
   * Commits when `work` resolves, rolls back when it throws. `work` awaits only `tx`: nothing slow, no network.
   * On SQLite concurrent calls share one BEGIN IMMEDIATE … COMMIT, each as a savepoint (group commit); all resolve
   * after the commit, and if that fails all reject. May not be nested, and once a statement failed nothing else runs.
   * With `durable: false` a power cut may undo it, though only with all that came later; on PostgreSQL, which may crash
   * alone, it is durable all the same.
   * On PostgreSQL (READ COMMITTED) rows that a decision rests on are locked first; `work` runs again after a deadlock.
   */
  transaction<T>(work: (tx: Sql) => Promise<T>, options?: { readonly durable?: boolean }): Promise<T>;
  close(): Promise<void>;
}
