import { ServiceError } from "../../core/error.ts";
import type { RingKey } from "../../crypto/key-ring.ts";
import type { Call, Resource } from "../operation.ts";

/** A ring key as authorization sees it when a secret is sealed or opened under it. Source: user guide, "Secret encryption". */
export function keyUse(key: RingKey, secretArn: string): Resource {
  return {
    arn: key.arn,
    policy: key.policy,
    context: {
      "kms:ViaService": [`secretsmanager.${key.region}.amazonaws.com`],
      "kms:EncryptionContext:SecretARN": [secretArn],
    },
  };
}

/** What policies see of the key that a request names. That it names none is told later, to those who may ask. */
export async function askedKeyArn(kmsKeyId: string | undefined, { services, region }: Call): Promise<string | undefined> {
  if (!kmsKeyId) return undefined;
  try {
    return (await services.keys.resolve(kmsKeyId, region)).arn;
  } catch (error) {
    if (error instanceof ServiceError) return undefined;
    throw error;
  }
}
