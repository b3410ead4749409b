import { PasswordPolicyError, ResultCodeError } from "ldapts";
import type { OutcomeClass } from "../core/error.ts";

type Failure = Exclude<OutcomeClass, "ok">;

/** Result codes. Source: RFC 4511, appendix A. Any other is an answer too: nothing was done. */
const byResult: Readonly<Record<number, Failure>> = {
  3: "timeout", // timeLimitExceeded
  8: "tls", // strongerAuthRequired
  13: "tls", // confidentialityRequired
  49: "refused", // invalidCredentials
  50: "denied", // insufficientAccessRights
  51: "unreachable", // busy
  52: "unreachable", // unavailable
};
/** What a directory administrator should read, by the same codes. */
const hints: Readonly<Record<number, string>> = {
  2: "the server does not know this operation",
  4: "the server gives no more entries in one answer: raise its limit for this user",
  10: "this server refers changes to another one: name that one in host",
  19: "the server's password policy",
  16: "the entry has no such value",
  17: "the server knows no such attribute",
  21: "a value does not suit its attribute",
  32: "there is no such entry",
  34: "the username is no distinguished name",
  64: "the entry's name does not suit its attributes",
  65: "the entry would not keep to its object classes",
  66: "there are entries below it",
  68: "there is such an entry already",
  53: "the server is unwilling: its policy, or a read-only copy",
};

/** Of `data …` in Active Directory's answer to a bind. Source: Windows system error codes 1300-1999, in hexadecimals. */
const byBindData: Readonly<Record<string, Failure>> = {
  "525": "refused", // no such user
  "52e": "refused",
  "530": "locked", // not at this hour
  "531": "denied", // not from this machine
  "532": "expired", // the password
  "533": "locked", // disabled
  "701": "expired", // the account
  "773": "expired", // must be changed first
  "775": "locked",
};

/** Source: draft-behera-ldap-password-policy, `PasswordPolicyResponseValue`. */
const byPolicy: Readonly<Record<number, readonly [Failure, string]>> = {
  [PasswordPolicyError.PasswordExpired]: ["expired", "the password has expired"],
  [PasswordPolicyError.AccountLocked]: ["locked", "the account is locked"],
  [PasswordPolicyError.ChangeAfterReset]: [
    "expired",
    "the policy wants the password changed again after a reset (pwdMustChange)",
  ],
  [PasswordPolicyError.PasswordModNotAllowed]: ["denied", "the policy lets the user not change the password"],
  [PasswordPolicyError.MustSupplyOldPassword]: ["invalid", "the policy wants the old password"],
  [PasswordPolicyError.InsufficientPasswordQuality]: ["invalid", "the policy finds the new password too weak"],
  [PasswordPolicyError.PasswordTooShort]: ["invalid", "the policy finds the new password too short"],
  [PasswordPolicyError.PasswordTooYoung]: ["invalid", "the policy lets the password not change so soon (pwdMinAge)"],
  [PasswordPolicyError.PasswordInHistory]: ["invalid", "the policy refuses a password that was used before"],
};

const tlsCode = /^(ERR_TLS|ERR_SSL|EPROTO|CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

const words: Readonly<Record<Failure, string>> = {
  refused: "the password is refused",
  locked: "the account is locked or disabled",
  expired: "the password or the account has expired",
  unreachable: "the server cannot be reached",
  timeout: "the server did not answer in time",
  tls: "no verified TLS connection: see ssl, starttls and sslrootcert",
  denied: "the server denies this",
  invalid: "the server cannot do this as configured",
  unknown: "the connection ended before the answer",
};

/** Source: draft-behera-ldap-password-policy: what another password may do better. */
const unfit: ReadonlySet<number> = new Set([
  PasswordPolicyError.InsufficientPasswordQuality,
  PasswordPolicyError.PasswordTooShort,
  PasswordPolicyError.PasswordInHistory,
]);

/**
 * Whether a change was refused for the new password's own sake. A server that does not say which rule it was answers 19, or
 * 53 with ERROR_PASSWORD_RESTRICTION; Active Directory's 19 with ERROR_INVALID_PASSWORD is about the old one.
 * Source: RFC 4511, appendix A; Windows system error codes.
 */
export function isUnfit(error: unknown, policy: number | undefined): boolean {
  if (!(error instanceof ResultCodeError)) return false;
  if (policy !== undefined) return unfit.has(policy);
  const restricted = /^0000052d/i.test(error.message);
  return restricted || (error.code === 19 && !/^00000056/.test(error.message));
}

interface Circumstances {
  readonly changing: boolean;
  readonly late: boolean;
  /** The error of a password policy control, if one came. */
  readonly policy?: number | undefined;
}

/** What an error means, in words of our own: a server's texts may quote what it was sent. Only an answer is ever a refusal. */
export function explain(error: unknown, { changing, late, policy }: Circumstances): { outcome: Failure; text: string } {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (error instanceof ResultCodeError) return explainResult(error, policy);
  if (changing) return { outcome: "unknown", text: words.unknown };
  if (late) return { outcome: "timeout", text: words.timeout };
  const outcome = typeof code === "string" && tlsCode.test(code) ? "tls" : "unreachable";
  return { outcome, text: `${words[outcome]}${typeof code === "string" ? ` (${code})` : ""}` };
}

function explainResult({ code, message }: ResultCodeError, policy: number | undefined): { outcome: Failure; text: string } {
  const [outcome, text] = byPolicy[policy ?? -1] ?? [];
  if (outcome && text) return { outcome, text };
  const data = code === 49 ? /, data ([0-9a-f]{3}),/i.exec(message)?.[1]?.toLowerCase() : undefined;
  const found = byBindData[data ?? ""] ?? byResult[code] ?? "invalid";
  const hint = hints[code];
  return { outcome: found, text: `${words[found]} (result ${code}${data ? `, data ${data}` : ""}${hint ? `: ${hint}` : ""})` };
}

/** A bind that succeeded, and yet lets the user do nothing but change the password. */
export function explainPolicy(policy: number | undefined): { outcome: Failure; text: string } | undefined {
  const [outcome, text] = byPolicy[policy ?? -1] ?? [];
  return outcome && text ? { outcome, text } : undefined;
}
