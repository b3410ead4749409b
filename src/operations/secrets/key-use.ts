import type { RingKey } from "../../crypto/key-ring.ts";
import type { Resource } from "../operation.ts";

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
