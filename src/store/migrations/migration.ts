export interface Migration {
  /** 1, 2, 3, … without a gap. */
  readonly id: number;
  readonly name: string;
  /** Statements for both databases; `bytes`, `serial_key` and `byte_ordered` stand for types that are called differently. */
  readonly sql: readonly string[];
}
