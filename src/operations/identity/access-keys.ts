import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { type AccessKey, createAccessKey, deleteAccessKey, listAccessKeys, setAccessKeyState } from "../../store/credentials.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { userName } from "./identity-input.ts";
import { newAccessKey, refuseRoot } from "./new-credentials.ts";
import { type HolderResource, holderResource, requireHolder } from "./principal-resource.ts";

const accessKeyId = z.string().min(16).max(128).regex(/^\w+$/);
const ofHolder = z.object({ UserName: userName.optional() });
const ofKey = z.object({ UserName: userName.optional(), AccessKeyId: accessKeyId });

const shown = (key: AccessKey) => ({
  AccessKeyId: key.id,
  Status: key.state,
  CreateDate: new Date(key.createdAt),
  ...(key.lastUsedAt === undefined ? {} : { LastUsedDate: new Date(key.lastUsedAt) }),
});

const unknownKey = (id: string) => new ServiceError("ResourceNotFoundException", `The Access Key with id ${id} cannot be found.`);

/** Source: IAM API reference, CreateAccessKey. */
export const createAccessKeyOperation = defineOperation<z.infer<typeof ofHolder>, HolderResource>({
  name: "CreateAccessKey",
  action: "iam:CreateAccessKey",
  noun: "access-keys",
  verb: "create",
  mode: "write",
  summary: "Makes an access key of a user, two at most; its secret is shown in this answer only.",
  input: ofHolder,
  resource: holderResource,
  run: async (_input, found, call) => {
    requireHolder(found);
    refuseRoot(found.arn, call.account);
    const { id, secretAccessKey, secret } = await newAccessKey(call.services);
    const createdAt = call.services.now();
    const key = await call.transaction((tx) => createAccessKey(tx, { id, principalArn: found.arn, createdAt, secret }));
    return { ...shown(key), SecretAccessKey: secretAccessKey };
  },
});

/** Source: IAM API reference, ListAccessKeys, GetAccessKeyLastUsed. */
export const listAccessKeysOperation = defineOperation<z.infer<typeof ofHolder>, HolderResource>({
  name: "ListAccessKeys",
  action: "iam:ListAccessKeys",
  noun: "access-keys",
  verb: "list",
  mode: "read",
  summary: "Lists a user's access keys, without their secrets.",
  input: ofHolder,
  resource: holderResource,
  run: async (_input, found, { sql }) => {
    requireHolder(found);
    return { AccessKeys: (await listAccessKeys(sql, found.arn)).map(shown) };
  },
});

/** Two verbs for the two states. Source: IAM API reference, UpdateAccessKey. */
function stateOperation(verb: "enable" | "disable"): Operation {
  return defineOperation<z.infer<typeof ofKey>, HolderResource>({
    name: verb === "enable" ? "EnableAccessKey" : "DisableAccessKey",
    action: "iam:UpdateAccessKey",
    noun: "access-keys",
    verb,
    mode: "write",
    summary: verb === "enable" ? "Lets a disabled access key in again." : "Refuses an access key from the next request on.",
    input: ofKey,
    resource: holderResource,
    run: async ({ AccessKeyId }, found, call) => {
      requireHolder(found);
      const state = verb === "enable" ? "Active" : "Inactive";
      await changeKey(call, AccessKeyId, (tx) => setAccessKeyState(tx, found.arn, AccessKeyId, state));
      return {};
    },
  });
}
export const enableAccessKeyOperation = stateOperation("enable");
export const disableAccessKeyOperation = stateOperation("disable");

/** Source: IAM API reference, DeleteAccessKey. */
export const deleteAccessKeyOperation = defineOperation<z.infer<typeof ofKey>, HolderResource>({
  name: "DeleteAccessKey",
  action: "iam:DeleteAccessKey",
  noun: "access-keys",
  verb: "delete",
  mode: "write",
  summary: "Removes an access key; it is refused from the next request on.",
  input: ofKey,
  resource: holderResource,
  run: async ({ AccessKeyId }, found, call) => {
    requireHolder(found);
    await changeKey(call, AccessKeyId, (tx) => deleteAccessKey(tx, found.arn, AccessKeyId));
    return {};
  },
});

/** Undone, its audit record included, when there is no such key. */
async function changeKey(call: Call, id: string, change: (tx: Call["sql"]) => Promise<boolean>): Promise<void> {
  await call.transaction(async (tx) => {
    if (!(await change(tx))) throw unknownKey(id);
  });
}
