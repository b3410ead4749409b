import { hash } from "node:crypto";
import { deriveSigningKey, type SigningKey, stringToSign } from "../src/core/sigv4.ts";
import { canonicalRequest } from "../src/core/sigv4-canonical.ts";

export interface Signer {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
}

const service = "secretsmanager";
const keys = new Map<string, SigningKey>();

/** A whole HTTP request of the AWS JSON protocol as an AWS SDK sends it, signed as of now: good for five minutes. */
export function signedRequest(signer: Signer, port: number, operation: string, members: object): Buffer {
  const { amzDate, date } = dates(Date.now());
  const body = JSON.stringify(members);
  const headers = {
    "content-type": "application/x-amz-json-1.1",
    host: `127.0.0.1:${port}`,
    "x-amz-date": amzDate,
    "x-amz-target": `secretsmanager.${operation}`,
  };
  const signedHeaders = Object.keys(headers);
  const request = { method: "POST", path: "/", query: "", headers, body: Buffer.from(body) };
  const canonical = canonicalRequest(request, signedHeaders, hash("sha256", body)) ?? "";
  const scope = { amzDate, date, region: signer.region, service };
  const signature = signingKey(signer, date).sign(stringToSign(scope, canonical));
  const credential = `${signer.accessKeyId}/${date}/${signer.region}/${service}/aws4_request`;
  const head = [
    "POST / HTTP/1.1",
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "user-agent: aws-sdk-js/3.1162.0 os/linux lang/js md/nodejs#24 api/secrets-manager#3.1162.0",
    `authorization: AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${signedHeaders.join(";")}, Signature=${signature}`,
    `content-length: ${request.body.length}`,
  ];
  return Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`);
}

function dates(at: number): { amzDate: string; date: string } {
  const amzDate = new Date(at).toISOString().replaceAll(/[-:]|\.\d{3}/g, "");
  return { amzDate, date: amzDate.slice(0, 8) };
}

function signingKey({ accessKeyId, secretAccessKey, region }: Signer, date: string): SigningKey {
  const name = `${accessKeyId} ${date} ${region}`;
  const kept = keys.get(name);
  if (kept) return kept;
  const made = deriveSigningKey(secretAccessKey, date, region, service);
  keys.set(name, made);
  return made;
}
