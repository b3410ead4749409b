import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect, type TLSSocket } from "node:tls";
import {
  CreateSecretCommand,
  GetSecretValueCommand,
  PutResourcePolicyCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import { run } from "../support/cli.ts";
import { awaitLog } from "../support/processes.ts";
import { requestText, speak } from "../support/raw-http.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { hasOpenssl, makeCertificate, unlessCi } from "../support/server-process.ts";

const skip = unlessCi(hasOpenssl() ? false : "no openssl to make a certificate with");
const folder = mkdtempSync(join(tmpdir(), "rekey-tls-"));
const certFile = join(folder, "server.crt");
const keyFile = join(folder, "server.key");
let server: RekeyServer;
before(async () => {
  if (skip) return;
  makeCertificate(folder);
  server = await startRekey({ flags: ["--tls-cert", certFile, "--tls-key", keyFile] });
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** An SDK client that believes in this certificate only. */
function client(ca: string, { credentials, endpoint }: RekeyServer = server): SecretsManagerClient {
  const requestHandler = { httpsAgent: new Agent({ ca, keepAlive: false }) };
  return new SecretsManagerClient({ endpoint, region: "us-east-1", credentials, maxAttempts: 1, requestHandler });
}

interface Answer {
  readonly status: number | undefined;
  readonly body: Record<string, unknown>;
}

function native(path: string, members: object, token: unknown): Promise<Answer> {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    const sent = request(
      `${server.endpoint}/rekey/v1/${path}`,
      { method: "POST", headers, ca: readFileSync(certFile) },
      async (response) => {
        let text = "";
        for await (const chunk of response) text += chunk;
        resolve({ status: response.statusCode, body: JSON.parse(text) });
      },
    );
    sent.on("error", reject);
    sent.end(JSON.stringify(members));
  });
}

test("the AWS SDK verifies the server by its certificate, and refuses another one", { skip }, async () => {
  assert.match(server.endpoint, /^https:\/\/127\.0\.0\.1:\d+$/);
  const verified = client(readFileSync(certFile, "utf8"));
  await verified.send(new CreateSecretCommand({ Name: "over-tls", SecretString: "value" }));
  assert.equal((await verified.send(new GetSecretValueCommand({ SecretId: "over-tls" }))).SecretString, "value");
  const elsewhere = join(folder, "other");
  mkdirSync(elsewhere);
  makeCertificate(elsewhere);
  const wrong = client(readFileSync(join(elsewhere, "server.crt"), "utf8"));
  await assert.rejects(wrong.send(new GetSecretValueCommand({ SecretId: "over-tls" })), /self-signed certificate/);
});

test("policies see that the request came over TLS", { skip }, async () => {
  const root = server.credentials.token;
  await native("users/create", { userName: "app" }, root);
  const { body } = await native("tokens/create", { userName: "app", name: "t" }, root);
  const policyDocument = (secure: string) => {
    const Condition = { Bool: { "aws:SecureTransport": secure } };
    const Statement = [{ Effect: "Allow", Action: "secretsmanager:GetSecretValue", Resource: "*", Condition }];
    return JSON.stringify({ Version: "2012-10-17", Statement });
  };
  for (const [secure, status] of [
    ["false", 403],
    ["true", 200],
  ] as const) {
    const policy = { policyName: `secure-${secure}`, policyDocument: policyDocument(secure) };
    const { body: made } = await native("policies/create", policy, root);
    await native("policies/attach", { policyArn: made.arn, userName: "app" }, root);
    assert.equal((await native("secrets/get-value", { secretId: "over-tls" }, body.token)).status, status);
  }
});

test("TLS 1.2 and 1.3 are spoken, older versions are not", { skip }, async () => {
  const ca = readFileSync(certFile);
  const port = Number(new URL(server.endpoint).port);
  const agree = (version: "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3") =>
    new Promise<string | null>((resolve, reject) => {
      const options = { port, host: "127.0.0.1", ca, minVersion: version, maxVersion: version, ciphers: "DEFAULT:@SECLEVEL=0" };
      const socket: TLSSocket = connect(options, () => {
        resolve(socket.getProtocol());
        socket.destroy();
      });
      socket.on("error", reject);
    });
  assert.equal(await agree("TLSv1.2"), "TLSv1.2");
  assert.equal(await agree("TLSv1.3"), "TLSv1.3");
  await assert.rejects(agree("TLSv1.1"), /protocol version/);
  await assert.rejects(agree("TLSv1"), /protocol version/);
});

test("plain HTTP to the TLS port is ended without an answer, and harms nobody", { skip }, async () => {
  const plain = server.endpoint.replace("https:", "http:");
  assert.deepEqual(await speak(plain, requestText("GET /healthz")), []);
  assert.equal((await native("secrets/get-value", { secretId: "over-tls" }, server.credentials.token)).status, 200);
});

test("SIGHUP reads the certificate again; one that cannot be used changes nothing", { skip }, async () => {
  const before = readFileSync(certFile, "utf8");
  writeFileSync(certFile, "nonsense");
  process.kill(server.pid, "SIGHUP");
  await awaitLog(server, ({ msg }) => msg === "the certificate stays as it was");
  await client(before).send(new GetSecretValueCommand({ SecretId: "over-tls" }));
  for (const name of ["server.crt", "server.key"]) copyFileSync(join(folder, "other", name), join(folder, name));
  process.kill(server.pid, "SIGHUP");
  await awaitLog(server, ({ msg }) => msg === "the certificate was read again");
  await client(readFileSync(certFile, "utf8")).send(new GetSecretValueCommand({ SecretId: "over-tls" }));
  await assert.rejects(client(before).send(new GetSecretValueCommand({ SecretId: "over-tls" })), /self-signed certificate/);
});

test("files that are no certificate and key stop the start, in words", { skip }, async () => {
  const start = (cert: string, key: string) =>
    run(["server", "--data", join(folder, "data"), "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key]);
  const missing = await start(join(folder, "none"), keyFile);
  assert.deepEqual([missing.code, missing.err], [1, "rekey: --tls-cert must be a file that can be read (ENOENT).\n"]);
  const swapped = await start(keyFile, certFile);
  assert.deepEqual(
    [swapped.code, swapped.err],
    [1, "rekey: --tls-cert and --tls-key must be a certificate and its private key without passphrase, in PEM.\n"],
  );
});

test("several processes: policies see TLS whichever of them answers, and whichever took the connection", { skip }, async () => {
  await using several = await startRekey({ flags: ["--processes", "2", "--tls-cert", certFile, "--tls-key", keyFile] });
  const over = client(readFileSync(certFile, "utf8"), several);
  const { ARN: SecretId = "" } = await over.send(new CreateSecretCommand({ Name: "over-tls", SecretString: "0" }));
  const denied = {
    Effect: "Deny",
    Principal: "*",
    Action: "*",
    Resource: "*",
    Condition: { Bool: { "aws:SecureTransport": "false" } },
  };
  const ResourcePolicy = JSON.stringify({ Version: "2012-10-17", Statement: denied });
  await over.send(new PutResourcePolicyCommand({ SecretId, ResourcePolicy }));
  for (const SecretString of ["1", "2", "3", "4"]) {
    await over.send(new PutSecretValueCommand({ SecretId, SecretString }));
    assert.equal((await over.send(new GetSecretValueCommand({ SecretId }))).SecretString, SecretString);
  }
});
