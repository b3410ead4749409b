import { hash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { deriveSigningKey, stringToSign } from "../../core/sigv4.ts";
import { canonicalRequest } from "../../core/sigv4-canonical.ts";
import { CommandError } from "../command-error.ts";
import { unanswered } from "../config-api.ts";
import type { Answer } from "../output.ts";

/** Where the secrets are that are to be taken over; what is absent is found as AWS's own tools find it. */
export interface AwsPlace {
  readonly region?: string | undefined;
  readonly endpoint?: string | undefined;
}

interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** Operations of AWS Secrets Manager by name. @throws CommandError when refused (1) or when nobody answers (3). */
export type AwsSecrets = (operation: string, input: object) => Promise<Answer>;

const service = "secretsmanager";
const waitMs = 30_000;
const maxTries = 5;

/**
 * Speaks to AWS Secrets Manager, or what answers its API, with the credentials that AWS's tools would use here: variables,
 * shared files, single sign-on, the machine's role.
 * @throws CommandError for usage when there are no credentials or no region.
 */
export async function openAws({ region: askedRegion, endpoint: askedEndpoint }: AwsPlace): Promise<AwsSecrets> {
  // Finding credentials is the same for every client of the SDK.
  const { STSClient } = await import("@aws-sdk/client-sts");
  const { config } = new STSClient(askedRegion === undefined ? {} : { region: askedRegion });
  const region = await config.region().catch(() => {
    throw new CommandError(2, "it is not told which AWS region: give --from-region, or set AWS_REGION");
  });
  const credentials = await config.credentials().catch((error: unknown) => {
    throw new CommandError(2, "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE", {
      cause: error,
    });
  });
  const { AWS_ENDPOINT_URL_SECRETS_MANAGER, AWS_ENDPOINT_URL } = process.env;
  const suffix = region.startsWith("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  const endpoint =
    askedEndpoint ?? AWS_ENDPOINT_URL_SECRETS_MANAGER ?? AWS_ENDPOINT_URL ?? `https://${service}.${region}.${suffix}`;
  return (operation, input) => ask({ endpoint, region, credentials }, operation, JSON.stringify(input));
}

interface Opened {
  readonly endpoint: string;
  readonly region: string;
  readonly credentials: Credentials;
}

async function ask(aws: Opened, operation: string, body: string): Promise<Answer> {
  for (let tries = 1; ; tries++) {
    const { ok, status, answer } = await send(aws, operation, body);
    if (ok) return answer;
    const code = String(answer.__type ?? `HTTP ${status}`).replace(/^.*#/, "");
    const isPassing = status >= 500 || status === 429 || /Throttl|TooManyRequests/.test(code);
    if (!isPassing || tries === maxTries)
      throw new CommandError(1, `${operation}: ${code}: ${String(answer.Message ?? answer.message ?? "refused")}`);
    await sleep(2 ** tries * (100 + Math.random() * 100));
  }
}

async function send({ endpoint, region, credentials }: Opened, operation: string, body: string) {
  const url = new URL("/", endpoint);
  const headers = signedHeaders({ host: url.host, region, credentials, target: `${service}.${operation}`, body });
  try {
    const response = await fetch(url, { method: "POST", headers, body, redirect: "error", signal: AbortSignal.timeout(waitMs) });
    const read: unknown = JSON.parse(await response.text());
    return { ok: response.ok, status: response.status, answer: (read ?? {}) as Answer };
  } catch (error) {
    if (error instanceof SyntaxError)
      throw new CommandError(1, `what answers at ${endpoint} is not AWS Secrets Manager; check --from-endpoint`, {
        cause: error,
      });
    throw unanswered(error, endpoint, waitMs);
  }
}

interface ToSign {
  readonly host: string;
  readonly region: string;
  readonly credentials: Credentials;
  readonly target: string;
  readonly body: string;
}

function signedHeaders({ host, region, credentials, target, body }: ToSign): Record<string, string> {
  const amzDate = new Date().toISOString().replaceAll(/[-:]|\.\d{3}/g, "");
  const date = amzDate.slice(0, 8);
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  const headers = {
    "content-type": "application/x-amz-json-1.1",
    host,
    "x-amz-date": amzDate,
    ...(sessionToken !== undefined && { "x-amz-security-token": sessionToken }),
    "x-amz-target": target,
  };
  const names = Object.keys(headers).sort();
  const request = { method: "POST", path: "/", query: "", headers, body: Buffer.from(body) };
  const canonical = canonicalRequest(request, names, hash("sha256", body)) ?? "";
  const signature = deriveSigningKey(secretAccessKey, date, region, service).sign(
    stringToSign({ amzDate, date, region, service }, canonical),
  );
  const { host: _host, ...sent } = headers; // fetch sends it by itself
  return {
    ...sent,
    authorization: `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${date}/${region}/${service}/aws4_request, SignedHeaders=${names.join(";")}, Signature=${signature}`,
  };
}
