import { hash } from "node:crypto";
import { deriveSigningKey, stringToSign } from "../core/sigv4.ts";
import { canonicalRequest } from "../core/sigv4-canonical.ts";
import { SetUpProblem } from "./lambda-set-up-problem.ts";

/** Where Rekey's public keys stand in a bucket. */
const keyObject = "rekey/jwks.json";
const timeoutMs = 5_000;
const maxBytes = 64 * 1024;

interface KeyObjectPlace {
  readonly bucket: string;
  /** Account that the bucket must belong to: names of deleted buckets are free for anybody. */
  readonly owner: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly nowMs: number;
}

/**
 * The key set in a bucket of S3, as text; asked for with the function's own role. A gateway endpoint is all the way that a
 * network without others needs. @throws SetUpProblem UnreadableKeySet
 * Source: Amazon S3 API reference, GetObject; AWS General Reference, "Signature Version 4 signing process".
 */
export async function fetchKeyObject(place: KeyObjectPlace): Promise<string> {
  const { AWS_ENDPOINT_URL_S3, AWS_REGION = "us-east-1" } = place.env;
  const domain = AWS_REGION.startsWith("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  const url = new URL(`${AWS_ENDPOINT_URL_S3 ?? `https://s3.${AWS_REGION}.${domain}`}/${place.bucket}/${keyObject}`);
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, { headers: signedHeaders(url, AWS_REGION, place), redirect: "error", signal });
    const text = await boundedText(response);
    if (response.status === 200 && text !== undefined) return text;
    throw refusal(place, response.status, text ?? "");
  } catch (error) {
    if (error instanceof SetUpProblem) throw error;
    throw problem(
      place,
      "S3 did not answer: a function in a VPC without a way out needs a gateway endpoint for S3 in its route table",
      error,
    );
  }
}

function signedHeaders(url: URL, region: string, { env, owner, nowMs }: KeyObjectPlace): Record<string, string> {
  const { AWS_ACCESS_KEY_ID = "", AWS_SECRET_ACCESS_KEY = "", AWS_SESSION_TOKEN } = env;
  const amzDate = `${new Date(nowMs).toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;
  const date = amzDate.slice(0, 8);
  const bodyHash = hash("sha256", "");
  const sent = {
    "x-amz-content-sha256": bodyHash,
    "x-amz-date": amzDate,
    "x-amz-expected-bucket-owner": owner,
    ...(AWS_SESSION_TOKEN !== undefined && { "x-amz-security-token": AWS_SESSION_TOKEN }),
  };
  const headers = { host: url.host, ...sent };
  const names = Object.keys(headers);
  const canonical = canonicalRequest(
    { method: "GET", path: url.pathname, query: "", headers, body: new Uint8Array() },
    names,
    bodyHash,
  );
  const scope = { amzDate, date, region, service: "s3" };
  const signature = deriveSigningKey(AWS_SECRET_ACCESS_KEY, date, region, "s3").sign(stringToSign(scope, canonical ?? ""));
  const credential = `${AWS_ACCESS_KEY_ID}/${date}/${region}/s3/aws4_request`;
  return {
    ...sent,
    authorization: `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names.join(";")}, Signature=${signature}`,
  };
}

/** `undefined` when it is too long. */
async function boundedText({ body }: Response): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    size += chunk.length;
    if (size > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function refusal(place: KeyObjectPlace, status: number, text: string): SetUpProblem {
  const [, code] = /<Code>([A-Za-z]{1,50})<\/Code>/.exec(text) ?? [];
  const said = code === undefined ? `status ${status}` : code;
  if (status === 200) return problem(place, `it is longer than ${maxBytes / 1024} KiB`);
  if (status === 404) return problem(place, `S3 says ${said}: put what rekey signing-key export prints there`);
  if (status === 403)
    return problem(
      place,
      `S3 says ${said}: give the function's role s3:GetObject on it; a bucket of another account than ${place.owner} is named by REKEY_KEY_SET_S3_OWNER`,
    );
  return problem(place, `S3 says ${said}`);
}

function problem({ bucket }: KeyObjectPlace, why: string, cause?: unknown): SetUpProblem {
  const message = `Rekey's public keys could not be read from s3://${bucket}/${keyObject}: ${why}.`;
  return new SetUpProblem("UnreadableKeySet", message, { cause });
}
