import { ServiceError } from "../core/error.ts";
import type { Plaintext } from "../core/plaintext.ts";
import type { Principal } from "../core/principal.ts";
import type { SessionTokens } from "../core/session.ts";
import {
  type Authorization,
  deriveSigningKey,
  parseAuthorization,
  type SignedRequest,
  type SigningKey,
  verifySignature,
} from "../core/sigv4.ts";
import { hashToken, type SealedSecret } from "../store/credentials.ts";
import type { IdentityVersion } from "../store/identity-version.ts";
import type { Sql } from "../store/sql.ts";
import { CredentialCache } from "./credential-cache.ts";
import { expiredToken, findKey, findSession, findTokenHolder, invalidToken, type Known } from "./find-caller.ts";
import { createLoginLimiter, type LimiterOptions } from "./login-limiter.ts";
import type { WebIdentities } from "./web-identity.ts";

export interface AuthenticatorOptions {
  readonly sql: Sql;
  readonly identity: IdentityVersion;
  readonly account: string;
  readonly sessionTokens: SessionTokens;
  readonly webIdentities: WebIdentities;
  /** Opens the secret of an access key. */
  openSecret(secret: SealedSecret, context: { AccessKeyId: string }): Promise<Plaintext>;
  isRegion(region: string): boolean;
  now(): number;
  /** Region of callers whose credential names none: bearer tokens and web identities. */
  readonly region: string;
  readonly failedLogins?: LimiterOptions;
}

/** A caller, and the region that the call is for. */
interface Caller {
  readonly principal: Principal;
  readonly region: string;
}

/**
 * Each answers a caller or throws ServiceError: the spec's signature errors, or ThrottlingException after many failures from
 * the address. Callers known already are not held up by others' failures: one program with an old key must not lock out
 * all that share its address.
 */
export interface Authenticator {
  /**
   * By Signature Version 4. The first of `services` is the one that errors name. Answers at once for a caller known
   * already, while no identity was changed; a disabled or deleted key is refused from the next request on.
   */
  signed(request: SignedRequest & { readonly sourceIp: string }, services: readonly string[]): Caller | Promise<Caller>;
  /** By a `dp.*` token. */
  bearer(token: string, sourceIp: string): Promise<Caller>;
  /** By the token of a configured OIDC issuer; good for AssumeRoleWithWebIdentity only. */
  webIdentity(token: string, sourceIp: string): Promise<Caller>;
  /** Without a credential: may do only what any stranger may, e.g. begin to log in. */
  anonymous(sourceIp: string): Caller;
  /** When credentials were last used, since the last time this was asked; for `saveLastUses`. */
  takeLastUses(): { accessKeys: ReadonlyMap<string, number>; tokens: ReadonlyMap<string, number> };
}

interface KnownKey extends Known {
  readonly secret: Plaintext;
  /** Of temporary credentials. */
  readonly sessionToken?: string;
  readonly signingKeys: Map<string, SigningKey>;
}

const maxCallers = 10_000;
/** One access key may sign for several regions, services and days at once. */
const maxSigningKeys = 64;
/** Service tokens hold the name of their config. */
const tokenPattern = /^dp\.[a-z]+\.[A-Za-z0-9._-]{40,128}$/;

export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { identity, isRegion, now } = options;
  const limiter = createLoginLimiter(options.failedLogins ?? {});
  const keys = new CredentialCache<KnownKey>(maxCallers);
  const tokens = new CredentialCache<Known>(maxCallers);

  function verify(request: SignedRequest & { sourceIp: string }, claims: Authorization, known: KnownKey): Caller {
    if (known.expiresAt !== undefined && known.expiresAt <= now()) throw expiredToken();
    if (!verifySignature(request, claims, signingKey(known, claims))) {
      limiter.check(request.sourceIp, now());
      limiter.failed(request.sourceIp, now());
      throw new ServiceError("InvalidSignatureException", mismatchText);
    }
    keys.used(claims.accessKeyId, now());
    return { principal: known.principal, region: claims.region };
  }

  async function loadKey({ accessKeyId, securityToken }: Authorization): Promise<KnownKey | undefined> {
    if (!accessKeyId.startsWith("ASIA")) {
      if (securityToken !== undefined) return undefined;
      const key = await findKey(options, accessKeyId);
      return (
        key && { ...key, secret: await options.openSecret(key.secret, { AccessKeyId: accessKeyId }), signingKeys: new Map() }
      );
    }
    const session = securityToken === undefined ? undefined : options.sessionTokens.open(securityToken);
    if (session?.accessKeyId !== accessKeyId || securityToken === undefined) return undefined;
    if (session.expiresAt <= now()) throw expiredToken();
    const known = await findSession(options, session);
    return known && { ...known, sessionToken: securityToken, signingKeys: new Map() };
  }

  async function lookUp(request: SignedRequest & { sourceIp: string }, claims: Authorization): Promise<Caller> {
    const version = await identity.current();
    // A session token is part of the name: a guessed one must not displace, or be answered for, the real one.
    const name = claims.securityToken === undefined ? claims.accessKeyId : `${claims.accessKeyId} ${claims.securityToken}`;
    const kept = matching(keys.get(claims.accessKeyId, version), claims);
    if (!kept) limiter.check(request.sourceIp, now());
    const known = kept ?? (await keys.load(claims.accessKeyId, name, version, () => loadKey(claims)));
    if (known) return verify(request, claims, known);
    limiter.failed(request.sourceIp, now());
    throw invalidToken();
  }

  async function tokenHolder(hash: string, sourceIp: string): Promise<Known | undefined> {
    const version = await identity.current();
    const kept = tokens.get(hash, version);
    if (!kept) limiter.check(sourceIp, now());
    return kept ?? tokens.load(hash, hash, version, () => findTokenHolder(options, hash));
  }

  return {
    signed(request, services) {
      const claims = parseAuthorization(request, { services, isRegion, nowMs: now() });
      const version = identity.current();
      const known = typeof version === "string" ? matching(keys.get(claims.accessKeyId, version), claims) : undefined;
      return known ? verify(request, claims, known) : lookUp(request, claims);
    },
    async bearer(token, sourceIp) {
      const known = tokenPattern.test(token) ? await tokenHolder(hashToken(token), sourceIp) : undefined;
      if (!known) {
        limiter.check(sourceIp, now());
        limiter.failed(sourceIp, now());
        throw invalidToken();
      }
      if (known.expiresAt !== undefined && known.expiresAt <= now()) throw expiredToken();
      if (known.principal.accessKeyId !== undefined) tokens.used(known.principal.accessKeyId, now());
      return { principal: known.principal, region: options.region };
    },
    async webIdentity(token, sourceIp) {
      limiter.check(sourceIp, now());
      try {
        return { principal: await options.webIdentities.verify(token), region: options.region };
      } catch (error) {
        if (error instanceof ServiceError && error.code === "InvalidIdentityToken") limiter.failed(sourceIp, now());
        throw error;
      }
    },
    anonymous(sourceIp) {
      limiter.check(sourceIp, now());
      return { principal: stranger, region: options.region };
    },
    takeLastUses: () => ({ accessKeys: keys.takeUses(), tokens: tokens.takeUses() }),
  };
}

const stranger: Principal = { kind: "anonymous", arn: "anonymous", accountId: "", userId: "", tags: {}, policies: [] };

const mismatchText =
  "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

/** What is known of a key, if the request brings the session token that belongs to it. */
function matching(known: KnownKey | undefined, { securityToken }: Authorization): KnownKey | undefined {
  return known?.sessionToken === securityToken ? known : undefined;
}

function signingKey({ secret, signingKeys }: KnownKey, { date, region, service }: Authorization): SigningKey {
  const name = `${date}/${region}/${service}`;
  const kept = signingKeys.get(name);
  if (kept) return kept;
  const made = deriveSigningKey(secret.revealText(), date, region, service);
  const oldest = signingKeys.keys().next();
  if (signingKeys.size >= maxSigningKeys && !oldest.done) signingKeys.delete(oldest.value);
  signingKeys.set(name, made);
  return made;
}
