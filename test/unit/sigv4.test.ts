import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { inspect } from "node:util";
import fc from "fast-check";
import { ServiceError } from "../../src/core/error.ts";
import {
  type Authorization,
  deriveSigningKey,
  parseAuthorization,
  type SignedRequest,
  stringToSign,
  verifySignature,
} from "../../src/core/sigv4.ts";
import { canonicalRequest } from "../../src/core/sigv4-canonical.ts";

interface Vector {
  name: string;
  request: { method: string; path: string; query: string; headers: [string, string][]; body: string };
  service: string;
  canonicalRequest: string;
  stringToSign: string;
  signedHeaders: string;
  signature: string;
}

const vectors: Record<"accessKeyId" | "secretAccessKey" | "date" | "amzDate" | "region", string> & { cases: Vector[] } =
  JSON.parse(readFileSync(new URL("sigv4-vectors.json", import.meta.url), "utf8"));
const { accessKeyId, secretAccessKey, date, amzDate, region } = vectors;
const signedAt = Date.UTC(2015, 7, 30, 12, 36);
const scope = { services: ["secretsmanager"], isRegion: (name: string) => name === region, nowMs: signedAt };
const mismatch = { name: "ServiceError", code: "InvalidSignatureException" };

/** The request as `node:http` gives it: names in lower case, values joined with a comma and a blank. */
function received({ request }: Vector): SignedRequest & { headers: Record<string, string> } {
  const headers: Record<string, string> = {};
  for (const [name, value] of request.headers) {
    const key = name.toLowerCase();
    const sent = value.replace(/^ +| +$/g, "");
    headers[key] = key in headers ? `${headers[key]}, ${sent}` : sent;
  }
  return { ...request, headers, rawHeaders: request.headers.flat(), body: Buffer.from(request.body, "utf8") };
}

function vector(name: string): Vector {
  const found = vectors.cases.find((one) => one.name === name);
  assert(found, name);
  return found;
}

function authorizationHeader({
  service,
  signedHeaders,
  signature,
}: Pick<Vector, "service" | "signedHeaders" | "signature">): string {
  const credential = `${accessKeyId}/${date}/${region}/${service}/aws4_request`;
  return `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${signedHeaders}, Signature=${signature}`;
}

/** The GetSecretValue request of the vectors with its Authorization header, and changes. */
function getSecretValue(changes: { headers?: Record<string, string | undefined> } = {}): SignedRequest {
  const signed = vector("secretsmanager-json-request");
  const request = received(signed);
  const headers: Record<string, string | undefined> = {
    ...request.headers,
    authorization: authorizationHeader(signed),
    ...changes.headers,
  };
  return { ...request, headers };
}

function accepts(request: SignedRequest, changes: Partial<Authorization> = {}): boolean {
  try {
    const authorization = { ...parseAuthorization(request, scope), ...changes };
    const key = deriveSigningKey(secretAccessKey, authorization.date, authorization.region, authorization.service);
    return authorization.accessKeyId === accessKeyId && verifySignature(request, authorization, key);
  } catch (error) {
    assert(error instanceof ServiceError);
    return false;
  }
}

function refusal(
  headers: Record<string, string | undefined>,
  overrides: Partial<typeof scope> = {},
): { code: string; message: string } {
  try {
    parseAuthorization(getSecretValue({ headers }), { ...scope, ...overrides });
  } catch (error) {
    assert(error instanceof ServiceError);
    return { code: error.code, message: error.message };
  }
  return assert.fail("was not refused");
}

for (const one of vectors.cases) {
  test(`vector ${one.name}`, () => {
    const request = received(one);
    const bodyHash = one.canonicalRequest.slice(-64);
    const canonical = canonicalRequest(request, one.signedHeaders.split(";"), bodyHash);
    assert.equal(canonical, one.canonicalRequest);
    const claims = { accessKeyId, date, region, service: one.service, amzDate, signature: one.signature };
    assert.equal(stringToSign(claims, one.canonicalRequest), one.stringToSign);
    const key = deriveSigningKey(secretAccessKey, date, region, one.service);
    assert.equal(key.sign(one.stringToSign), one.signature);
    assert.equal(verifySignature(request, { ...claims, signedHeaders: one.signedHeaders.split(";") }, key), true);
  });
}

test("the claims of a good header are read as sent, with or without blanks after the commas", () => {
  const expected = {
    accessKeyId,
    date,
    region,
    service: "secretsmanager",
    signedHeaders: ["content-type", "host", "x-amz-date", "x-amz-target"],
    signature: vector("secretsmanager-json-request").signature,
    amzDate,
  };
  assert.deepEqual(parseAuthorization(getSecretValue(), scope), expected);
  const tight = getSecretValue().headers.authorization?.toString().replaceAll(", ", ",");
  assert.deepEqual(parseAuthorization(getSecretValue({ headers: { authorization: tight } }), scope), expected);
});

test("a signed session token is handed on", () => {
  const signed = vector("post-sts-header-before");
  const request = received(signed);
  const headers = { ...request.headers, authorization: authorizationHeader(signed) };
  const claims = parseAuthorization({ ...request, headers }, { ...scope, services: ["service"] });
  assert.equal(claims.securityToken, request.headers["x-amz-security-token"]);
});

test("no Authorization header", () => {
  for (const authorization of [undefined, ""]) {
    assert.deepEqual(refusal({ authorization }), {
      code: "MissingAuthenticationTokenException",
      message: "Missing Authentication Token",
    });
  }
});

test("pieces of the header missing: every one is named, in AWS's order", () => {
  const parts = "Authorization header requires";
  const all = refusal({ authorization: "AWS4-HMAC-SHA256 a=b", "x-amz-date": undefined });
  assert.equal(all.code, "IncompleteSignatureException");
  assert.equal(
    all.message.slice(0, all.message.indexOf(" (Hashed")),
    `${parts} 'Credential' parameter. ${parts} 'Signature' parameter. ${parts} 'SignedHeaders' parameter. ` +
      `${parts} existence of either a 'X-Amz-Date' or a 'Date' header.`,
  );
  assert.match(all.message, / \(Hashed with SHA-256 and encoded with Base64\) Authorization=[A-Za-z0-9+/]{43}=$/);
  const one = refusal({
    authorization: authorizationHeader({ service: "secretsmanager", signedHeaders: "host", signature: "" }),
  });
  assert.match(one.message, /^Authorization header requires 'Signature' parameter\. \(Hashed/);
  assert.match(refusal({ "x-amz-date": undefined }).message, /^Authorization header requires existence of either/);
});

test("a header of another scheme is incomplete and is not repeated in the message", () => {
  for (const authorization of [
    "Bearer dp.st.prd.topsecret",
    "Basic dXNlcjpwYXNzd29yZA==",
    `AWS4-HMAC-SHA256 ${"x".repeat(16_384)}`,
  ]) {
    const { code, message } = refusal({ authorization });
    assert.equal(code, "IncompleteSignatureException");
    assert.match(message, /^Authorization header requires 'Credential' parameter\./);
    assert(!message.includes(authorization.slice(-8)));
  }
});

test("malformed pieces of the header are incomplete", () => {
  const good = getSecretValue().headers.authorization?.toString() ?? "";
  assert.match(refusal({ authorization: `${good}, stray` }).message, /^Invalid key=value pair \(missing equal-sign\)/);
  const form = "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.";
  for (const credential of ["A/20150830/us-east-1/secretsmanager", "A/20150830/us-east-1/secretsmanager/aws4_request/more"]) {
    const authorization = `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=host, Signature=a`;
    assert.deepEqual(refusal({ authorization }), { code: "IncompleteSignatureException", message: form });
  }
  const many = authorizationHeader({
    service: "secretsmanager",
    signedHeaders: `${"host;".repeat(100)}x-amz-date`,
    signature: "a",
  });
  assert.equal(refusal({ authorization: many }).code, "IncompleteSignatureException");
});

test("a scope of another service or region", () => {
  const code = "InvalidSignatureException";
  const service = "Credential should be scoped to correct service: 'sts'. ";
  const place = "Credential should be scoped to a valid region, not 'us-east-1'. ";
  assert.deepEqual(refusal({}, { services: ["sts", "kms"] }), { code, message: service });
  assert.deepEqual(refusal({}, { isRegion: () => false }), { code, message: place });
  assert.deepEqual(refusal({}, { isRegion: () => false, services: ["sts"] }), { code, message: place + service });
  const authorization = getSecretValue().headers.authorization?.toString().replace("aws4_request", "aws5_request");
  assert.match(refusal({ authorization }).message, /valid terminator: 'aws4_request', not 'aws5_request'/);
});

test("the scope is judged before the date, and the date before the signed headers", () => {
  const headers = { "x-amz-date": "20150830T000000Z" };
  assert.match(refusal(headers, { services: ["sts"] }).message, /correct service/);
  const authorization = authorizationHeader({ service: "secretsmanager", signedHeaders: "x-amz-date", signature: "a" });
  assert.match(refusal({ ...headers, authorization }).message, /^Signature expired/);
  assert.match(refusal({ authorization }).message, /must be a 'SignedHeader'/);
});

test("five minutes either way, to the second", () => {
  const minute = 60_000;
  for (const nowMs of [signedAt - 5 * minute, signedAt, signedAt + 5 * minute + 999]) {
    assert.equal(parseAuthorization(getSecretValue(), { ...scope, nowMs }).amzDate, amzDate);
  }
  assert.deepEqual(refusal({}, { nowMs: signedAt + 15 * minute }), {
    code: "InvalidSignatureException",
    message: "Signature expired: 20150830T123600Z is now earlier than 20150830T124600Z (20150830T125100Z - 5 min.)",
  });
  assert.deepEqual(refusal({}, { nowMs: signedAt - 10 * minute }), {
    code: "InvalidSignatureException",
    message: "Signature not yet current: 20150830T123600Z is still later than 20150830T123100Z (20150830T122600Z + 5 min.)",
  });
  assert.match(refusal({}, { nowMs: signedAt + 5 * minute + 1000 }).message, /^Signature expired/);
  assert.match(refusal({}, { nowMs: signedAt - 5 * minute - 1 }).message, /^Signature not yet current/);
});

test("unreadable dates, and a date of another day than the scope's", () => {
  for (const text of [
    "yesterday",
    "2015-08-30T12:36:00Z",
    "20150830T126000Z",
    "20150230T000000Z",
    "Mon, 30 Aug 2015 12:36:00 GMT",
  ]) {
    const { code, message } = refusal({ "x-amz-date": text });
    assert.equal(code, "IncompleteSignatureException");
    assert(message.startsWith(`Date must be in ISO-8601 'basic format'. Got '${text}'.`), message);
  }
  assert.deepEqual(refusal({ "x-amz-date": "20150831T123600Z" }), {
    code: "InvalidSignatureException",
    message:
      "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150830' != '20150831', from '20150831T123600Z'.",
  });
});

test("the Date header serves when X-Amz-Date is absent, in either form", () => {
  for (const text of ["Sun, 30 Aug 2015 12:36:00 GMT", amzDate]) {
    assert.equal(
      parseAuthorization(getSecretValue({ headers: { "x-amz-date": undefined, date: text } }), scope).amzDate,
      amzDate,
    );
  }
});

test("host, date, target and session token must be signed when sent; other headers need not be", () => {
  const claim = (signedHeaders: string) =>
    authorizationHeader({ service: "secretsmanager", signedHeaders, signature: "a".repeat(64) });
  const text = (title: string) => `${title} must be a 'SignedHeader' in the AWS Authorization.`;
  const code = "InvalidSignatureException";
  const cases: [string, string][] = [
    ["x-amz-date;x-amz-target", "'Host' or ':authority'"],
    ["host;x-amz-target", "'X-Amz-Date'"],
    ["host;x-amz-date", "'X-Amz-Target'"],
    ["host;x-amz-date;x-amz-target", "'X-Amz-Security-Token'"],
  ];
  for (const [signedHeaders, title] of cases) {
    assert.deepEqual(refusal({ authorization: claim(signedHeaders), "x-amz-security-token": "t" }), {
      code,
      message: text(title),
    });
  }
  assert.equal(accepts(getSecretValue({ headers: { "user-agent": "other", "x-forwarded-for": "10.0.0.1" } })), true);
});

test("X-Amz-Content-Sha256 is optional, and must be the body's hash", () => {
  const bodyHash = vector("secretsmanager-json-request").canonicalRequest.slice(-64);
  assert.equal(accepts(getSecretValue({ headers: { "x-amz-content-sha256": bodyHash } })), true);
  for (const other of ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "0".repeat(64), ""]) {
    assert.equal(accepts(getSecretValue({ headers: { "x-amz-content-sha256": other } })), false);
  }
});

test("a signed header that did not arrive, or is only inherited, is refused", () => {
  const key = deriveSigningKey(secretAccessKey, date, region, "secretsmanager");
  const claims = parseAuthorization(getSecretValue(), scope);
  for (const extra of ["x-missing", "constructor", "__proto__", ""]) {
    assert.equal(verifySignature(getSecretValue(), { ...claims, signedHeaders: [...claims.signedHeaders, extra] }, key), false);
  }
  assert.equal(verifySignature(getSecretValue(), { ...claims, signature: "é".repeat(32) }, key), false);
});

test("a key shows nothing of itself and serves many signatures in any order", () => {
  const key = deriveSigningKey(secretAccessKey, date, region, "service");
  const [first, second] = [vector("get-vanilla"), vector("get-utf8")];
  for (const { stringToSign: text, signature } of [first, second, first]) assert.equal(key.sign(text), signature);
  assert.equal(inspect(key, { showHidden: true, depth: 9 }).includes("Buffer"), false);
  assert.equal(JSON.stringify(key), "{}");
});

test("the unchanged request is accepted; any other key is not", () => {
  assert.equal(accepts(getSecretValue()), true);
  const claims = parseAuthorization(getSecretValue(), scope);
  const other = deriveSigningKey(`${secretAccessKey}x`, date, region, "secretsmanager");
  assert.equal(verifySignature(getSecretValue(), claims, other), false);
});

/** `text` with the character at one place replaced by another; `at` and `by` are any numbers. */
function changed(text: string, at: number, by: number): string {
  const index = at % text.length;
  const code = (text.charCodeAt(index) - 32 + (by % 93)) % 94;
  return `${text.slice(0, index)}${String.fromCharCode(33 + code)}${text.slice(index + 1)}`;
}

test("a change of one character anywhere in what is signed is refused", () => {
  const good = getSecretValue();
  const authorization = String(good.headers.authorization);
  const where = fc.constantFrom(
    "body",
    "method",
    "path",
    "query",
    "content-type",
    "host",
    "x-amz-date",
    "x-amz-target",
    "authorization",
  );
  fc.assert(
    fc.property(where, fc.nat(), fc.nat(), (part, at, by) => {
      if (part === "body") {
        const body = Buffer.from(good.body);
        const index = at % body.length;
        body[index] = (body[index] ?? 0) ^ (1 + (by % 255));
        return !accepts({ ...good, body });
      }
      if (part === "method") return !accepts({ ...good, method: changed(good.method, at, by) });
      if (part === "path") return !accepts({ ...good, path: changed("/x", 1, by).replace(/\/[./]$/, "/y") });
      if (part === "query") return !accepts({ ...good, query: changed("a", 0, by).replace("&", "b") });
      if (part !== "authorization")
        return !accepts(getSecretValue({ headers: { [part]: changed(String(good.headers[part]), at, by) } }));
      return !accepts(getSecretValue({ headers: { authorization: changed(authorization, at, by) } }));
    }),
    { numRuns: 3000 },
  );
});

test("a changed date, region or service in the claims is refused", () => {
  for (const changes of [{ date: "20150831" }, { region: "eu-west-1" }, { service: "sts" }, { amzDate: "20150830T123601Z" }]) {
    assert.equal(accepts(getSecretValue(), changes), false);
  }
});

test("hostile headers end in a refusal of ours, never in another error", () => {
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom("AWS4-HMAC-SHA256 ", "Credential=", "SignedHeaders=", "Signature=", ",", "=", "/", ";"),
  );
  fc.assert(
    fc.property(
      fc.array(piece).map((pieces) => pieces.join("")),
      fc.string(),
      (authorization, amz) => {
        assert.equal(accepts(getSecretValue({ headers: { authorization, "x-amz-date": amz } })), false);
        assert.equal(accepts(getSecretValue({ headers: { authorization } })), false);
      },
    ),
  );
  assert.throws(
    () => parseAuthorization(getSecretValue({ headers: { "x-amz-date": "20150830T123601Z" } }), { ...scope, nowMs: 0 }),
    mismatch,
  );
});
