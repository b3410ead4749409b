// Single operations in a loop, without a server.
import { createAuthorizer } from "../src/auth/authorize.ts";
import type { Principal } from "../src/core/principal.ts";
import { deriveSigningKey, parseAuthorization, type SignedRequest, verifySignature } from "../src/core/sigv4.ts";
import { atMost, type Figure } from "./figures.ts";
import { Void } from "./load.ts";
import { policies } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { signedRequest } from "./signed-request.ts";
import { median } from "./statistics.ts";

const loops = 20_000;
const signer = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  region: "us-east-1",
};
const secretArn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:bench/1/secret-1-AbCdEf";

export async function measureMicro(amount: Amount): Promise<Figure[]> {
  const tasks = { "SigV4 verification": [verification(), 10], "policy decision over 30 statements": [decision(), 15] } as const;
  return Object.entries(tasks).map(([name, [task, goal]]): Figure => {
    const rounds = Array.from({ length: amount.rounds + 1 }, () => microseconds(task)).slice(1);
    return { name, measured: median(rounds), unit: "us", goal: atMost(goal), rounds };
  });
}

/** @throws Void when the task says that its answer was wrong. */
function microseconds(task: () => boolean): number {
  const startedAt = performance.now();
  for (let turn = 0; turn < loops; turn += 1) if (!task()) throw new Void("a loop measured wrong answers");
  return ((performance.now() - startedAt) * 1000) / loops;
}

function verification(): () => boolean {
  const request = received(signedRequest(signer, 7353, "GetSecretValue", { SecretId: "bench/1/secret-1" }));
  const scope = { services: ["secretsmanager"], isRegion: () => true, nowMs: Date.now() };
  const claims = parseAuthorization(request, scope);
  const key = deriveSigningKey(signer.secretAccessKey, claims.date, claims.region, claims.service);
  return () => verifySignature(request, parseAuthorization(request, scope), key);
}

/** A request as `node:http` hands it over. */
function received(bytes: Buffer): SignedRequest {
  const [head = "", body = ""] = bytes.toString().split("\r\n\r\n");
  const headers = head
    .split("\r\n")
    .slice(1)
    .map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]);
  return {
    method: "POST",
    path: "/",
    query: "",
    headers: Object.fromEntries(headers),
    rawHeaders: headers.flat(),
    body: Buffer.from(body),
  };
}

function decision(): () => boolean {
  const authorize = createAuthorizer();
  const principal: Principal = {
    kind: "user",
    arn: "arn:aws:iam::000000000000:user/bench",
    accountId: "000000000000",
    userId: "AIDAIOSFODNN7EXAMPLE",
    userName: "bench",
    tags: { stage: "live" },
    policies: policies().map((document, number) => ({ name: `policy-${number}`, document })),
  };
  const facts = { sourceIp: "127.0.0.1", userAgent: "aws-sdk-js", secure: false, region: "us-east-1", now: Date.now() };
  const resource = { arn: secretArn, context: { "secretsmanager:SecretId": [secretArn] } };
  return () => authorize(principal, "secretsmanager:GetSecretValue", resource, facts) === undefined;
}
