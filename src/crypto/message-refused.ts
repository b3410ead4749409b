/** Why a message is refused, and what that says to whoever reads it in an audit log. */
const texts = {
  "too-large": "The message is larger than 256 KiB.",
  unreadable: "The message is not sealed as it must be, or was changed on the way.",
  "other-receiver": "The message is sealed to the keys of another agent or function.",
  algorithm: "The message names another algorithm, or header members that have no business there.",
  "unknown-key": "The message is signed by a key that is not in the key set.",
  signature: "The message's signature is wrong.",
  shape: "The message is signed, but lacks members or has unknown ones.",
  issuer: "The message is of another Rekey.",
  audience: "The message is addressed to another agent or function.",
  "too-old": "The message is older than 30 seconds: it was held back or sent again, or one of the two clocks is wrong.",
  "too-early": "The message is of the future by more than 30 seconds: one of the two clocks is wrong.",
  expired: "The message's deadline has passed.",
  stale: "A younger claim on the same work has been seen: this one is no longer valid.",
} as const;

export type RefusalReason = keyof typeof texts;

/** A request that is not acted on. Only the one whose claim is stale is answered by something that is signed and sealed. */
export class MessageRefused extends Error {
  override readonly name = "MessageRefused";
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, options?: ErrorOptions) {
    super(texts[reason], options);
    this.reason = reason;
  }
}
