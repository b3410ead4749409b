import { randomInt } from "node:crypto";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { addVersion, type SealedValue, type Secret, versionOf } from "../../core/secret.ts";
import { digestContext } from "../../core/value-context.ts";
import { addEvent } from "../../store/events.ts";
import { findSecret, insertSecret, newSecretId } from "../../store/secrets.ts";
import {
  clientRequestToken,
  description,
  kmsKeyId,
  requireName,
  requireToken,
  secretBinary,
  secretName,
  secretString,
  tags,
} from "../input.ts";
import { type Call, defineOperation, type Permission } from "../operation.ts";
import { askedKeyArn } from "./key-use.ts";
import { checkReplicaRegions, insertReplicas, replicaRegions, replicationStatus, requireReplicaKeys } from "./replication.ts";
import { nameArn, parameterContext, SecretResource, tagContext } from "./secret-resource.ts";
import { mergeTags } from "./tagging.ts";
import { type GivenValue, givenValue, sealValue, validateKey, valueMembers } from "./value.ts";

const input = z.object({
  Name: secretName,
  ClientRequestToken: clientRequestToken,
  Description: description,
  KmsKeyId: kmsKeyId,
  SecretBinary: secretBinary,
  SecretString: secretString,
  Tags: tags,
  AddReplicaRegions: replicaRegions.optional(),
  ForceOverwriteReplicaSecret: z.boolean().optional(),
  Type: z.string().max(256).optional(),
});
type Input = z.infer<typeof input>;

/** Makes a secret, with a first version if a value is given. Source: AWS API reference, CreateSecret. */
export const createSecret = defineOperation<Input, SecretResource>({
  name: "CreateSecret",
  action: "secretsmanager:CreateSecret",
  noun: "secrets",
  verb: "create",
  mode: "write",
  summary: "Makes a secret, with a first version if a value is given.",
  input,
  sensitive: valueMembers,
  check(request) {
    requireName(request.Name);
    requireToken(request.ClientRequestToken, "InvalidRequestException");
    givenValue(request);
  },
  async resource(request, call) {
    const { Name, Description, KmsKeyId, AddReplicaRegions, ForceOverwriteReplicaSecret, Type } = request;
    const regions = AddReplicaRegions?.map(({ Region }) => Region);
    const parameters = {
      Name,
      Description,
      KmsKeyId,
      KmsKeyArn: await askedKeyArn(KmsKeyId, call),
      AddReplicaRegions: regions,
      ForceOverwriteReplicaSecret,
      Type,
    };
    // There is no secret yet that SecretId could name.
    const keys = { ...parameterContext(parameters), ...tagContext(request.Tags), "secretsmanager:SecretId": [] };
    return new SecretResource(Name, undefined, call, keys);
  },
  permissions: (request, found): Permission[] => [
    ...(request.Tags?.length ? [{ action: "secretsmanager:TagResource", resource: found }] : []),
    ...(request.AddReplicaRegions?.length ? [{ action: "secretsmanager:ReplicateSecretToRegions", resource: found }] : []),
  ],
  async run(request, _found, call) {
    const token = requireToken(request.ClientRequestToken, "InvalidRequestException");
    checkReplicaRegions(request.AddReplicaRegions ?? [], call.region);
    const fresh = newSecret(request, call);
    const given = givenValue(request);
    const value = given && (await sealValue(call, fresh, token, given));
    if (!(await findSecret(call.sql, call.region, request.Name))) {
      await validateKey(call, fresh);
      await requireReplicaKeys(fresh, request.AddReplicaRegions ?? [], call);
    }
    const outcome = await call.transaction(async (tx) => {
      const taken = await findSecret(tx, call.region, request.Name);
      if (taken) return repeated(taken, token, given && value && { ...value, digest: digestIn(taken, token, given, call) });
      const made = value ? addVersion(fresh, { id: token, value, createdAt: fresh.createdAt }).secret : fresh;
      await insertSecret(tx, made);
      const replicas = await insertReplicas(
        tx,
        made,
        request.AddReplicaRegions ?? [],
        request.ForceOverwriteReplicaSecret ?? false,
        call.startedAt,
      );
      await addEvent(tx, {
        at: call.startedAt,
        type: "secret.created",
        resource: made.arn,
        generation: made.generation,
        detail: {},
      });
      return { secret: made, replicas };
    });
    if (outcome.replicas.length > 0) call.services.wakeEngine();
    const { secret, replicas } = outcome;
    return {
      ARN: secret.arn,
      Name: secret.name,
      VersionId: given ? token : undefined,
      ReplicationStatus: replicas.length > 0 ? replicas.map(replicationStatus) : undefined,
    };
  },
});

function newSecret(request: Input, call: Call): Secret {
  const { Name, Description, KmsKeyId, Tags, AddReplicaRegions, Type } = request;
  return {
    id: newSecretId(),
    region: call.region,
    name: Name,
    arn: nameArn(Name, call, randomSuffix()),
    description: Description || undefined,
    kmsKeyId: KmsKeyId || undefined,
    type: Type || undefined,
    tags: Tags?.length ? mergeTags(undefined, Tags) : undefined,
    createdAt: call.startedAt,
    lastChangedAt: call.startedAt,
    primaryRegion: AddReplicaRegions?.length ? call.region : undefined,
    generation: 0,
    rowVersion: 1,
    versions: [],
  };
}

/** The answer to a name that exists: the first answer again for the same request, a refusal for any other. */
function repeated(taken: Secret, token: string, value: SealedValue | undefined) {
  if (taken.deletedAt !== undefined)
    throw new ServiceError(
      "InvalidRequestException",
      "You can't create this secret because a secret with this name is already scheduled for deletion.",
    );
  if (versionOf(taken, token)?.digest && value) {
    addVersion(taken, { id: token, value, createdAt: taken.createdAt });
    return { secret: taken, replicas: [] };
  }
  throw new ServiceError("ResourceExistsException", `The operation failed because the secret ${taken.name} already exists.`);
}

/** What the digest of the value is under the ARN that the first request made: equal values are told by it. */
function digestIn({ arn }: Secret, token: string, { kind, plaintext }: GivenValue, { services }: Call): Uint8Array {
  return services.digest(plaintext.reveal(), digestContext(kind, arn, token));
}

/** The suffix of an ARN keeps old grants from reaching a new secret of the same name. */
export function randomSuffix(): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  return Array.from({ length: 6 }, () => alphabet[randomInt(alphabet.length)]).join("");
}
