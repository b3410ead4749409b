import { createHmac, hash, timingSafeEqual } from "node:crypto";
import { ServiceError } from "./error.ts";
import { byteText, canonicalRequest, type SignedRequest } from "./sigv4-canonical.ts";

export type { SignedRequest } from "./sigv4-canonical.ts";

/** What the headers of a signed request claim; true only once `verifySignature` has said so. */
export interface Authorization {
  readonly accessKeyId: string;
  /** The scope's day, `20260131`: with region, service and access key it names the signing key. */
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
  /** `20260131T235959Z`. */
  readonly amzDate: string;
  readonly securityToken?: string;
}

/** What this door answers for. The first of `services` is the one that the error names. */
export interface SigningScope {
  readonly services: readonly string[];
  isRegion(region: string): boolean;
  readonly nowMs: number;
}

const algorithm = "AWS4-HMAC-SHA256";
const maxHeaderLength = 16_384;
const maxSignedHeaders = 100;
const windowMs = 5 * 60_000;
/** A signature that left one of these out would let a stranger put the signed bytes to another use. */
const signedWhenPresent = [
  ["host", "'Host' or ':authority'"],
  ["x-amz-date", "'X-Amz-Date'"],
  ["x-amz-target", "'X-Amz-Target'"],
  ["x-amz-security-token", "'X-Amz-Security-Token'"],
] as const;

/**
 * Reads the signature headers of a request and checks all that needs no key: presence, form, scope, then age (five minutes either way).
 * `host` must be signed, and so must `x-amz-date`, `x-amz-target` and `x-amz-security-token` when sent; other headers may go unsigned.
 * @throws ServiceError MissingAuthenticationTokenException, IncompleteSignatureException or InvalidSignatureException.
 * Source: AWS General Reference, "Signature Version 4 signing process" and "Troubleshooting".
 */
export function parseAuthorization(request: SignedRequest, scope: SigningScope): Authorization {
  const header = single(request, "authorization");
  if (!header) throw new ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token");
  const parameters = readParameters(header);
  const sentDate = single(request, "x-amz-date") || single(request, "date");
  const { credential, signedHeaders, signature, signedAt } = requireParts(header, parameters, sentDate);
  const [accessKeyId = "", date = "", region = "", service = "", terminator, ...rest] = credential.split("/");
  if (terminator === undefined || rest.length > 0) {
    throw incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.");
  }
  checkScope({ region, service, terminator }, scope);
  const amzDate = checkDate(signedAt, date, scope.nowMs);
  const names = signedHeaders.split(";");
  if (names.length > maxSignedHeaders) throw incomplete(`Authorization header signs more than ${maxSignedHeaders} headers.`);
  for (const [name, title] of signedWhenPresent) {
    if (!names.includes(name) && (name === "host" || request.headers[name] !== undefined)) {
      throw invalid(`${title} must be a 'SignedHeader' in the AWS Authorization.`);
    }
  }
  const securityToken = single(request, "x-amz-security-token");
  const claims = { accessKeyId, date, region, service, signedHeaders: names, signature, amzDate };
  return securityToken === undefined ? claims : { ...claims, securityToken };
}

/** HMAC-SHA-256 under one derived key, its two padded blocks made once. Prints nothing of the key. */
export class SigningKey {
  readonly #inner: Buffer;
  readonly #outer: Buffer;

  constructor(key: Uint8Array) {
    this.#inner = Buffer.alloc(64, 0x36);
    this.#outer = Buffer.alloc(96, 0x5c);
    for (const [index, byte] of key.entries()) {
      this.#inner[index] = byte ^ 0x36;
      this.#outer[index] = byte ^ 0x5c;
    }
  }

  /** The signature of a string to sign: 64 lower-case hex digits. */
  sign(text: string): string {
    const inner = hash("sha256", Buffer.concat([this.#inner, Buffer.from(text, "utf8")]), "buffer");
    this.#outer.set(inner, 64);
    return hash("sha256", this.#outer);
  }
}

/** The key that signs one access key's requests of one day to one service in one region; worth keeping, as it costs four HMACs. */
export function deriveSigningKey(secretAccessKey: string, date: string, region: string, service: string): SigningKey {
  let key: Uint8Array = Buffer.from(`AWS4${secretAccessKey}`, "utf8");
  for (const part of [date, region, service, "aws4_request"]) key = createHmac("sha256", key).update(part).digest();
  return new SigningKey(key);
}

/**
 * Whether the request, body included, is what the holder of the key signed; compared in constant time.
 * False also when a signed header is missing or `X-Amz-Content-Sha256` is not the body's hash.
 */
export function verifySignature(request: SignedRequest, authorization: Authorization, signingKey: SigningKey): boolean {
  const bodyHash = hash("sha256", request.body);
  const declaredHash = request.headers["x-amz-content-sha256"];
  if (declaredHash !== undefined && declaredHash !== bodyHash) return false;
  const canonical = canonicalRequest(request, authorization.signedHeaders, bodyHash);
  if (canonical === undefined) return false;
  const expected = Buffer.from(signingKey.sign(stringToSign(authorization, canonical)), "latin1");
  const claimed = Buffer.from(authorization.signature, "utf8");
  return claimed.length === expected.length && timingSafeEqual(claimed, expected);
}

/** The text that the signing key signs. Source: AWS General Reference, "Create a signed AWS API request", step 3. */
export function stringToSign(
  { amzDate, date, region, service }: Pick<Authorization, "amzDate" | "date" | "region" | "service">,
  canonical: string,
): string {
  return `${algorithm}\n${amzDate}\n${date}/${region}/${service}/aws4_request\n${hash("sha256", byteText(canonical))}`;
}

function single({ headers }: SignedRequest, name: string): string | undefined {
  const value = headers[name];
  return typeof value === "string" || value === undefined ? value : value[0];
}

/** Empty when the header is of another scheme, or too long to be one of ours. */
function readParameters(header: string): Map<string, string> {
  const parameters = new Map<string, string>();
  if (!header.startsWith(`${algorithm} `) || header.length > maxHeaderLength) return parameters;
  for (const piece of header.slice(algorithm.length).split(",")) {
    const equals = piece.indexOf("=");
    if (equals < 0) {
      throw incomplete(
        `Invalid key=value pair (missing equal-sign) in Authorization header (hashed with SHA-256 and encoded with Base64): '${digest(header)}'.`,
      );
    }
    parameters.set(piece.slice(0, equals).trim(), piece.slice(equals + 1).trim());
  }
  return parameters;
}

function requireParts(header: string, parameters: Map<string, string>, sentDate: string | undefined) {
  const credential = parameters.get("Credential");
  const signature = parameters.get("Signature");
  const signedHeaders = parameters.get("SignedHeaders");
  if (credential && signature && signedHeaders && sentDate) return { credential, signature, signedHeaders, signedAt: sentDate };
  const problems: string[] = [];
  if (!credential) problems.push("Authorization header requires 'Credential' parameter.");
  if (!signature) problems.push("Authorization header requires 'Signature' parameter.");
  if (!signedHeaders) problems.push("Authorization header requires 'SignedHeaders' parameter.");
  if (!sentDate) problems.push("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.");
  // Hashed: a header of another scheme can be a password or token in plain sight, and messages reach logs.
  throw incomplete(`${problems.join(" ")} (Hashed with SHA-256 and encoded with Base64) Authorization=${digest(header)}`);
}

function checkScope(
  claimed: { region: string; service: string; terminator: string },
  { services, isRegion }: SigningScope,
): void {
  let problems = "";
  if (!isRegion(claimed.region)) problems += `Credential should be scoped to a valid region, not '${claimed.region}'. `;
  if (!services.includes(claimed.service)) problems += `Credential should be scoped to correct service: '${services[0]}'. `;
  if (claimed.terminator !== "aws4_request") {
    problems += `Credential should be scoped with a valid terminator: 'aws4_request', not '${claimed.terminator}'. `;
  }
  if (problems !== "") throw invalid(problems);
}

/** The time of signing as `20260131T235959Z`, once it fits the scope's day and is within the window. */
function checkDate(sentDate: string, scopeDate: string, nowMs: number): string {
  const signedAt = parseBasicDate(sentDate) ?? parseHttpDate(sentDate);
  if (signedAt === undefined) {
    throw incomplete(`Date must be in ISO-8601 'basic format'. Got '${sentDate}'. See http://en.wikipedia.org/wiki/ISO_8601`);
  }
  const amzDate = sentDate.endsWith("Z") ? sentDate : basicDate(signedAt);
  const day = amzDate.slice(0, 8);
  if (day !== scopeDate) {
    throw invalid(
      `Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '${scopeDate}' != '${day}', from '${amzDate}'.`,
    );
  }
  const now = nowMs - (nowMs % 1000);
  if (signedAt < now - windowMs) {
    throw invalid(`Signature expired: ${amzDate} is now earlier than ${basicDate(now - windowMs)} (${basicDate(now)} - 5 min.)`);
  }
  if (signedAt > now + windowMs) {
    throw invalid(
      `Signature not yet current: ${amzDate} is still later than ${basicDate(now + windowMs)} (${basicDate(now)} + 5 min.)`,
    );
  }
  return amzDate;
}

function basicDate(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;
}

function parseBasicDate(text: string): number | undefined {
  if (!/^\d{8}T([01]\d|2[0-3])[0-5]\d[0-5]\dZ$/.test(text)) return undefined;
  const month = Number(text.slice(4, 6));
  const [year, day] = [Number(text.slice(0, 4)), Number(text.slice(6, 8))];
  const at = Date.UTC(year, month - 1, day, Number(text.slice(9, 11)), Number(text.slice(11, 13)), Number(text.slice(13, 15)));
  // A day or month that does not exist lands in another month.
  return new Date(at).getUTCMonth() + 1 === month ? at : undefined;
}

/** `Sun, 06 Nov 1994 08:49:37 GMT`. Source: RFC 9110 section 5.6.7. */
function parseHttpDate(text: string): number | undefined {
  const at = /^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) || new Date(at).toUTCString() !== text ? undefined : at;
}

function digest(text: string): string {
  return hash("sha256", text, "base64");
}

function incomplete(message: string): ServiceError {
  return new ServiceError("IncompleteSignatureException", message);
}

function invalid(message: string): ServiceError {
  return new ServiceError("InvalidSignatureException", message);
}
