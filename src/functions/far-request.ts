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
