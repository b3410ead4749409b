// An OIDC issuer on loopback.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";

interface Issuer extends AsyncDisposable {
  readonly url: string;
  readonly publicKey: CryptoKey;
  /** A token; members that are undefined are left out. */
  token(claims?: JWTPayload, key?: CryptoKey): Promise<string>;
  /** What the discovery document says; tests spoil it. */
  readonly document: Record<string, unknown>;
  answerWithKeys: (keys: string) => string;
}

/** An issuer on this machine, whose keys and tokens are of our making. */
export async function startIssuer(nowMs: () => number): Promise<Issuer> {
  const { publicKey, privateKey } = await generateKeyPair("RS256");
  const keys = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "k1", alg: "RS256", use: "sig" }] });
  const issuer = { document: {} as Record<string, unknown>, answerWithKeys: (text: string) => text };
  const server = createServer((request, response) => {
    const isKeys = request.url === "/keys";
    response.end(isKeys ? issuer.answerWithKeys(keys) : JSON.stringify(issuer.document));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  Object.assign(issuer.document, { issuer: url, jwks_uri: `${url}/keys` });
  return Object.assign(issuer, {
    url,
    publicKey,
    token(claims: JWTPayload = {}, key = privateKey) {
      const seconds = Math.floor(nowMs() / 1000);
      const all = { iss: url, aud: "ci", sub: "repo:a", iat: seconds, exp: seconds + 300, ...claims };
      return new SignJWT(all).setProtectedHeader({ alg: "RS256", kid: "k1" }).sign(key);
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  });
}
