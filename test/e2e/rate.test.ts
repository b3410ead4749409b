import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ListSecretsCommand } from "@aws-sdk/client-secrets-manager";
import { allow, type Credentials, native, newUser, rawRequest, secretsClient } from "../support/aws.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const maxPerSecond = 5;
const maxFailures = 3;
const folder = mkdtempSync(join(tmpdir(), "rekey-rate-"));
let server: RekeyServer;
let app: Credentials;
before(async () => {
  const unbound = await startRekey({ dataFolder: folder });
  app = await newUser(unbound, "app", allow("secretsmanager:ListSecrets"));
  await unbound.stop();
  const flags = ["--max-requests-per-second", `${maxPerSecond}`, "--max-failed-logins-per-minute", `${maxFailures}`];
  server = await startRekey({ dataFolder: folder, flags });
});
beforeEach(() => sleep(1_001)); // what the test before asked for is forgotten
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const many = 100;
const throttled = { __type: "ThrottlingException", message: "Rate exceeded" };
const atOnce = <T>(ask: () => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: many }, ask));

test("a principal beyond its bound is refused as AWS does it, the others are not", async () => {
  const client = secretsClient(server, app);
  const flood = atOnce(() =>
    client.send(new ListSecretsCommand({})).then(
      () => undefined,
      (error: Error) => error,
    ),
  );
  const [other, answers] = await Promise.all([native(server, "secrets/list", {}), flood]);
  assert.equal(other.status, 200);
  const refusals = answers.filter((error) => error !== undefined);
  assert.ok(refusals.length > 0 && refusals.length < many);
  for (const error of refusals) {
    const { name, message, $metadata } = error as Error & { $metadata: { httpStatusCode?: number; requestId?: string } };
    assert.deepEqual([name, message, $metadata.httpStatusCode], ["ThrottlingException", "Rate exceeded", 400]);
    assert.match($metadata.requestId ?? "", /^[0-9a-f-]{36}$/);
  }
  client.destroy();
});

test("the native API says 429 and when to come again", async () => {
  const answers = await atOnce(() => native(server, "users/list", {}));
  const refusal = answers.find(({ status }) => status !== 200);
  assert.equal(refusal?.status, 429, refusal?.text);
  assert.equal(refusal.headers.get("retry-after"), "1");
  assert.equal(refusal.json?.code, "ThrottlingException");
});

test("Doppler's clients are told what is left, and when to come again", async () => {
  const ask = () => fetch(`${server.endpoint}/v3/me`, { headers: { authorization: `Bearer ${server.credentials.token}` } });
  const numbers = ({ headers }: Response) =>
    ["limit", "remaining", "reset"].map((what) => Number(headers.get(`x-ratelimit-${what}`) ?? Number.NaN));
  const askedAt = Date.now();
  const answers = await atOnce(ask);
  for (const answer of answers) {
    assert.match(answer.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
    const [limit, remaining = Number.NaN, reset = Number.NaN] = numbers(answer);
    assert.equal(limit, maxPerSecond);
    assert.ok(remaining >= 0 && remaining < maxPerSecond);
    assert.ok(reset * 1000 > askedAt && reset * 1000 <= Date.now() + 2_000, `${reset}`);
  }
  const [good, refused] = [200, 429].map((status) => answers.filter((answer) => answer.status === status));
  assert.deepEqual(new Set(good?.map((answer) => numbers(answer)[1])), new Set([4, 3, 2, 1, 0]));
  assert.ok(refused && refused.length > 0);
  for (const answer of refused) assert.deepEqual([numbers(answer)[1], answer.headers.get("retry-after")], [0, "1"]);
  await Promise.all(answers.map((answer) => answer.text()));
});

test("requests without credentials are bounded by their address, and hold up nobody who has some", async () => {
  const anonymous = () => rawRequest(server, "secretsmanager.ListSecrets", "{}", { headers: { authorization: undefined } });
  const [answers, known] = await Promise.all([
    atOnce(anonymous),
    rawRequest(server, "secretsmanager.ListSecrets", "{}", { credentials: app }),
  ]);
  assert.equal(known.status, 200, known.text);
  const codes = new Set(answers.map(({ json }) => json?.__type));
  assert.deepEqual(codes, new Set(["MissingAuthenticationTokenException", "ThrottlingException"]));
  const refusal = answers.find(({ json }) => json?.__type === "ThrottlingException");
  assert.deepEqual([refusal?.status, refusal?.json], [400, throttled]);
});

test("an address that fails to log in has to wait; who is known already goes on", async () => {
  const signed = (credentials: Credentials) => rawRequest(server, "secretsmanager.ListSecrets", "{}", { credentials });
  const code = async (credentials: Credentials) => {
    for (;;) {
      const { json } = await signed(credentials);
      if (json?.__type !== "ThrottlingException") return json?.__type;
    }
  };
  assert.equal(await code(app), undefined);
  const guess = { ...app, secretAccessKey: "x".repeat(40) };
  const guesses: unknown[] = [];
  for (let times = 0; times < maxFailures; times++) guesses.push((await signed(guess)).json?.__type);
  assert.deepEqual(new Set(guesses), new Set(["InvalidSignatureException"]));
  assert.deepEqual((await signed(guess)).json, throttled);
  assert.deepEqual((await signed({ accessKeyId: `AKIA${"A".repeat(16)}`, secretAccessKey: "x" })).json, throttled);
  assert.equal(await code(app), undefined);
});

test("a flood leaves one record a second, not one a request", async () => {
  const search = async () => {
    for (;;) {
      const { status, json, text } = await native(server, "audit/search", { limit: 500 });
      if (status === 200) return json?.records as { outcome: string }[];
      assert.equal(status, 429, text);
    }
  };
  const refusals = (await search()).filter(({ outcome }) => outcome === "ThrottlingException");
  assert.ok(refusals.length > 0, "the first one is on record");
  assert.ok(refusals.length < many, `${refusals.length} records`);
});
