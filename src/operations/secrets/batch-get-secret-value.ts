import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { currentInForce } from "../../core/secret.ts";
import { loadSecrets } from "../../store/secrets.ts";
import { nextToken, requireName, secretId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { isSwitching, readValue, settled } from "./get-secret-value.ts";
import { filtersInput, findPage } from "./list-secrets.ts";
import { cachedSecretResource, parameterContext, usable } from "./secret-resource.ts";
import { wireValue } from "./value.ts";

const input = z.object({
  SecretIdList: z.array(secretId).min(1).max(20).optional(),
  Filters: filtersInput.optional(),
  MaxResults: z.number().int().min(1).max(20).optional(),
  NextToken: nextToken,
});
type Input = z.infer<typeof input>;

interface BatchError {
  readonly SecretId: string;
  readonly ErrorCode: string;
  readonly Message: string;
}

/** AWSCURRENT of several secrets; one that fails does not fail the others. Source: AWS API reference, BatchGetSecretValue. */
export const batchGetSecretValue = defineOperation({
  name: "BatchGetSecretValue",
  action: "secretsmanager:BatchGetSecretValue",
  noun: "secrets",
  verb: "batch-get-values",
  mode: "read",
  summary: "Reads the current values of several secrets; one that fails does not fail the others.",
  input,
  check({ SecretIdList, Filters, MaxResults }: Input) {
    if ((SecretIdList === undefined) === (Filters === undefined))
      throw new ServiceError("InvalidParameterException", "You must specify either SecretIdList or Filters, and not both.");
    if (SecretIdList && MaxResults !== undefined)
      throw new ServiceError("InvalidParameterException", "You can use MaxResults only with Filters.");
    for (const id of SecretIdList ?? []) if (!id.startsWith("arn:")) requireName(id);
  },
  resource: () => ({ arn: "*", context: {} }),
  permissions: ({ Filters }: Input, found) => (Filters ? [{ action: "secretsmanager:ListSecrets", resource: found }] : []),
  async run({ SecretIdList, ...request }: Input, _found, call) {
    const page = SecretIdList ? undefined : await findPage({ ...request, MaxResults: request.MaxResults ?? 20 }, call);
    const ids = SecretIdList ?? (await loadSecrets(call.sql, page?.ids ?? [])).map(({ arn }) => arn);
    const answers = await Promise.all(ids.map((id) => readOne(id, call)));
    return {
      SecretValues: answers.flatMap(({ value }) => (value ? [value] : [])),
      Errors: answers.flatMap(({ error }) => (error ? [error] : [])),
      NextToken: page?.token,
    };
  },
});

async function readOne(id: string, call: Call): Promise<{ value?: object; error?: BatchError }> {
  const found = await cachedSecretResource({ SecretId: id }, call, parameterContext({ VersionStage: "AWSCURRENT" }));
  const note = (outcome: string) => call.note("secretsmanager:GetSecretValue", found.arn, outcome, { SecretId: id });
  try {
    const refusal = call.may("secretsmanager:GetSecretValue", found);
    if (refusal) throw refusal;
    const asked = usable(found);
    const secret = isSwitching(asked) ? await settled(id, asked, call) : asked;
    const absent = new ServiceError(
      "ResourceNotFoundException",
      "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
    );
    const version = currentInForce(secret);
    if (!version) throw absent;
    const { kind, value } = await readValue(call, id, secret, version, () => absent);
    call.services.noteRead(secret.id, version.id, call.principal.roleArn ?? call.principal.arn, call.startedAt);
    note("ok");
    const { arn: ARN, name: Name } = secret;
    const CreatedDate = new Date(version.createdAt);
    return { value: { ARN, Name, VersionId: version.id, ...wireValue(kind, value), VersionStages: version.stages, CreatedDate } };
  } catch (error) {
    if (!(error instanceof ServiceError) || error.code === "InternalServiceError") throw error;
    note(error.code);
    return { error: { SecretId: id, ErrorCode: error.code, Message: error.message } };
  }
}
