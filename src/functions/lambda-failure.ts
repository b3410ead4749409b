import type { OutcomeClass } from "../core/error.ts";
import type { CallFailure } from "../core/function.ts";

interface Known {
  readonly outcome: Exclude<OutcomeClass, "ok">;
  readonly remedy: string;
}

const rights = (right: string): Known => ({
  outcome: "denied",
  remedy: `Give this server's AWS identity, or the role that it assumes, ${right} on the function.`,
});
const identity: Known = {
  outcome: "denied",
  remedy: "Give this server AWS credentials that are valid now: by its environment, a profile or the machine's role.",
};
const throttled: Known = {
  outcome: "unreachable",
  remedy: "The function's concurrency at AWS is used up: it is tried again; raise it if this stays so.",
};
const network: Known = {
  outcome: "invalid",
  remedy:
    "Correct the function's VPC settings at AWS: subnets, security groups, free addresses and its right to make network interfaces.",
};
const key: Known = { outcome: "denied", remedy: "Let the function's role use the KMS key of its variables." };
const unsigned: Known = {
  outcome: "invalid",
  remedy:
    "The function's code signing at AWS takes signed packages only. Sign the zip with its signing profile (aws signer start-signing-job), then name the signed one: rekey function update NAME --signed-code s3://BUCKET/KEY --signed-sha256 DIGEST.",
};
const later: Known = { outcome: "unreachable", remedy: "The function is not ready at AWS: it is tried again." };

/** By the names of AWS's errors. Source: AWS Lambda API reference, Invoke, "Errors"; STS API reference, "Common errors". */
const byName: Readonly<Record<string, Known>> = {
  CodeSigningConfigNotFoundException: unsigned,
  CodeStorageExceededException: {
    outcome: "invalid",
    remedy: "The account's room for code at AWS is used up: remove versions of functions that nothing needs.",
  },
  CodeVerificationFailedException: unsigned,
  CredentialsProviderError: identity,
  EC2AccessDeniedException: network,
  EC2ThrottledException: throttled,
  ENILimitReachedException: network,
  ENINotReadyException: later,
  ExpiredToken: identity,
  ExpiredTokenException: identity,
  IncompleteSignature: identity,
  InvalidClientTokenId: identity,
  InvalidCodeSignatureException: unsigned,
  InvalidSecurityGroupIDException: network,
  InvalidSignatureException: identity,
  InvalidSubnetIDException: network,
  KMSAccessDeniedException: key,
  KMSDisabledException: key,
  KMSInvalidStateException: key,
  KMSNotFoundException: key,
  PreconditionFailedException: later,
  RegionDisabledException: { outcome: "denied", remedy: "Enable STS in that region for the account." },
  RequestTooLargeException: { outcome: "invalid", remedy: "The event is larger than AWS Lambda takes." },
  ResourceConflictException: later,
  ResourceNotFoundException: {
    outcome: "invalid",
    remedy: "Correct the ARN of the function at AWS, its region and its qualifier.",
  },
  ResourceNotReadyException: later,
  SignatureDoesNotMatch: identity,
  SnapStartNotReadyException: later,
  SubnetIPAddressLimitReachedException: network,
  Throttling: throttled,
  ThrottlingException: throttled,
  TooManyRequestsException: throttled,
  UnrecognizedClientException: identity,
};

const route: Known = {
  outcome: "unreachable",
  remedy: "Check this server's way to AWS: network, name resolution, proxy, AWS_ENDPOINT_URL_LAMBDA.",
};
const byCode: Readonly<Record<string, Known>> = {
  EAI_AGAIN: route,
  ECONNREFUSED: route,
  EHOSTUNREACH: route,
  ENETUNREACH: route,
  ENOTFOUND: route,
};

/** The class and the sentence of a call that AWS refused or did not answer, `right`: what it needs. What is not known for sure is `unknown`. */
export function lambdaFailure(error: unknown, right = "lambda:InvokeFunction"): CallFailure {
  const { name, message, code } = partsOf(error);
  const known =
    (/^AccessDenied(Exception)?$/.test(name) ? rights(right) : byName[name]) ?? byCode[code] ?? byText(name, message, code);
  if (known) return { outcome: known.outcome, remedy: known.remedy, message: sentence(name, message, code) };
  return {
    outcome: "unknown",
    message: sentence(name, message, code),
    remedy: "It is tried again; see AWS's status and the function's log.",
  };
}

function byText(name: string, message: string, code: string): Known | undefined {
  if (/CERT|TLS|SSL|SIGNATURE/.test(code))
    return { outcome: "tls", remedy: "See which authority signed what answers at AWS's address." };
  // The SDK calls it a timeout as well when a connection ends: the function may have been called then.
  if (code === "ECONNRESET" || /socket hang up/.test(message)) return undefined;
  if (name === "TimeoutError" || code === "ETIMEDOUT")
    return { ...route, outcome: /connect/i.test(message) ? "unreachable" : "timeout" };
  return undefined;
}

function partsOf(error: unknown): { name: string; message: string; code: string } {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), code: "" };
  const inner = error instanceof AggregateError ? error.errors[0] : undefined;
  const code = [error, inner, error.cause]
    .map((each) => (each instanceof Error && "code" in each ? String(each.code) : ""))
    .find(Boolean);
  // Whoever says more begins a new sentence.
  return { name: error.name, message: error.message.replace(/\.+$/, ""), code: code ?? "" };
}

function sentence(name: string, message: string, code: string): string {
  const said = [name === "Error" ? code : name, message].filter((part) => part !== "").join(": ");
  return said.replaceAll(/\s+/g, " ").slice(0, 500);
}
