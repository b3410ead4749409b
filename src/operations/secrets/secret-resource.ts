import { ServiceError } from "../../core/error.ts";
import type { Secret } from "../../core/secret.ts";
import { findSecret } from "../../store/secrets.ts";
import type { Call, Resource } from "../operation.ts";

/** Where a name without ARN is looked for. */
type Place = Pick<Call, "region" | "account">;
type Context = Readonly<Record<string, readonly string[]>>;

/** A secret as authorization sees it, whether it exists or not. Condition keys are worked out only when a policy asks. */
export class SecretResource implements Resource {
  readonly arn: string;
  readonly shown: string;
  readonly secret: Secret | undefined;
  readonly #parameters: Context;

  constructor(secretId: string, secret: Secret | undefined, call: Place, parameters: Context) {
    this.shown = secretId;
    this.secret = secret;
    this.arn = secret?.arn ?? arnOfAbsent(secretId, call);
    this.#parameters = parameters;
  }

  get policy(): string | undefined {
    return this.secret?.policy;
  }

  get context(): Context {
    return { ...secretContext(this.secret, this.arn), ...this.#parameters };
  }
}

const none: Context = {};

/** For operations that change: the secret as the store has it now. `parameters`: the request's own condition keys. */
export async function secretResource({ SecretId }: { SecretId: string }, call: Call, parameters = none): Promise<SecretResource> {
  return new SecretResource(SecretId, await findSecret(call.sql, call.region, SecretId), call, parameters);
}

/** For the read path: the same from the cache, without a promise where nothing changed. */
export function cachedSecretResource(
  { SecretId }: { SecretId: string },
  call: Call,
  parameters = none,
): SecretResource | Promise<SecretResource> {
  const found = call.services.secrets.find(call.region, SecretId);
  if (found instanceof Promise) return found.then((secret) => new SecretResource(SecretId, secret, call, parameters));
  return new SecretResource(SecretId, found, call, parameters);
}

/** @throws ServiceError ResourceNotFoundException */
export function existing({ secret }: SecretResource): Secret {
  if (!secret) throw notFound();
  return secret;
}

/** The secret if it may be used. @throws ServiceError InvalidRequestException when it is scheduled for deletion */
export function usable(found: SecretResource): Secret {
  const secret = existing(found);
  requireUsable(secret);
  return secret;
}

/** The same rule inside a transaction, on the state that counts. */
export function requireUsable(secret: Secret): void {
  if (secret.deletedAt !== undefined)
    throw new ServiceError(
      "InvalidRequestException",
      "You can't perform this operation on the secret because it was marked for deletion.",
    );
}

/** Also refuses replicas: their values, labels and policy come from the primary. */
export function requireWritable(secret: Secret): void {
  requireUsable(secret);
  requirePrimary(secret);
  requireUnmanaged(secret);
}

export function requirePrimary(secret: Secret): void {
  if (isReplica(secret))
    throw new ServiceError(
      "InvalidParameterException",
      "Operation not permitted on a replica secret. Call must be made in primary secret's region.",
    );
}

export function requireUnmanaged(secret: Secret): void {
  if (secret.owningService !== undefined)
    throw new ServiceError(
      "InvalidRequestException",
      `You can't change this secret because it is managed by ${secret.owningService}; change it there.`,
    );
}

export function isReplica(secret: Secret): boolean {
  return secret.primaryRegion !== undefined && secret.primaryRegion !== secret.region;
}

export function notFound(): ServiceError {
  return new ServiceError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
}

/** The ARN that a secret of this name has, or would have. Six question marks stand for the suffix that it would get. */
export function nameArn(name: string, { region, account }: Place, suffix = "??????"): string {
  return `arn:aws:secretsmanager:${region}:${account}:secret:${name}-${suffix}`;
}

function arnOfAbsent(secretId: string, call: Place): string {
  return secretId.startsWith("arn:") ? secretId : nameArn(secretId, call);
}

function secretContext(secret: Secret | undefined, arn: string): Context {
  if (!secret) return { "secretsmanager:SecretId": [arn] };
  const tags = Object.entries(secret.tags ?? {}).flatMap(([key, value]) => [
    [`aws:ResourceTag/${key}`, [value]],
    [`secretsmanager:ResourceTag/${key}`, [value]],
  ]);
  return {
    "secretsmanager:SecretId": [secret.arn],
    "secretsmanager:SecretPrimaryRegion": [secret.primaryRegion ?? secret.region],
    ...(secret.rotationFunctionArn === undefined
      ? {}
      : { "secretsmanager:resource/AllowRotationLambdaArn": [secret.rotationFunctionArn] }),
    ...(secret.type === undefined ? {} : { "secretsmanager:resource/Type": [secret.type] }),
    ...Object.fromEntries(tags),
  };
}

/** Condition keys of request parameters: those that the caller sent, under `secretsmanager:`. */
export function parameterContext(
  parameters: Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>,
): Context {
  const present = Object.entries(parameters).flatMap(([name, value]) => {
    if (value === undefined) return [];
    return [[`secretsmanager:${name}`, Array.isArray(value) ? value : [String(value)]]];
  });
  return Object.fromEntries(present);
}

/** `aws:RequestTag/k` and `aws:TagKeys`. */
export function tagContext(tags: readonly { Key?: string | undefined; Value?: string | undefined }[] | undefined): Context {
  if (!tags || tags.length === 0) return none;
  return {
    "aws:TagKeys": tags.map(({ Key }) => Key ?? ""),
    ...Object.fromEntries(tags.map(({ Key, Value }) => [`aws:RequestTag/${Key}`, [Value ?? ""]])),
  };
}
