import type { RekeyServer } from "../../support/rekey-server.ts";
import type { PlannedDeath } from "./far-points.ts";

/** A place begins with it where a side was stopped, and not killed. */
export const stoppedWord = "stopped:";

/** Whoever works at the targets of a network: agents, or functions of AWS Lambda. */
export interface FarSides extends AsyncDisposable {
  readonly serverFlags: readonly string[];
  readonly serverEnv: NodeJS.ProcessEnv;
  /** Messages that were cut, lost, late or doubled so far. */
  readonly faults: number;
  /** Makes the network and what works in it. */
  introduce(server: RekeyServer): Promise<void>;
  /** Of each message; in [0, 1]. */
  faultRate(rate: number): void;
  /** One of them will die at a point of its work or at a moment, or be stopped there; absent: they cannot be killed. */
  plan?(): PlannedDeath;
  /** Starts what is dead. What was stopped goes on, now or at a moment of the next round. */
  revive(): Promise<void>;
  /** Nobody is dead, and nobody stopped. */
  readonly isWhole: boolean;
  /** All that they have said. */
  output(): string;
}
