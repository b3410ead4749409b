// Signing keys: which one signs, which are published, and how those who trust an old one come to trust the new one.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { JWK } from "jose";
import { ServiceError } from "../../src/core/error.ts";
import { nextSigningKey, type SigningKeyRecord, servedAt, signingAt, signingKeyState } from "../../src/core/signing-key.ts";
import { importSigningKey, newPrivateJwk, publicJwk, type SigningKey } from "../../src/crypto/message-keys.ts";
import { writeSigned } from "../../src/crypto/signed-text.ts";
import { endorse, followKeys } from "../../src/crypto/signing-key-chain.ts";

const minute = 60_000;
const day = 24 * 60 * minute;
const first: SigningKeyRecord = { sequence: 1, kid: "k1", publicKey: {}, createdAt: 0, signsFromAt: 0 };

/** The keys after a rotation at a time; refused ones change nothing. */
function rotated(keys: readonly SigningKeyRecord[], nowMs: number, signsInSeconds?: number): readonly SigningKeyRecord[] {
  try {
    const { sequence, signsFromAt, previous, previousUntilAt } = nextSigningKey(keys, nowMs, signsInSeconds);
    const ended = keys.map((key) => (key === previous ? { ...key, servedUntilAt: previousUntilAt } : key));
    return [...ended, { sequence, kid: `k${sequence}`, publicKey: {}, createdAt: nowMs, signsFromAt }];
  } catch (error) {
    assert.ok(error instanceof ServiceError && error.code === "InvalidRequestException");
    return keys;
  }
}

describe("the rule", () => {
  it("publishes a new key ten minutes before it signs, and the old one for a day after", () => {
    const keys = rotated([first], day);
    const at = (ms: number) => keys.map((key) => signingKeyState(key, keys, ms));
    assert.deepEqual(at(day), ["signing", "published"]);
    assert.deepEqual(at(day + 10 * minute - 1), ["signing", "published"]);
    assert.deepEqual(at(day + 10 * minute), ["served", "signing"]);
    assert.deepEqual(at(2 * day + 10 * minute), ["ended", "signing"]);
    assert.throws(() => nextSigningKey(keys, day + minute), /k2 is published and signs from 1970-01-02T00:10:00.000Z/);
    assert.equal(rotated(keys, day + 10 * minute).length, 3);
    assert.throws(() => nextSigningKey([], 0), /no signing key/);
  });

  it("holds for clocks that stand before the first key was made", () => {
    assert.equal(signingAt([{ ...first, signsFromAt: 5 }], 0)?.sequence, 1);
    assert.equal(signingAt([], 0), undefined);
  });

  it("whatever is rotated when: what signs has been published for ten minutes, and is served for a day after it signed", () => {
    const turns = fc.array(
      fc.record({ after: fc.integer({ min: 0, max: 3 * day }), wait: fc.integer({ min: 600, max: 200_000 }) }),
    );
    fc.assert(
      fc.property(turns, fc.array(fc.nat(30 * day)), (rotations, looks) => {
        let [keys, at]: [readonly SigningKeyRecord[], number] = [[first], 0];
        for (const { after, wait } of rotations) {
          at += after;
          keys = rotated(keys, at, wait);
        }
        for (const ms of looks) {
          const signing = signingAt(keys, ms);
          assert.ok(signing);
          assert.ok(signing.sequence === 1 || signing.createdAt + 10 * minute <= ms);
          assert.ok(servedAt(keys, ms).includes(signing) && servedAt(keys, ms + day).includes(signing));
        }
      }),
    );
  });
});

interface Link {
  readonly open: JWK;
  readonly key: SigningKey;
  /** By the one before. */
  readonly endorsement: string;
}

/** Keys that sign from day 1, 2, … on, each endorsed by the one before. */
async function chain(length: number): Promise<Link[]> {
  const links: Link[] = [];
  for (let n = 0; n < length; n += 1) {
    const jwk = await newPrivateJwk("sig");
    const [open, key] = [publicJwk(jwk), await importSigningKey(jwk)];
    const by = links.at(-1)?.key;
    const times = { signsFromAt: (n + 1) * day, previousUntilAt: (n + 2) * day };
    links.push({ open, key, endorsement: by ? await endorse({ publicKey: open, ...times }, by, n * day) : "" });
  }
  return links;
}

const links = await chain(4);
const endorsements = links.slice(1).map(({ endorsement }) => endorsement);
const [a, b, c, d] = links as [Link, Link, Link, Link];
const kids = (keys: readonly JWK[]) => keys.map(({ kid }) => kid);

describe("who trusts one key", () => {
  it("comes to trust the next ones, in whatever order it hears of them, and lets go of those that ended", async () => {
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(endorsements, { minLength: 3 }), async (shuffled) => {
        assert.deepEqual(new Set(kids(await followKeys([a.open], shuffled, 0))), new Set(links.map(({ key }) => key.kid)));
        assert.deepEqual(kids(await followKeys([a.open], shuffled, 10 * day)), [d.key.kid]);
      }),
      { numRuns: 6 },
    );
    assert.deepEqual(
      kids(await followKeys([a.open], endorsements, 3 * day)),
      [a, b, c, d].slice(1).map(({ key }) => key.kid),
    );
    assert.deepEqual(kids(await followKeys([a.open], [], 10 * day)), [a.key.kid]);
  });

  it("passes a gap by no means, and nothing backwards", async () => {
    assert.deepEqual(kids(await followKeys([a.open], [c.endorsement, d.endorsement], 0)), [a.key.kid]);
    assert.deepEqual(kids(await followKeys([c.open], endorsements, 0)), [c.key.kid, d.key.kid]);
  });

  it("takes no endorsement by a stranger, of another type, changed, or of what is no key", async () => {
    const [stranger, next] = await chain(2);
    assert.ok(stranger && next);
    const body = { key: { kty: "EC", crv: "P-521", x: next.open.x, y: next.open.y }, iat: 0, nbf: 0, previousUntil: 0 };
    const badPoint = { ...body, key: { ...body.key, y: body.key.x } };
    const bad = [
      next.endorsement,
      await writeSigned("JWT", body, a.key),
      await writeSigned("rekey-endorsement+jwt", { ...body, more: 1 }, a.key),
      await writeSigned("rekey-endorsement+jwt", badPoint, a.key),
      await writeSigned("rekey-endorsement+jwt", body, { ...stranger.key, kid: a.key.kid }),
      `${b.endorsement.slice(0, -4)}AAAA`,
      "",
      "x".repeat(300_000),
    ];
    for (const text of bad.filter((_, n) => n !== 3)) assert.deepEqual(kids(await followKeys([a.open], [text], 0)), [a.key.kid]);
    assert.ok(!kids(await followKeys([a.open], [bad[3] ?? ""], 0)).includes(undefined));
  });

  it("and has followed already is safe from a thief of the old key", async () => {
    const followed = await followKeys([a.open], [b.endorsement], 10 * day);
    const thief = publicJwk(await newPrivateJwk("sig"));
    const forged = await endorse({ publicKey: thief, signsFromAt: 0, previousUntilAt: 99 * day }, a.key, 0);
    assert.deepEqual(kids(await followKeys(followed, [forged], 10 * day)), [b.key.kid]);
  });

  it("cannot be kept busy without end", async () => {
    const flood = Array.from({ length: 20_000 }, () => c.endorsement);
    assert.deepEqual(kids(await followKeys([a.open], flood, 0)), [a.key.kid]);
  });
});
