import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { policyArn } from "../../core/identity.ts";
import { parsePolicy } from "../../core/policy.ts";
import {
  attachedPrincipals,
  createPolicy,
  createPolicyVersion,
  deletePolicy,
  deletePolicyVersion,
  findPolicy,
  listPolicies,
  type ManagedPolicy,
  type PolicyVersion,
  policyVersions,
  setDefaultVersion,
} from "../../store/policies.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { arn, description, pageAfter, paging, policyDocument, policyName, toPage } from "./identity-input.ts";

interface PolicyResource extends Resource {
  readonly managed: ManagedPolicy | undefined;
}

async function policyResource({ PolicyArn }: { PolicyArn: string }, { sql }: Call): Promise<PolicyResource> {
  return { arn: PolicyArn, shown: `policy ${PolicyArn}`, context: {}, managed: await findPolicy(sql, PolicyArn) };
}

/** @throws ServiceError ResourceNotFoundException */
export function unknownPolicy(arn: string): ServiceError {
  return new ServiceError("ResourceNotFoundException", `Policy ${arn} does not exist or is not attachable.`);
}

function existing({ managed, arn }: PolicyResource): ManagedPolicy {
  if (!managed) throw unknownPolicy(arn);
  return managed;
}

const shown = ({ name, arn, defaultVersion, description, createdAt }: ManagedPolicy) => ({
  PolicyName: name,
  Arn: arn,
  DefaultVersionId: `v${defaultVersion}`,
  ...(description === undefined ? {} : { Description: description }),
  CreateDate: new Date(createdAt),
});
const shownVersion = ({ version, createdAt }: PolicyVersion, defaultVersion: number) => ({
  VersionId: `v${version}`,
  IsDefaultVersion: version === defaultVersion,
  CreateDate: new Date(createdAt),
});

const versionId = z
  .string()
  .max(32)
  .regex(/^v[1-9][0-9]{0,8}$/);
const named = z.object({ PolicyArn: arn });
const ofVersion = z.object({ PolicyArn: arn, VersionId: versionId });
const versionNumber = (id: string): number => Number(id.slice(1));
const unknownVersion = (arn: string, id: string) =>
  new ServiceError("ResourceNotFoundException", `Policy ${arn} version ${id} does not exist.`);

const createInput = z.object({ PolicyName: policyName, PolicyDocument: policyDocument, Description: description });

/** Source: IAM API reference, CreatePolicy. */
export const createPolicyOperation = defineOperation<z.infer<typeof createInput>, Resource>({
  name: "CreatePolicy",
  action: "iam:CreatePolicy",
  noun: "policies",
  verb: "create",
  mode: "write",
  summary: "Makes a policy to attach to users and roles.",
  input: createInput,
  resource: ({ PolicyName }, { account }) => ({
    arn: policyArn(account, PolicyName),
    shown: `policy ${PolicyName}`,
    context: {},
  }),
  run: async ({ PolicyName: name, PolicyDocument: document, Description }, _found, call) => {
    parsePolicy(document, "identity");
    const policy = { name, document, description: Description, createdAt: call.services.now() };
    return shown(await call.transaction((tx) => createPolicy(tx, call.account, policy)));
  },
});

const versionInput = z.object({ PolicyArn: arn, PolicyDocument: policyDocument, SetAsDefault: z.boolean().default(false) });

/** Source: IAM API reference, CreatePolicyVersion. */
export const createPolicyVersionOperation = defineOperation<z.infer<typeof versionInput>, PolicyResource>({
  name: "CreatePolicyVersion",
  action: "iam:CreatePolicyVersion",
  noun: "policies",
  verb: "create-version",
  mode: "write",
  summary: "Adds a version to a policy, five at most; it counts once it is the default.",
  input: versionInput,
  resource: policyResource,
  run: async ({ PolicyDocument: document, SetAsDefault: setAsDefault }, found, call) => {
    const { arn, defaultVersion } = existing(found);
    parsePolicy(document, "identity");
    const createdAt = call.services.now();
    const made = await call.transaction((tx) => createPolicyVersion(tx, arn, { document, setAsDefault, createdAt }));
    return shownVersion(made, setAsDefault ? made.version : defaultVersion);
  },
});

/** Source: IAM API reference, SetDefaultPolicyVersion. */
export const setDefaultPolicyVersionOperation = defineOperation<z.infer<typeof ofVersion>, PolicyResource>({
  name: "SetDefaultPolicyVersion",
  action: "iam:SetDefaultPolicyVersion",
  noun: "policies",
  verb: "set-default",
  mode: "write",
  summary: "Puts another version of a policy in force, from the next request on.",
  input: ofVersion,
  resource: policyResource,
  run: async ({ VersionId }, found, call) => {
    const { arn } = existing(found);
    await call.transaction(async (tx) => {
      if (!(await setDefaultVersion(tx, arn, versionNumber(VersionId)))) throw unknownVersion(arn, VersionId);
    });
    return {};
  },
});

/** Source: IAM API reference, DeletePolicyVersion. */
export const deletePolicyVersionOperation = defineOperation<z.infer<typeof ofVersion>, PolicyResource>({
  name: "DeletePolicyVersion",
  action: "iam:DeletePolicyVersion",
  noun: "policies",
  verb: "delete-version",
  mode: "write",
  summary: "Removes a version of a policy that is not the default.",
  input: ofVersion,
  resource: policyResource,
  run: async ({ VersionId }, found, call) => {
    const policy = existing(found);
    await call.transaction(async (tx) => {
      if (!(await deletePolicyVersion(tx, policy, versionNumber(VersionId)))) throw unknownVersion(policy.arn, VersionId);
    });
    return {};
  },
});

/** Source: IAM API reference, GetPolicy, GetPolicyVersion, ListEntitiesForPolicy. */
export const getPolicyOperation = defineOperation<z.infer<typeof named>, PolicyResource>({
  name: "GetPolicy",
  action: "iam:GetPolicy",
  noun: "policies",
  verb: "get",
  mode: "read",
  summary: "Shows a policy with the documents of its versions and to whom it is attached.",
  input: named,
  resource: policyResource,
  run: async (_input, found, { sql }) => {
    const policy = existing(found);
    const versions = await policyVersions(sql, policy.arn);
    return {
      ...shown(policy),
      Versions: versions.map((one) => ({ ...shownVersion(one, policy.defaultVersion), Document: one.document })),
      AttachedTo: await attachedPrincipals(sql, policy.arn),
    };
  },
});

const listInput = z.object(paging);

/** Source: IAM API reference, ListPolicies. */
export const listPoliciesOperation = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListPolicies",
  action: "iam:ListPolicies",
  noun: "policies",
  verb: "list",
  mode: "read",
  summary: "Lists policies by name.",
  input: listInput,
  resource: (_input, { account }) => ({ arn: policyArn(account, ""), context: {} }),
  run: async ({ MaxResults, NextToken }, _found, { sql }) => {
    const policies = await listPolicies(sql, { after: pageAfter(NextToken), limit: MaxResults + 1 });
    const { rows, ...next } = toPage(policies, MaxResults, (policy) => policy.name);
    return { Policies: rows.map(shown), ...next };
  },
});

/** Source: IAM API reference, DeletePolicy; here all its versions go with it. */
export const deletePolicyOperation = defineOperation<z.infer<typeof named>, PolicyResource>({
  name: "DeletePolicy",
  action: "iam:DeletePolicy",
  noun: "policies",
  verb: "delete",
  mode: "write",
  summary: "Removes a policy that is attached to nobody, with its versions.",
  input: named,
  resource: policyResource,
  run: async (_input, found, call) => {
    const { arn } = existing(found);
    await call.transaction((tx) => deletePolicy(tx, arn));
    return {};
  },
});
