import type { Strategy } from "./rotation.ts";

/** What is known of one version that may be in force at the target. */
export interface Candidate {
  readonly versionId: string;
  readonly stage: "AWSCURRENT" | "AWSPREVIOUS" | "AWSPENDING";
  readonly retiresAt?: number | undefined;
  readonly isRetired: boolean;
}

/** The secret at the same moment. */
export interface CandidateSecret {
  readonly generation: number;
  /** The version that the target was last seen to take in place of AWSCURRENT's. */
  readonly switchedTo?: string | undefined;
  /** The version of a running rotation whose setSecret is done. */
  readonly setTo?: string | undefined;
  readonly strategy?: Strategy | undefined;
}

export interface Validity {
  /** Orders the candidates: the secret's generation while, before and after a version is current. */
  readonly generation: number;
  /** Whether the target takes it now, as far as Rekey knows. */
  readonly inForce: boolean;
  /** Epoch ms of its end; absent: not known, or none. */
  readonly validUntil?: number | undefined;
}

const offset = { AWSPREVIOUS: -1, AWSCURRENT: 0, AWSPENDING: 1 } as const;

/** With these the old credential goes on being valid beside the new one. */
const keepsOld: ReadonlySet<Strategy | undefined> = new Set(["alternating-users", "dual-slot", "issuer"]);

/** Whether a candidate works now, and for how long. */
export function validityOf(candidate: Candidate, secret: CandidateSecret): Validity {
  const generation = secret.generation + offset[candidate.stage];
  return { generation, inForce: isInForce(candidate, secret), validUntil: candidate.retiresAt };
}

function isInForce({ stage, versionId, isRetired }: Candidate, { switchedTo, setTo, strategy }: CandidateSecret): boolean {
  if (stage === "AWSPENDING") return versionId === switchedTo || versionId === setTo;
  const replaced = switchedTo !== undefined;
  if (stage === "AWSCURRENT") return !replaced;
  return !isRetired && keepsOld.has(strategy);
}
