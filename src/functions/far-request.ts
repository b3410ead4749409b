import { RotatorError } from "../core/error.ts";
import { MessageRefused, type RefusalReason } from "../crypto/message-refused.ts";
import type { FarRequest } from "../crypto/messages.ts";
import type { FarCall } from "../targets/far.ts";

export const farCallType = "rekey.call";

interface Addressed {
  /** ARN of the agent or function that is asked. */
  readonly audience: string;
  /** UUID. */
  readonly id: string;
  readonly nowMs: number;
}

/** The message that asks a far side to run a verb. */
export function farRequest(call: FarCall, { audience, id, nowMs }: Addressed): FarRequest {
  const { kind, declaration, verb, subject, fence, input, deadlineAt } = call;
  return {
    type: farCallType,
    body: { kind, ...(declaration === undefined ? {} : { declaration }), input },
    audience,
    id,
    subject,
    step: verb,
    fence,
    notBeforeAt: nowMs,
    expiresAt: deadlineAt,
  };
}

/** For the audit trail: that the far side refused our message, or that we refuse its reply. `undefined`: neither. */
export function refusalOf(error: unknown): { readonly Refused: RefusalReason } | { readonly Reply: RefusalReason } | undefined {
  if (!(error instanceof RotatorError && error.cause instanceof MessageRefused)) return undefined;
  const { reason } = error.cause;
  return reason === "stale" ? { Refused: reason } : { Reply: reason };
}
