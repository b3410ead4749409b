/** A verb of a rotator or a lease target that is to be run near its target, by an agent or a function of AWS Lambda. */
export interface FarCall {
  /** As in the tables of rotators and lease targets, e.g. `postgres`. */
  readonly kind: string;
  /** Of an HTTP API, which is declared and not written. */
  readonly declaration?: unknown;
  /** `rotator.set`, `rotator.issuer.list`, `lease.create`, … */
  readonly verb: string;
  /** What it belongs to: id of a rotation, retirement, job, heartbeat or lease. */
  readonly subject: string;
  /** Of the claim on it: a far side refuses what is older than it has seen for the same subject. */
  readonly fence: number;
  /** JSON. Holds credentials: it travels sealed, and is never logged. */
  readonly input: object;
  /** Epoch ms. Not begun after it, and ended by it. */
  readonly deadlineAt: number;
  /** Running it twice ends the same as once; false: it is handed to one far side only, and once. */
  readonly repeatable: boolean;
}

/** The way into one network. */
export interface FarRoute {
  /** The verb's own answer, JSON. @throws RotatorError: the far side's, or of the way to it; `unknown` when it may have run */
  call(call: FarCall): Promise<unknown>;
}
