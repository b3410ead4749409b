import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import type { Secret } from "../../core/secret.ts";
import { changeSecret } from "../../store/secrets.ts";
import { maxListed, secretId, tags } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { requirePrimary, requireUsable, SecretResource, secretResource, tagContext, usable } from "./secret-resource.ts";

const maxTags = 50;
type Tag = { Key?: string | undefined; Value?: string | undefined };

const tagInput = z.object({ SecretId: secretId, Tags: tags.unwrap() });

/** Adds tags or overwrites their values. Source: AWS API reference, TagResource. */
export const tagResource = defineOperation<z.infer<typeof tagInput>, SecretResource>({
  name: "TagResource",
  action: "secretsmanager:TagResource",
  noun: "secrets",
  verb: "tag",
  mode: "write",
  summary: "Adds tags to a secret, or overwrites their values.",
  input: tagInput,
  resource: (request, call) => secretResource(request, call, tagContext(request.Tags)),
  run: (request, found, call) => changeTags(found, call, (before) => mergeTags(before, request.Tags)),
});

const untagInput = z.object({ SecretId: secretId, TagKeys: z.array(z.string().min(1).max(128)).max(maxListed) });

/** Removes tags; keys that are not there are ignored. Source: AWS API reference, UntagResource. */
export const untagResource = defineOperation<z.infer<typeof untagInput>, SecretResource>({
  name: "UntagResource",
  action: "secretsmanager:UntagResource",
  noun: "secrets",
  verb: "untag",
  mode: "write",
  summary: "Removes tags from a secret.",
  input: untagInput,
  resource: (request, call) => secretResource(request, call, { "aws:TagKeys": request.TagKeys }),
  run: (request, found, call) => {
    refuseSystemTags(request.TagKeys);
    return changeTags(found, call, (before) =>
      before === undefined
        ? undefined
        : Object.fromEntries(Object.entries(before).filter(([key]) => !request.TagKeys.includes(key))),
    );
  },
});

/** @throws ServiceError for system tags, malformed ones and more than 50 */
export function mergeTags(before: Secret["tags"], added: readonly Tag[]): Record<string, string> {
  refuseSystemTags(added.map(({ Key }) => Key ?? ""));
  const merged = { ...before };
  for (const { Key, Value } of added) {
    if (Key === undefined) throw new ServiceError("InvalidParameterException", "Every tag must have a key.");
    if (!/^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u.test(Key + (Value ?? "")))
      throw new ServiceError(
        "InvalidParameterException",
        `Tag ${Key} has characters other than letters, digits, spaces and + - = . _ : / @`,
      );
    merged[Key] = Value ?? "";
  }
  if (Object.keys(merged).length > maxTags)
    throw new ServiceError("LimitExceededException", `A secret can't have more than ${maxTags} tags.`);
  return merged;
}

function refuseSystemTags(keys: readonly string[]): void {
  const system = keys.find((key) => /^aws:/i.test(key));
  if (system !== undefined)
    throw new ServiceError("InvalidParameterException", `You can't modify system tags. Tag key: '${system}'.`);
}

async function changeTags(
  found: SecretResource,
  call: Call,
  decide: (before: Secret["tags"]) => Secret["tags"],
): Promise<object> {
  const { id } = usable(found);
  await call.transaction((tx) =>
    changeSecret(tx, id, (before) => {
      requireUsable(before);
      requirePrimary(before);
      const after = { ...before, tags: decide(before.tags), lastChangedAt: call.startedAt };
      refuseLockOut(found, before, after, call);
      return after;
    }),
  );
  return {};
}

/** A change of tags that would take the caller's own access away is refused. Source: AWS API reference, TagResource. */
function refuseLockOut(found: SecretResource, before: Secret, after: Secret, call: Call): void {
  const may = (secret: Secret) => call.may("secretsmanager:TagResource", new SecretResource(found.shown, secret, call, {}));
  const refusal = may(before) === undefined ? may(after) : undefined;
  if (refusal) throw refusal;
}
