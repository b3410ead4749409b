import { z } from "zod";
import type { Secret, SecretVersion } from "../../core/secret.ts";
import { nextToken, secretId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { readPageToken, writePageToken } from "./page-token.ts";
import { existing, type SecretResource, secretResource } from "./secret-resource.ts";

const input = z.object({
  SecretId: secretId,
  MaxResults: z.number().int().min(1).max(100).optional(),
  NextToken: nextToken,
  IncludeDeprecated: z.boolean().optional(),
});

/** A secret's versions, newest first. Source: AWS API reference, ListSecretVersionIds. */
export const listSecretVersionIds = defineOperation<z.infer<typeof input>, SecretResource>({
  name: "ListSecretVersionIds",
  action: "secretsmanager:ListSecretVersionIds",
  noun: "secrets",
  verb: "list-versions",
  mode: "read",
  summary: "Lists a secret's versions; those without staging labels only if asked for.",
  input,
  resource: (request, call) => secretResource(request, call),
  async run({ MaxResults = 100, NextToken, IncludeDeprecated = false }, found, call) {
    const secret = existing(found);
    const newestFirst = [...secret.versions].reverse().filter((version) => IncludeDeprecated || version.stages.length > 0);
    const scope = `versions ${secret.arn} ${IncludeDeprecated}`;
    const after = NextToken === undefined ? undefined : readPageToken(NextToken, scope);
    const start =
      after === undefined
        ? 0
        : newestFirst.findIndex(
            ({ id, createdAt }) => createdAt < Number(after[0]) || (createdAt === Number(after[0]) && id < String(after[1])),
          );
    const page = start < 0 ? [] : newestFirst.slice(start, start + MaxResults);
    const last = page.at(-1);
    return {
      ARN: secret.arn,
      Name: secret.name,
      Versions: page.map((version) => ({
        VersionId: version.id,
        VersionStages: version.stages.length > 0 ? version.stages : undefined,
        LastAccessedDate: version.lastAccessedAt === undefined ? undefined : new Date(version.lastAccessedAt),
        CreatedDate: new Date(version.createdAt),
        KmsKeyIds: [keyName(version, secret, call)],
      })),
      NextToken: last && start + page.length < newestFirst.length ? writePageToken(scope, [last.createdAt, last.id]) : undefined,
    };
  },
});

/** The key that the version is sealed under, as the secret names it where it is the secret's; versions without value have that. */
function keyName({ keyId }: SecretVersion, { kmsKeyId }: Secret, { services }: Call): string {
  const key = keyId === undefined ? undefined : services.keys.find(keyId);
  if (!key) return kmsKeyId ?? "DefaultEncryptionKey";
  if (key.isDefault) return "DefaultEncryptionKey";
  const names = [key.id, key.arn, ...key.aliases];
  const isSecrets = kmsKeyId !== undefined && names.some((name) => kmsKeyId === name || kmsKeyId.endsWith(`:${name}`));
  return isSecrets ? kmsKeyId : key.arn;
}
