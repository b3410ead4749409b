import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { parsePolicy } from "../../core/policy.ts";
import type { RingKey } from "../../crypto/key-ring.ts";
import { ringKeyStore } from "../../store/keys.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";

const keyId = z.string().min(1).max(2048);
const alias = z
  .string()
  .min(7)
  .max(256)
  .regex(/^alias\/[a-zA-Z0-9/_-]+$/);
const byId = z.object({ KeyId: keyId });

interface KeyResource extends Resource {
  /** The key, or why there is none: for those who may ask. */
  readonly key: RingKey | ServiceError;
}

const shown = (key: RingKey) => ({
  KeyId: key.id,
  Arn: key.arn,
  Aliases: key.aliases,
  State: key.state === "enabled" ? "Enabled" : "Disabled",
  CurrentVersion: key.currentVersion,
  Description: key.description || undefined,
  Policy: key.policy,
  CreationDate: new Date(key.createdAt),
});

async function keyResource({ KeyId }: { KeyId: string }, call: Call): Promise<KeyResource> {
  try {
    const key = await call.services.keys.resolve(KeyId, call.region);
    return { arn: key.arn, shown: KeyId, policy: key.policy, context: {}, key };
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    return { arn: `arn:aws:kms:${call.region}:${call.account}:key/${KeyId}`, shown: KeyId, context: {}, key: error };
  }
}

/** @throws ServiceError InvalidParameterException, AccessDeniedException */
function existing({ key }: KeyResource): RingKey {
  if (key instanceof ServiceError) throw key;
  return key;
}

/** The ring's changes, committed with the audit record of the call. */
const ringStore = (call: Call) => ringKeyStore({ query: call.sql.query.bind(call.sql), transaction: call.transaction });

function checkPolicy(document: string | undefined): void {
  if (document !== undefined && document !== "") parsePolicy(document, "resource", "key policy");
}

const createInput = z.object({
  Description: z.string().max(8192).optional(),
  Alias: alias.optional(),
  Policy: z.string().max(32_768).optional(),
});

const createKey = defineOperation<z.infer<typeof createInput>, Resource>({
  name: "CreateKey",
  action: "kms:CreateKey",
  noun: "keys",
  verb: "create",
  mode: "write",
  summary: "Makes a ring key that secrets can be encrypted under.",
  input: createInput,
  check: ({ Policy }) => checkPolicy(Policy),
  resource: (_input, { region, account }) => ({ arn: `arn:aws:kms:${region}:${account}:key/*`, context: {} }),
  async run({ Description, Alias, Policy }, _found, call) {
    const added = { region: call.region, description: Description, alias: Alias, policy: Policy || undefined };
    return shown(await call.services.keys.create(added, ringStore(call)));
  },
});

const listKeys = defineOperation({
  name: "ListKeys",
  action: "kms:ListKeys",
  noun: "keys",
  verb: "list",
  mode: "read",
  summary: "Lists the ring keys of a region.",
  input: z.object({}),
  resource: () => ({ arn: "*", context: {} }),
  async run(_input, _found, { services, region }) {
    await services.keys.refresh();
    return { Keys: services.keys.list(region).map(shown) };
  },
});

const describeKey = defineOperation<z.infer<typeof byId>, KeyResource>({
  name: "DescribeKey",
  action: "kms:DescribeKey",
  noun: "keys",
  verb: "describe",
  mode: "read",
  summary: "Shows one ring key.",
  input: byId,
  resource: keyResource,
  run: async (_input, found) => shown(existing(found)),
});

/** Operations that change one key by its id. */
function keyChange(
  name: string,
  verb: string,
  summary: string,
  change: (key: RingKey, call: Call) => Promise<RingKey>,
): Operation {
  return defineOperation<z.infer<typeof byId>, KeyResource>({
    name,
    action: `kms:${name}`,
    noun: "keys",
    verb,
    mode: "write",
    summary,
    input: byId,
    resource: keyResource,
    run: async (_input, found, call) => shown(await change(existing(found), call)),
  });
}

const rotateKey = keyChange(
  "RotateKeyOnDemand",
  "rotate",
  "Gives a ring key a new version; values sealed under older ones stay readable.",
  (key, call) => call.services.keys.rotate(key.id, ringStore(call)),
);
const disableKey = keyChange("DisableKey", "disable", "Stops all use of a ring key until it is enabled again.", (key, call) =>
  call.services.keys.change(key.id, { state: "disabled" }, ringStore(call)),
);
const enableKey = keyChange("EnableKey", "enable", "Allows use of a disabled ring key again.", (key, call) =>
  call.services.keys.change(key.id, { state: "enabled" }, ringStore(call)),
);

const aliasInput = z.object({ KeyId: keyId, AliasName: alias });

const createAlias = defineOperation<z.infer<typeof aliasInput>, KeyResource>({
  name: "CreateAlias",
  action: "kms:CreateAlias",
  noun: "keys",
  verb: "create-alias",
  mode: "write",
  summary: "Gives a ring key a further name.",
  input: aliasInput,
  resource: keyResource,
  async run({ AliasName }, found, call) {
    const key = existing(found);
    await call.services.keys.createAlias(AliasName, key.id, ringStore(call));
    return shown(call.services.keys.find(key.id) ?? key);
  },
});

const policyInput = z.object({ KeyId: keyId, Policy: z.string().max(32_768) });

const putKeyPolicy = defineOperation<z.infer<typeof policyInput>, KeyResource>({
  name: "PutKeyPolicy",
  action: "kms:PutKeyPolicy",
  noun: "keys",
  verb: "put-policy",
  mode: "write",
  summary: "Sets a ring key's policy; an empty one removes it.",
  input: policyInput,
  check: ({ Policy }) => checkPolicy(Policy),
  resource: keyResource,
  async run({ Policy, KeyId }, found, call) {
    const key = existing(found);
    const after = { arn: key.arn, shown: KeyId, policy: Policy || undefined, context: {} };
    if (call.may("kms:PutKeyPolicy", after))
      throw new ServiceError(
        "MalformedPolicyDocumentException",
        "The new key policy will not allow you to update the key policy in the future.",
      );
    return shown(await call.services.keys.change(key.id, { policy: Policy }, ringStore(call)));
  },
});

/** Ring keys, under KMS's action names. */
export const keyOperations: readonly Operation[] = [
  createAlias,
  createKey,
  describeKey,
  disableKey,
  enableKey,
  listKeys,
  putKeyPolicy,
  rotateKey,
];
