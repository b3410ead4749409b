import { Readable } from "node:stream";
import type { IAMClient } from "@aws-sdk/client-iam";
import type { STSClient } from "@aws-sdk/client-sts";
import { RotatorError } from "../core/error.ts";
import { type Failed, readFailure } from "./aws-iam-errors.ts";
import type { Place, SigningKeys } from "./aws-iam-secret.ts";
import type { RotatorTools } from "./target.ts";

/** Who a key belongs to, as STS says. */
export interface Identity {
  readonly account: string;
  readonly arn: string;
  /** Without its path; absent for roles and root. */
  readonly user: string | undefined;
}

/** A role to take on, and what of its rights the session is to have. */
export interface Assumed {
  readonly roleArn: string;
  readonly externalId?: string | undefined;
  /** Of the session. */
  readonly name: string;
  readonly policy: string;
}

const maxAnswerBytes = 1024 * 1024;
const connectMs = 3_000;

/** A call that AWS did not do. */
export class CallFailed extends RotatorError {
  readonly code: string | undefined;

  constructor(call: string, { outcome, text, code }: Failed) {
    super(outcome, `${call}: ${text}`);
    this.code = code;
  }
}

/**
 * IAM and STS, asked with these keys and no others: never with what the machine's environment or files offer, unless the keys
 * are said to be `ambient`. One try a call, each ended by the deadline; answers are bounded.
 */
export class AwsCalls {
  readonly #keys: SigningKeys | "ambient";
  readonly #place: Place;
  readonly #deadlineAt: number;

  constructor(keys: SigningKeys | "ambient", place: Place, { deadlineAt }: Pick<RotatorTools, "deadlineAt">) {
    this.#keys = keys;
    this.#place = place;
    this.#deadlineAt = deadlineAt;
  }

  /** @throws RotatorError */
  async identity(): Promise<Identity> {
    const { GetCallerIdentityCommand } = await import("@aws-sdk/client-sts");
    const answer = await this.sts("sts:GetCallerIdentity", (client, options) =>
      client.send(new GetCallerIdentityCommand({}), options),
    );
    const arn = answer.Arn ?? "";
    const [, account, path] = /^arn:aws[a-z-]*:(?:iam|sts)::(\d{12}):([\w+=,.@/-]{1,600})$/.exec(arn) ?? [];
    if (!account || !path) throw new RotatorError("invalid", "sts:GetCallerIdentity: the answer names nobody");
    return { account, arn, user: path.startsWith("user/") ? path.split("/").at(-1) : undefined };
  }

  /** Keys of a session that ends in 15 minutes. @throws RotatorError */
  async assume({ roleArn, externalId, name, policy }: Assumed): Promise<SigningKeys> {
    const { AssumeRoleCommand } = await import("@aws-sdk/client-sts");
    const input = {
      RoleArn: roleArn,
      RoleSessionName: name,
      DurationSeconds: 900,
      Policy: policy,
      ...(externalId !== undefined && { ExternalId: externalId }),
    };
    const { Credentials: made } = await this.sts("sts:AssumeRole", (client, options) =>
      client.send(new AssumeRoleCommand(input), options),
    );
    if (!made?.AccessKeyId || !made.SecretAccessKey) {
      throw new RotatorError("invalid", "sts:AssumeRole: the answer has no credentials");
    }
    return { accessKeyId: made.AccessKeyId, secretAccessKey: made.SecretAccessKey, sessionToken: made.SessionToken };
  }

  /** @throws CallFailed; `unknown` when a changing call may have been done */
  async iam<T>(name: string, call: Call<IAMClient, T>, changing = false): Promise<T> {
    const { IAMClient } = await import("@aws-sdk/client-iam");
    return this.#call(name, new IAMClient(this.#settings(this.#place.endpoint)), call, changing);
  }

  /** @throws CallFailed */
  async sts<T>(name: string, call: Call<STSClient, T>): Promise<T> {
    const { STSClient } = await import("@aws-sdk/client-sts");
    return this.#call(name, new STSClient(this.#settings(this.#place.stsEndpoint ?? this.#place.endpoint)), call, false);
  }

  async #call<C extends IAMClient | STSClient, T>(name: string, client: C, call: Call<C, T>, changing: boolean): Promise<T> {
    const restMs = this.#deadlineAt - Date.now();
    if (restMs <= 0) throw new RotatorError("timeout", `${name}: no time was left to ask`);
    boundAnswers(client);
    const abortSignal = AbortSignal.timeout(restMs);
    try {
      return await call(client, { abortSignal });
    } catch (error) {
      // Not kept as the cause: the SDK's errors hold the answer, which may be a new key.
      throw new CallFailed(name, readFailure(error, { changing, late: abortSignal.aborted }));
    } finally {
      client.destroy();
    }
  }

  #settings(endpoint: string | undefined) {
    return {
      region: this.#place.region,
      ...(endpoint !== undefined && { endpoint }),
      ...(this.#keys !== "ambient" && { credentials: credentialsOf(this.#keys) }),
      maxAttempts: 1, // tries are counted where the rotation is
      defaultsMode: "standard" as const,
      // The machine's own settings for AWS are none of the secret's.
      ignoreConfiguredEndpointUrls: true,
      useFipsEndpoint: false,
      useDualstackEndpoint: false,
      disableClockSkewCorrection: true,
      logger: silent,
      requestHandler: { connectionTimeout: connectMs },
    };
  }
}

type Call<C, T> = (client: C, options: { abortSignal: AbortSignal }) => Promise<T>;

const credentialsOf = ({ accessKeyId, secretAccessKey, sessionToken }: SigningKeys) => ({
  accessKeyId,
  secretAccessKey,
  ...(sessionToken !== undefined && { sessionToken }),
});

const nothing = (): void => undefined;
const silent = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing };

/** The secret's writer chooses the endpoint, so that its answers may be of any size. */
function boundAnswers(client: IAMClient | STSClient): void {
  const { middlewareStack } = client as IAMClient; // both are alike in this
  middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const { response } = result as { response: { body?: unknown } };
      if (response.body instanceof Readable) response.body = Readable.from(bounded(response.body));
      return result;
    },
    { step: "deserialize", name: "boundAnswers", priority: "low" },
  );
}

async function* bounded(body: Readable): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength;
    if (size > maxAnswerBytes) throw new Error(`the answer is larger than ${maxAnswerBytes} bytes`);
    yield chunk;
  }
}
