import { createRemoteJWKSet, customFetch, decodeJwt, errors, type JWTPayload, jwtVerify, type RemoteJWKSet } from "jose";
import { ServiceError } from "../core/error.ts";
import { issuerName } from "../core/identity.ts";
import type { Principal } from "../core/principal.ts";
import { findOidcProvider, type OidcProvider } from "../store/oidc-providers.ts";
import type { Sql } from "../store/sql.ts";
import { boundedFetch, fetchJson, isSafeUrl } from "./bounded-fetch.ts";

/** Who the tokens of configured OIDC issuers speak of. */
export interface WebIdentities {
  /**
   * The principal of a role's trust policy: `Federated` is the provider's ARN; `ISSUER:sub`, `:aud`, `:oaud` and `:amr` are
   * condition keys, where `aud` is the token's `azp` if it has one. Source: IAM User Guide, "Available keys for AWS web
   * identity federation".
   * @throws ServiceError InvalidIdentityToken, ExpiredTokenException, or IDPCommunicationError when the issuer does not answer.
   */
  verify(token: string): Promise<Principal>;
}

export interface WebIdentityOptions {
  readonly sql: Sql;
  readonly account: string;
  now(): number;
  /** How long an issuer may take to answer. Default 5 s. */
  readonly timeoutMs?: number;
}

/** Public keys only: a shared secret cannot tell the issuer from its clients. */
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"];
const maxTokenChars = 20_000;
const maxIssuers = 100;
const rediscoverMs = 3_600_000;
const retryMs = 1000;
const clockToleranceSeconds = 60;

export function createWebIdentities({ sql, account, now, timeoutMs = 5000 }: WebIdentityOptions): WebIdentities {
  const keySets = new Map<string, { found: Promise<RemoteJWKSet>; freshUntil: number; isPause: boolean }>();

  /** As the issuer's discovery document says; its keys are fetched again when a token names an unknown one. */
  function keySet(url: string): Promise<RemoteJWKSet> {
    const kept = keySets.get(url);
    if (kept && now() < kept.freshUntil) return kept.found;
    keySets.delete(url);
    const oldest = keySets.keys().next();
    if (keySets.size >= maxIssuers && !oldest.done) keySets.delete(oldest.value);
    const entry = { found: discover(url, timeoutMs), freshUntil: now() + rediscoverMs, isPause: false };
    keySets.set(url, entry);
    return entry.found;
  }

  /** A silent issuer is asked anew, but not for every token that strangers may send meanwhile. */
  function pause(url: string, error: ServiceError): void {
    const found = Promise.reject(error);
    found.catch(() => undefined); // perhaps nobody asks
    keySets.set(url, { found, freshUntil: now() + retryMs, isPause: true });
  }

  return {
    async verify(token) {
      const provider = await findOidcProvider(sql, issuerOf(token));
      if (!provider) throw invalid("No OpenIDConnect provider found in your account for the token's issuer");
      try {
        const claims = await verifyToken(token, await keySet(provider.url), provider, new Date(now()));
        return toPrincipal(claims, provider, account);
      } catch (error) {
        const isSilent = error instanceof ServiceError && error.code === "IDPCommunicationError";
        if (isSilent && !keySets.get(provider.url)?.isPause) pause(provider.url, error);
        throw error;
      }
    },
  };
}

const invalid = (message: string, options?: ErrorOptions) => new ServiceError("InvalidIdentityToken", message, options);

function issuerOf(token: string): string {
  try {
    const { iss } = token.length > maxTokenChars ? {} : decodeJwt(token);
    if (typeof iss === "string") return iss;
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error;
  }
  throw invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)");
}

async function discover(url: string, timeoutMs: number): Promise<RemoteJWKSet> {
  const fetch = boundedFetch(timeoutMs);
  try {
    const document = await fetchJson(fetch, `${url.replace(/\/$/, "")}/.well-known/openid-configuration`);
    if (document.issuer !== url) throw new Error("the discovery document is of another issuer");
    if (typeof document.jwks_uri !== "string" || !mayHoldKeys(document.jwks_uri, url))
      throw new Error("jwks_uri is no https address");
    return createRemoteJWKSet(new URL(document.jwks_uri), { timeoutDuration: timeoutMs, [customFetch]: fetch });
  } catch (error) {
    throw new ServiceError("IDPCommunicationError", `Couldn't retrieve verification key from your identity provider, ${url}`, {
      cause: error,
    });
  }
}

/** Plain http only to where the issuer itself was configured so: no other may send us to what listens on this machine. */
function mayHoldKeys(address: string, issuer: string): boolean {
  return isSafeUrl(address) && (address.startsWith("https:") || new URL(address).origin === new URL(issuer).origin);
}

async function verifyToken(token: string, keys: RemoteJWKSet, provider: OidcProvider, currentDate: Date): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, keys, {
      issuer: provider.url,
      algorithms,
      currentDate,
      clockTolerance: clockToleranceSeconds,
      requiredClaims: ["sub", "aud", "exp", "iat"],
    });
    return payload;
  } catch (error) {
    throw toServiceError(error, provider.url);
  }
}

/** A bad token is the caller's fault; everything else is silence of the issuer. */
function toServiceError(error: unknown, url: string): ServiceError {
  if (error instanceof errors.JWTExpired) {
    return new ServiceError("ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time", {
      cause: error,
    });
  }
  const ofToken = [
    errors.JWTClaimValidationFailed,
    errors.JWTInvalid,
    errors.JWSInvalid,
    errors.JWSSignatureVerificationFailed,
    errors.JOSEAlgNotAllowed,
    errors.JOSENotSupported,
    errors.JWKSNoMatchingKey,
    errors.JWKSMultipleMatchingKeys,
  ];
  if (ofToken.some((kind) => error instanceof kind)) {
    return invalid("The web identity token that was passed could not be validated", { cause: error });
  }
  return new ServiceError("IDPCommunicationError", `Couldn't retrieve verification key from your identity provider, ${url}`, {
    cause: error,
  });
}

function toPrincipal(claims: JWTPayload, { arn, url, clientIds }: OidcProvider, account: string): Principal {
  const audiences = [claims.aud ?? []].flat();
  const party = typeof claims.azp === "string" ? claims.azp : undefined;
  const madeFor = (party === undefined ? audiences : [party]).filter((id) => clientIds.includes(id));
  if (madeFor.length === 0) throw invalid("Incorrect token audience");
  const subject = claims.sub ?? "";
  const name = issuerName(url);
  const amr = Array.isArray(claims.amr) ? claims.amr.filter((one) => typeof one === "string") : [];
  return {
    kind: "federated",
    arn,
    accountId: account,
    userId: `${arn}:${subject}`,
    tags: {},
    policies: [],
    context: {
      [`${name}:sub`]: [subject],
      [`${name}:aud`]: madeFor,
      ...(party === undefined ? {} : { [`${name}:oaud`]: audiences }),
      ...(amr.length === 0 ? {} : { [`${name}:amr`]: amr }),
      "aws:FederatedProvider": [arn],
    },
  };
}
