import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { scramVerifier } from "../../src/targets/scram.ts";

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
