import type { FastifyInstance } from "fastify";

export const keySetPath = "/.well-known/jwks.json";
/** Together with the five minutes that functions keep it, less than the ten that a new key is published before it signs. */
const cachedSeconds = 240;

/** The public keys that signatures of this server are verified with now, for everyone. Source: RFC 7517 section 5. */
export function keySet(app: FastifyInstance, served: () => Promise<readonly object[]>): void {
  app.get(keySetPath, async (_request, reply) => {
    const keys = await served();
    return reply
      .headers({ "cache-control": `public, max-age=${cachedSeconds}`, "content-type": "application/jwk-set+json" })
      .send(JSON.stringify({ keys }));
  });
}
