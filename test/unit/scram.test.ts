import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { test } from "node:test";
import { ScramLogin, scramKeys, scramVerifier, verifierOf } from "../../src/targets/scram.ts";

// Source: RFC 7677 section 3, the example exchange of user `user` with password `pencil`.
test("the server key signs as in the published exchange", async () => {
  const verifier = await scramVerifier("pencil", Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64"));
  const [head, keys] = verifier.split("$").slice(1);
  assert.equal(head, "4096:W22ZaJ0SNY7soEsUEjb6gQ==");
  const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
  const exchange = `n=user,r=rOprNGfwEbeRWgbNEkqO,r=${nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=${nonce}`;
  const serverKey = Buffer.from(keys?.split(":")[1] ?? "", "base64");
  assert.equal(createHmac("sha256", serverKey).update(exchange).digest("base64"), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
});

test("each verifier has its own salt", async () => {
  assert.notEqual(await scramVerifier("pencil"), await scramVerifier("pencil"));
});

/** The other side of a login, from RFC 5802 section 3: what it says first, and what it says to the client's last message. */
function serverOf(verifier: string) {
  const [, head = "", keys = ""] = verifier.split("$");
  const [iterations, salt] = head.split(":");
  const [storedKey, serverKey] = keys.split(":").map((text) => Buffer.from(text, "base64"));
  const hmac = (key: Buffer | undefined, text: string) =>
    createHmac("sha256", key ?? "")
      .update(text)
      .digest();
  return {
    first: (clientFirst: string) => `r=${clientFirst.split("r=")[1]}more,s=${salt},i=${iterations}`,
    last(clientFirst: string, serverFirst: string, clientLast: string): string | undefined {
      const [bare = "", proof = ""] = clientLast.split(",p=");
      const exchange = `${clientFirst.slice("n,,".length)},${serverFirst},${bare}`;
      const signature = hmac(storedKey, exchange);
      const clientKey = Buffer.from(proof, "base64").map((byte, at) => byte ^ (signature[at] ?? 0));
      const isKnown = storedKey?.equals(createHash("sha256").update(clientKey).digest());
      return isKnown ? `v=${hmac(serverKey, exchange).toString("base64")}` : undefined;
    },
  };
}

test("a login proves the password, with keys that are known already or not, and the server proves that it has them", async () => {
  const keys = await scramKeys("pencil");
  const server = serverOf(verifierOf(keys));
  const others = await scramKeys("pencil");
  for (const login of [new ScramLogin("pencil"), new ScramLogin("pencil", keys), new ScramLogin("pencil", others)]) {
    const first = server.first(login.first);
    const answer = await login.answer(first);
    const last = server.last(login.first, first, answer);
    assert.ok(last, "the proof is right");
    login.accept(last);
    const wrong = `v=${Buffer.alloc(32).toString("base64")}`;
    for (const text of [wrong, "v=", "e=invalid-proof", `${last},`]) assert.throws(() => login.accept(text), /^Error: SASL/);
  }
  const stranger = new ScramLogin("pen");
  const first = server.first(stranger.first);
  assert.equal(server.last(stranger.first, first, await stranger.answer(first)), undefined, "another password proves nothing");
});

test("a server may want many more iterations than its default", async () => {
  const keys = await scramKeys("pencil", Buffer.from("salt"), 600_000);
  const server = serverOf(verifierOf(keys));
  const login = new ScramLogin("pencil");
  const first = server.first(login.first);
  assert.match(first, /i=600000$/);
  assert.ok(server.last(login.first, first, await login.answer(first)));
});

test("a server that does not keep to the rules is told nothing", async () => {
  const nonce = "rOprNGfwEbeRWgbNEkqO";
  const refused = (text: string) => assert.rejects(new ScramLogin("pencil", undefined, nonce).answer(text), /^Error: SASL/, text);
  await refused(`r=${nonce},s=AAAA,i=4096`);
  await refused(`r=other${nonce},s=AAAA,i=4096`);
  await refused(`r=${nonce}x,s=AAAA,i=2000001`);
  await refused(`r=${nonce}x,s=AAAA,i=0`);
  await refused(`r=${nonce}x,s=,i=4096`);
  await refused(`m=ext,r=${nonce}x,s=AAAA,i=4096`);
  await refused("");
  assert.throws(() => new ScramLogin("pencil").accept(`v=${Buffer.alloc(32).toString("base64")}`), /SASL/, "nothing was asked");
});
