import { z } from "zod";
import { type Candidate, validityOf } from "../../core/candidate.ts";
import type { Secret } from "../../core/secret.ts";
import { type CandidateRow, readCandidates } from "../../store/candidates.ts";
import { secretId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { parameterContext, SecretResource, secretResource, usable } from "./secret-resource.ts";
import { openValue, wireValue } from "./value.ts";

const input = z.object({ SecretId: secretId });

/** Newest use first. */
const stages = ["AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"] as const;

/** AWSPENDING's value is for those secrets alone whose policy says so. */
function stagesOf(secret: Secret | undefined): readonly Candidate["stage"][] {
  return stages.filter((stage) => stage !== "AWSPENDING" || secret?.rotationPolicy?.readPending === true);
}

/**
 * The values that may be in force at the target, with what is known of each: for clients that try another one when a login is
 * refused, instead of asking again. All of one moment.
 */
export const getSecretCandidates = defineOperation<z.infer<typeof input>, SecretResource>({
  name: "GetSecretCandidates",
  action: "rekey:GetSecretCandidates",
  noun: "secrets",
  verb: "candidates",
  mode: "read",
  summary: "Reads the values that may work at the target now: the current, the previous and, where allowed, the pending one.",
  input,
  resource: (request, call) => secretResource(request, call),
  permissions: ({ SecretId }, { secret }, call) =>
    stagesOf(secret).map((stage) => ({
      action: "secretsmanager:GetSecretValue",
      resource: new SecretResource(SecretId, secret, call, parameterContext({ VersionStage: stage })),
    })),
  async run({ SecretId }, found, call) {
    const secret = usable(found);
    const read = await readCandidates(call.sql, secret.id, stages);
    const allowed = stagesOf(secret);
    const asked = stages.flatMap((stage) => {
      const row = read?.rows.find(({ label }) => label === stage);
      return row && read && allowed.includes(stage) ? [{ stage, row, validity: validityOf({ stage, ...row }, read) }] : [];
    });
    const shown = asked.filter(({ stage, validity }) => stage !== "AWSPENDING" || validity.inForce);
    const candidates = await Promise.all(
      shown.map(async ({ stage, row, validity: { generation, inForce, validUntil } }) => {
        call.note("secretsmanager:GetSecretValue", secret.arn, "ok", { SecretId, VersionId: row.versionId });
        return {
          Stage: stage,
          VersionId: row.versionId,
          Generation: generation,
          InForce: inForce,
          ValidUntil: validUntil === undefined ? undefined : new Date(validUntil),
          CreatedDate: new Date(row.createdAt),
          ...(await openCandidate(call, secret, row)),
        };
      }),
    );
    noteRead(call, secret, shown.map(({ row }) => row.versionId)[0]);
    return { ARN: secret.arn, Name: secret.name, Generation: read?.generation, Candidates: candidates };
  },
});

async function openCandidate(call: Call, secret: Secret, { versionId, value }: CandidateRow) {
  return wireValue(value.kind, await openValue(call, secret, versionId, value));
}

/** Of the current one only: whoever gets it beside the old one is not kept on the old one. */
function noteRead({ services, principal, startedAt }: Call, { id }: Secret, versionId: string | undefined): void {
  if (versionId !== undefined) services.noteRead(id, versionId, principal.roleArn ?? principal.arn, startedAt);
}
