export interface Migration {
  /** 1, 2, 3, … without a gap. */
  readonly id: number;
  readonly name: string;
  /** Statements for both databases; `bytes` and `serial_key` stand for the types that are called differently. */
  readonly sql: readonly string[];
}
