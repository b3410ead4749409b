/** What was asked, by whom, and what came of it. Holds names, never values. */
export interface AuditRecord {
  readonly requestId: string;
  readonly at: number;
  readonly principal: string;
  readonly accessKeyId?: string;
  /** `secretsmanager:GetSecretValue` */
  readonly action: string;
  readonly resource: string;
  readonly region: string;
  readonly sourceIp: string;
  readonly userAgent?: string;
  /** Request parameters without secret values. */
  readonly parameters: object;
  /** `ok`, or the error code answered. */
  readonly outcome: string;
}

/** Where audit records go. A call's answer leaves only after its record is durable; if it cannot be, the call fails. */
export interface Audit<Tx> {
  /** Resolves when durable; concurrent records are made durable together. */
  append(record: AuditRecord): Promise<void>;
  /** Puts the record into the transaction of the change that it reports. */
  inTransaction(tx: Tx, record: AuditRecord): Promise<void>;
}
