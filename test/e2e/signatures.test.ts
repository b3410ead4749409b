// Every way in which a signature can be wrong, as the real program answers it.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, nativeOk, newName, newUser, type RawOptions, rawCall, rawRequest, refused } from "../support/aws.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

let server: RekeyServer;
before(async () => {
  // Each case below is a failed login from one address.
  server = await startRekey({ env: { REKEY_MAX_FAILED_LOGINS_PER_MINUTE: "10000" } });
});
after(() => server[Symbol.asyncDispose]());

const mismatch =
  "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
const invalid = "The security token included in the request is invalid.";
const minuteMs = 60_000;
const target = "secretsmanager.ListSecrets";

async function answers(options: RawOptions, code: string, message: string | RegExp): Promise<void> {
  const { status, json, headers } = await rawRequest(server, target, "{}", options);
  assert.deepEqual([status, json?.__type, Object.keys(json ?? {})], [400, code, ["__type", "message"]], JSON.stringify(json));
  if (typeof message === "string") assert.equal(json?.message, message);
  else assert.match(String(json?.message), message);
  assert.match(headers.get("x-amzn-requestid") ?? "", /^[0-9a-f-]{36}$/);
}

describe("refused", () => {
  it("no signature", () =>
    answers({ headers: { authorization: undefined } }, "MissingAuthenticationTokenException", "Missing Authentication Token"));

  it("an unknown access key", () =>
    answers(
      { credentials: { accessKeyId: "AKIAAAAAAAAAAAAAAAAA", secretAccessKey: "x" } },
      "UnrecognizedClientException",
      invalid,
    ));

  it("a session token that is none", () =>
    answers({ credentials: { ...server.credentials, sessionToken: "none" } }, "UnrecognizedClientException", invalid));

  it("a wrong secret", () =>
    answers({ credentials: { ...server.credentials, secretAccessKey: "x".repeat(40) } }, "InvalidSignatureException", mismatch));

  it("what was changed after signing: body, target, type, date, host", async () => {
    await answers({ sentBody: '{"MaxResults":1}' }, "InvalidSignatureException", mismatch);
    const changed = [
      { "x-amz-target": "secretsmanager.DeleteSecret" },
      { "content-type": "application/x-amz-json-1.0" },
      { "x-amz-date": new Date(Date.now() + 1000).toISOString().replace(/[-:]|\.\d{3}/g, "") },
    ];
    for (const headers of changed) await answers({ headers }, "InvalidSignatureException", mismatch);
  });

  it("a request of more than five minutes ago or ahead", async () => {
    const time = "\\d{8}T\\d{6}Z";
    await answers(
      { signedAtMs: Date.now() - 6 * minuteMs },
      "InvalidSignatureException",
      new RegExp(`^Signature expired: ${time} is now earlier than ${time} \\(${time} - 5 min\\.\\)$`),
    );
    await answers(
      { signedAtMs: Date.now() + 6 * minuteMs },
      "InvalidSignatureException",
      new RegExp(`^Signature not yet current: ${time} is still later than ${time} \\(${time} \\+ 5 min\\.\\)$`),
    );
    for (const minutes of [-4, 4]) {
      const { status } = await rawRequest(server, target, "{}", { signedAtMs: Date.now() + minutes * minuteMs });
      assert.equal(status, 200);
    }
  });

  it("a scope of another service or of no region", async () => {
    await answers(
      { service: "s3" },
      "InvalidSignatureException",
      /^Credential should be scoped to correct service: 'secretsmanager'\. ?$/,
    );
    await answers({ region: "mars-north-1" }, "InvalidSignatureException", /^Credential should be scoped to a valid region/);
  });

  it("a header with pieces missing", async () => {
    const cases: [string, RegExp][] = [
      ["AWS4-HMAC-SHA256 SignedHeaders=host, Signature=abc", /^Authorization header requires 'Credential' parameter\. /],
      ["AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/secretsmanager/aws4_request", /requires 'Signature' parameter\. /],
      [
        "AWS4-HMAC-SHA256",
        /requires 'Credential' parameter\. .*requires 'Signature' parameter\. .*requires 'SignedHeaders' parameter\./,
      ],
    ];
    for (const [authorization, message] of cases)
      await answers({ headers: { authorization } }, "IncompleteSignatureException", message);
    await answers({ headers: { "x-amz-date": undefined } }, "IncompleteSignatureException", /'X-Amz-Date' or a 'Date' header/);
  });

  it("is not obeyed, whatever was asked", async () => {
    const Name = newName();
    const stranger = { accessKeyId: "AKIAAAAAAAAAAAAAAAAA", secretAccessKey: "x" };
    await rawCall(
      server,
      "CreateSecret",
      { Name, SecretString: "v", ClientRequestToken: "t".repeat(32) },
      { credentials: stranger },
    );
    const root = new SecretsManager(clientSettings(server));
    assert.deepEqual((await root.listSecrets({ Filters: [{ Key: "name", Values: [Name] }] })).SecretList, []);
  });
});

it("authentication comes before everything else that could be wrong", async () => {
  const credentials = { accessKeyId: "AKIAAAAAAAAAAAAAAAAA", secretAccessKey: "x" };
  for (const [target, body] of [
    ["secretsmanager.NoSuchThing", "{}"],
    ["secretsmanager.GetSecretValue", "{"],
    ["secretsmanager.GetSecretValue", "{}"],
  ] as const) {
    const { json } = await rawRequest(server, target, body, { credentials });
    assert.equal(json?.__type, "UnrecognizedClientException");
  }
});

it("a key works from its making until it is disabled or deleted, at once", async () => {
  const userName = newName("user");
  const credentials = await newUser(server, userName);
  const asked = () => new SecretsManager(clientSettings(server, credentials)).listSecrets({});
  const key = { userName, accessKeyId: credentials.accessKeyId };
  await refused(asked(), "AccessDeniedException", /no identity-based policy/);
  await nativeOk(server, "access-keys/disable", key);
  await refused(asked(), "UnrecognizedClientException", invalid);
  await nativeOk(server, "access-keys/enable", key);
  await refused(asked(), "AccessDeniedException", /no identity-based policy/);
  await nativeOk(server, "access-keys/delete", key);
  await refused(asked(), "UnrecognizedClientException", invalid);
});
