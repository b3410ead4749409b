import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { currentInForce, type Secret, type SecretVersion, versionOf, versionWith } from "../../core/secret.ts";
import { secretId, stagingLabel, versionId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import {
  cachedSecretResource,
  notFound,
  parameterContext,
  requireUsable,
  type SecretResource,
  usable,
} from "./secret-resource.ts";
import { openValue, wireValue } from "./value.ts";

const input = z.object({ SecretId: secretId, VersionId: versionId.optional(), VersionStage: stagingLabel.optional() });
type Input = z.infer<typeof input>;

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
    const asked = usable(found);
    const ofCurrent = request.VersionId === undefined && askedStage(request) === "AWSCURRENT";
    const secret = ofCurrent && isSwitching(asked) ? await settled(request.SecretId, asked, call) : asked;
    const version = askedVersion(secret, request);
    const { value: plaintext, kind } = await readValue(call, request.SecretId, secret, version, () => notThere(request));
    call.services.noteRead(secret.id, version.id, call.principal.roleArn ?? call.principal.arn, call.startedAt);
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
  absent: () => ServiceError,
) {
  const stored = call.services.secrets.value(call.region, secretIdAsFound, secret, version.id);
  const sealed = stored instanceof Promise ? await stored : stored;
  if (!sealed) throw absent();
  const opened = openValue(call, secret, version.id, sealed);
  return { kind: sealed.kind, value: opened instanceof Promise ? await opened : opened };
}

/** What a request without label and id asks for is AWSCURRENT, also for the condition key. */
function askedStage({ VersionId, VersionStage }: Input): string | undefined {
  return VersionStage ?? (VersionId === undefined ? "AWSCURRENT" : undefined);
}

function askedVersion(secret: Secret, request: Input): SecretVersion {
  const { VersionId, VersionStage } = request;
  const version = VersionId === undefined ? labelled(secret, askedStage(request) ?? "") : versionOf(secret, VersionId);
  if (!version) throw notThere(request);
  if (VersionId === undefined) return version;
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

function labelled(secret: Secret, label: string): SecretVersion | undefined {
  return label === "AWSCURRENT" ? currentInForce(secret) : versionWith(secret, label);
}

/** Whether a read of AWSCURRENT must look twice. */
export function isSwitching(secret: Secret): boolean {
  return secret.switchingUntil !== undefined;
}

/**
 * While a single user's password is being switched, the value of AWSCURRENT may be one that the target refuses already:
 * such a read waits until the switch is over, or it is known which version the target takes; at most `readBarrierMs`.
 * Rotation's own calls ask for other labels or ids.
 */
export async function settled(secretId: string, secret: Secret, call: Call): Promise<Secret> {
  const { now, secrets, readBarrierMs } = call.services;
  const giveUpAt = Math.min(call.startedAt + readBarrierMs, secret.switchingUntil ?? 0);
  let latest = secret;
  while (isSwitching(latest) && latest.switchedTo === undefined && now() < giveUpAt) {
    await sleep(barrierPollMs);
    const again = await secrets.find(call.region, secretId);
    if (!again) throw notFound();
    requireUsable(again);
    latest = again;
  }
  return latest;
}
