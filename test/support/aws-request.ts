// What the services of an AWS account on loopback have in common.
import type { IncomingHttpHeaders } from "node:http";

export const awsAccountId = "111122223333";
export const awsRegion = "eu-central-1";

/** Who signs requests, and what they may do: actions such as `lambda:InvokeFunction`. */
export interface AwsIdentity {
  readonly arn: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** Epoch ms. */
  expiresAt?: number;
  readonly allow: ReadonlySet<string>;
}

/** What a service refuses with; its form is the service's. */
export class AwsError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** A request whose signature is right. */
export interface AwsRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly identity: AwsIdentity;
  /** @throws AwsError */
  mustBeAllowed(action: string, resource: string): void;
}
