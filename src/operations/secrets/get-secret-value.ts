import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { type Secret, type SecretVersion, versionOf, versionWith } from "../../core/secret.ts";
import { secretId, stagingLabel, versionId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { cachedSecretResource, parameterContext, type SecretResource, usable } from "./secret-resource.ts";
import { openValue, wireValue } from "./value.ts";

const input = z.object({ SecretId: secretId, VersionId: versionId.optional(), VersionStage: stagingLabel.optional() });
type Input = z.infer<typeof input>;

/** Longest that a read of AWSCURRENT waits while its password is being switched at the target. */
const barrierMs = 1_000;
const barrierPollMs = 10;

/** The value of one version. Source: AWS API reference, GetSecretValue. */
export const getSecretValue = defineOperation<Input, SecretResource>({
  name: "GetSecretValue",
  action: "secretsmanager:GetSecretValue",
  noun: "secrets",
  verb: "get-value",
  mode: "read",
  summary: "Reads the value of a secret's version; AWSCURRENT unless told otherwise.",
  input,
  resource: (request, call) =>
    cachedSecretResource(request, call, parameterContext({ VersionId: request.VersionId, VersionStage: askedStage(request) })),
  async run(request, found, call) {
    const secret = await settled(request, usable(found), call);
    const version = askedVersion(secret, request);
    const { value: plaintext, kind } = await readValue(call, request.SecretId, secret, version, notThere(request));
    call.services.noteRead(secret.id, version.id, call.principal.arn, call.startedAt);
    return {
      ARN: secret.arn,
      Name: secret.name,
      VersionId: version.id,
      ...wireValue(kind, plaintext),
      VersionStages: version.stages.length > 0 ? version.stages : undefined,
      CreatedDate: new Date(version.createdAt),
    };
  },
});

/** Opens a version of a secret that came from the cache under `secretIdAsFound`. */
export async function readValue(
  call: Call,
  secretIdAsFound: string,
  secret: Secret,
  version: SecretVersion,
  absent: ServiceError,
) {
  const stored = call.services.secrets.value(call.region, secretIdAsFound, secret, version.id);
  const sealed = stored instanceof Promise ? await stored : stored;
  if (!sealed) throw absent;
  const opened = openValue(call, secret, version.id, sealed);
  return { kind: sealed.kind, value: opened instanceof Promise ? await opened : opened };
}

/** What a request without label and id asks for is AWSCURRENT, also for the condition key. */
function askedStage({ VersionId, VersionStage }: Input): string | undefined {
  return VersionStage ?? (VersionId === undefined ? "AWSCURRENT" : undefined);
}

function askedVersion(secret: Secret, request: Input): SecretVersion {
  const { VersionId, VersionStage } = request;
  const version = VersionId === undefined ? versionWith(secret, askedStage(request) ?? "") : versionOf(secret, VersionId);
  if (!version) throw notThere(request);
  if (VersionStage !== undefined && !version.stages.includes(VersionStage))
    throw new ServiceError(
      "InvalidRequestException",
      "You provided a VersionStage that is not associated to the provided VersionId.",
    );
  return version;
}

function notThere(request: Input): ServiceError {
  const what = request.VersionId === undefined ? `staging label: ${askedStage(request)}` : `VersionId: ${request.VersionId}`;
  return new ServiceError("ResourceNotFoundException", `Secrets Manager can't find the specified secret value for ${what}`);
}

/**
 * While a single user's password is being switched, the value of AWSCURRENT may be one that the target refuses already:
 * such a read waits until the switch is over, at most `barrierMs`. Rotation's own calls ask for other labels or ids.
 */
async function settled(request: Input, secret: Secret, call: Call): Promise<Secret> {
  if (secret.switchingUntil === undefined || askedStage(request) !== "AWSCURRENT" || request.VersionId !== undefined)
    return secret;
  const { now, secrets } = call.services;
  const giveUpAt = Math.min(call.startedAt + barrierMs, secret.switchingUntil);
  let latest = secret;
  while (latest.switchingUntil !== undefined && now() < giveUpAt) {
    await sleep(barrierPollMs);
    const again = await secrets.find(call.region, request.SecretId);
    if (!again) break;
    latest = again;
  }
  return latest;
}
