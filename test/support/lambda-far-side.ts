// A function of ours in an AWS account on loopback, and the near half that speaks to it, for tests without a server.
import { randomUUID } from "node:crypto";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import type { JWK } from "jose";
import {
  type FarKeys,
  importSigningKey,
  newFarKeys,
  newPrivateJwk,
  publicFarKeys,
  publicJwk,
} from "../../src/crypto/message-keys.ts";
import { type FarRequest, writeBareRequest, writeRequest } from "../../src/crypto/messages.ts";
import { farRequest } from "../../src/functions/far-request.ts";
import type { FarRoute } from "../../src/targets/far.ts";
import type { AwsAccount } from "./aws-account.ts";
import { awsRegion } from "./aws-request.ts";
import type { FunctionOptions, HostedFunction } from "./hosted-function.ts";
import { lambdaZip } from "./lambda-zips.ts";

interface FarAnswer {
  readonly body?: unknown;
  readonly status?: string;
  readonly metadata?: { readonly name: string; readonly message: string; readonly reason?: string };
}

export interface LambdaFarSide extends FarRoute {
  readonly hosted: HostedFunction;
  readonly keys: FarKeys;
  /** Private, of the Rekey that it obeys. */
  readonly signing: JWK;
  /** A request to it, of now, with what a test wants otherwise. */
  request(other?: Partial<FarRequest>): FarRequest;
  /** Sealed to it; `other`: written by another key, or at another time. */
  sealed(request: FarRequest, other?: { signing?: JWK; nowMs?: number; receiver?: FarKeys }): ReturnType<typeof writeRequest>;
  /** Hands it a text as it is. */
  invoke(text: string, endorsements?: readonly string[]): Promise<FarAnswer>;
  /** Seals, invokes, opens. @throws RotatorError */
  ask(other?: Partial<FarRequest>): Promise<unknown>;
  /** Not sealed. */
  bareStatus(other?: Partial<FarRequest>): Promise<FarAnswer>;
}

const issuer = "installation-1";

/** Its environment holds Rekey's key set and its own keys, unless `environment` says otherwise. */
export async function lambdaFarSide(
  aws: AwsAccount,
  kind: string,
  { name = `rekey-${kind}`, ...options }: Partial<FunctionOptions> = {},
): Promise<LambdaFarSide> {
  const [signing, keys, { zip }] = await Promise.all([newPrivateJwk("sig"), newFarKeys(), lambdaZip(kind)]);
  const environment = { REKEY_KEY_SET: JSON.stringify({ keys: [publicJwk(signing)] }), REKEY_FAR_KEYS: JSON.stringify(keys) };
  const hosted = aws.createFunction({ zip, environment, ...options, name });
  const client = new LambdaClient({
    region: awsRegion,
    endpoint: aws.url,
    maxAttempts: 1,
    credentials: { accessKeyId: aws.env.AWS_ACCESS_KEY_ID ?? "", secretAccessKey: aws.env.AWS_SECRET_ACCESS_KEY ?? "" },
  });
  const far: LambdaFarSide = {
    hosted,
    keys,
    signing,
    request: (other = {}) => ({
      type: "status",
      body: {},
      audience: hosted.arn,
      id: randomUUID(),
      subject: "rotation-1",
      step: "status",
      fence: 1,
      notBeforeAt: Date.now(),
      expiresAt: Date.now() + 120_000,
      ...other,
    }),
    async sealed(request, other = {}) {
      const key = await importSigningKey(other.signing ?? signing);
      return writeRequest(request, {
        key,
        issuer,
        nowMs: other.nowMs ?? Date.now(),
        receiver: other.receiver ?? publicFarKeys(keys),
      });
    },
    async invoke(text, endorsements) {
      const { Payload, FunctionError } = await client.send(
        new InvokeCommand({ FunctionName: hosted.arn, Payload: JSON.stringify({ body: text, endorsements }) }),
      );
      const answer = Buffer.from(Payload ?? []).toString("utf8");
      if (FunctionError !== undefined) throw new Error(`the function failed: ${answer}`);
      return JSON.parse(answer) as FarAnswer;
    },
    async ask(other) {
      const sent = await far.sealed(far.request(other));
      const { body, metadata } = await far.invoke(sent.text);
      if (typeof body !== "string") throw new Error(`refused: ${metadata?.name}: ${metadata?.message}`);
      return sent.openReply(body, Date.now());
    },
    async bareStatus(other) {
      const key = await importSigningKey(signing);
      return far.invoke(await writeBareRequest(far.request(other), { key, issuer, nowMs: Date.now() }));
    },
    call: (call) => far.ask(farRequest(call, { audience: hosted.arn, id: randomUUID(), nowMs: Date.now() })),
  };
  return far;
}
