import { z } from "zod";
import { type Secret, versionOf, versionWith } from "../../core/secret.ts";
import { addEvent } from "../../store/events.ts";
import { changeSecret, loadValue } from "../../store/secrets.ts";
import { clientRequestToken, description, kmsKeyId, requireToken, secretBinary, secretId, secretString } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { askedKeyArn, keyUse } from "./key-use.ts";
import { addValue } from "./put-secret-value.ts";
import { notFound, parameterContext, requireWritable, type SecretResource, secretResource, usable } from "./secret-resource.ts";
import { givenValue, openValue, sealValue, validateKey, valueMembers } from "./value.ts";

const input = z.object({
  SecretId: secretId,
  ClientRequestToken: clientRequestToken,
  Description: description,
  KmsKeyId: kmsKeyId,
  SecretBinary: secretBinary,
  SecretString: secretString,
  Type: z.string().max(256).optional(),
});
type Input = z.infer<typeof input>;

/** Changes a secret's details, its value, or both at once. Source: AWS API reference, UpdateSecret. */
export const updateSecret = defineOperation<Input, SecretResource>({
  name: "UpdateSecret",
  action: "secretsmanager:UpdateSecret",
  noun: "secrets",
  verb: "update",
  mode: "write",
  summary: "Changes a secret's description, key or type; with a value, also adds a version that becomes AWSCURRENT.",
  input,
  sensitive: valueMembers,
  check(request) {
    requireToken(request.ClientRequestToken, "InvalidRequestException");
    givenValue(request);
  },
  async resource(request, call) {
    const { Description, KmsKeyId, Type } = request;
    const KmsKeyArn = await askedKeyArn(KmsKeyId, call);
    return secretResource(request, call, parameterContext({ Description, KmsKeyId, KmsKeyArn, Type }));
  },
  async run(request, found, call) {
    const secret = usable(found);
    requireWritable(secret);
    const token = requireToken(request.ClientRequestToken, "InvalidRequestException");
    const renamed = withDetails(secret, request, call);
    const rewrapped = renamed.kmsKeyId === secret.kmsKeyId ? undefined : await underNewKey(renamed, call);
    const given = givenValue(request);
    const value = given && (await sealValue(call, renamed, token, given));
    const change = (before: Secret): Secret => withValues(withDetails(before, request, call), rewrapped);
    const saved = await call.transaction((tx) =>
      value ? addValue(tx, secret, call, { id: token, value }, change) : changeDetails(tx, secret.id, call, change),
    );
    return { ARN: saved.arn, Name: saved.name, VersionId: value ? versionOf(saved, token)?.id : undefined };
  },
});

async function changeDetails(
  tx: Parameters<typeof changeSecret>[0],
  id: string,
  call: Call,
  change: (before: Secret) => Secret,
): Promise<Secret> {
  const saved = await changeSecret(tx, id, (before) => {
    requireWritable(before);
    return change(before);
  });
  if (!saved) throw notFound();
  await addEvent(tx, {
    at: call.startedAt,
    type: "secret.updated",
    resource: saved.arn,
    generation: saved.generation,
    detail: {},
  });
  return saved;
}

/** Empty texts clear; absent ones leave what was there. */
function withDetails(secret: Secret, { Description, KmsKeyId, Type }: Input, call: Call): Secret {
  return {
    ...secret,
    description: Description === undefined ? secret.description : Description || undefined,
    kmsKeyId: KmsKeyId === undefined ? secret.kmsKeyId : KmsKeyId || undefined,
    type: Type === undefined ? secret.type : Type || undefined,
    lastChangedAt: call.startedAt,
  };
}

const resealedLabels = ["AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"];
type Sealed = Awaited<ReturnType<typeof sealValue>>;

/**
 * Under a new key, the versions that the three labels name are encrypted again; not so for a caller without kms:Encrypt on it.
 * Source: AWS API reference, UpdateSecret, KmsKeyId.
 */
async function underNewKey(secret: Secret, call: Call): Promise<Map<string, Sealed> | undefined> {
  await validateKey(call, secret);
  const key = await call.services.keys.resolve(secret.kmsKeyId, secret.region);
  const mayEncrypt = key.isDefault || call.may("kms:Encrypt", keyUse(key, secret.arn)) === undefined;
  return mayEncrypt ? sealLabelledAnew(secret, call) : undefined;
}

async function sealLabelledAnew(secret: Secret, call: Call): Promise<Map<string, Sealed>> {
  const sealed = new Map<string, Sealed>();
  for (const label of resealedLabels) {
    const version = versionWith(secret, label);
    const stored = version && !sealed.has(version.id) ? await loadValue(call.sql, secret.id, version.id) : undefined;
    if (!version || !stored) continue;
    const plaintext = await openValue(call, secret, version.id, stored);
    sealed.set(version.id, await sealValue(call, secret, version.id, { kind: stored.kind, plaintext }));
  }
  return sealed;
}

function withValues(secret: Secret, values: ReadonlyMap<string, Sealed> | undefined): Secret {
  if (!values) return secret;
  const versions = secret.versions.map((version) => {
    const newValue = version.newValue ? undefined : values.get(version.id);
    return newValue ? { ...version, keyId: newValue.keyId, newValue } : version;
  });
  return { ...secret, versions };
}
