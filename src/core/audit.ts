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
  /** Set by `inTransaction`: tells records of one request apart, so that none is moved into the trail twice. */
  readonly change?: number;
}

/** Where audit records go. A call's answer leaves only after its record is durable; if it cannot be, the call fails. */
export interface Audit<Tx> {
  /**
   * Resolves when durable; concurrent records are made durable together and all resolve in one turn.
   * @throws ServiceError InternalServiceError when the record cannot be kept; the next call tries again.
   */
  append(record: AuditRecord): Promise<void>;
  /** Puts the record into the transaction of the change that it reports; it joins the trail soon after the commit. */
  inTransaction(tx: Tx, record: AuditRecord): Promise<void>;
  /** Newest first. @throws ServiceError InvalidNextTokenException for a cursor that no search gave. */
  search(query: AuditQuery): Promise<AuditPage>;
}

/** All given conditions must hold; texts are compared whole. */
export interface AuditQuery {
  readonly principal?: string | undefined;
  readonly action?: string | undefined;
  readonly resource?: string | undefined;
  readonly outcome?: string | undefined;
  /** Epoch ms, included. */
  readonly from?: number | undefined;
  /** Epoch ms, not included. */
  readonly to?: number | undefined;
  /** `cursor` of the page before. */
  readonly cursor?: string | undefined;
  /** 1 to 1,000; default 100. */
  readonly limit?: number | undefined;
}

export interface AuditPage {
  readonly records: readonly AuditRecord[];
  /** Absent on the last page; others may be short, or empty. */
  readonly cursor?: string;
  /** False while so much waits for the search table that some of it was not looked at. */
  readonly complete: boolean;
}

/** What `verifyAudit` found. A note is no fault: an unfinished last line after a crash, a record still on its way. */
export interface AuditVerdict {
  readonly ok: boolean;
  readonly records: number;
  readonly writers: number;
  /** At most 1,000; `more` counts the rest. */
  readonly problems: readonly AuditFinding[];
  readonly more: number;
  readonly notes: readonly AuditFinding[];
  /** A cut at the end of a running or crashed writer's chain shows only for records older than this. */
  readonly windowSeconds: number;
}

export interface AuditFinding {
  readonly writer: string;
  readonly segment?: number;
  /** Line of the segment, from 1. */
  readonly line?: number;
  readonly sequence?: number;
  readonly what: string;
}
