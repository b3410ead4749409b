import { z } from "zod";
import { findQuarantine } from "../../store/quarantine.ts";
import { type ListedRotation, listRotations } from "../../store/rotations.ts";
import { secretId } from "../input.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { readPageToken, writePageToken } from "./page-token.ts";
import { existing, type SecretResource, secretResource } from "./secret-resource.ts";

const input = z.object({
  SecretId: secretId.optional(),
  State: z.enum(["running", "succeeded", "failed", "canceled", "abandoned", "blocked"]).optional(),
  MaxResults: z.int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
});

interface RotationsResource extends Resource {
  readonly found?: SecretResource;
}

/** A secret's rotations may be seen by whoever may describe it; those of all secrets ask for a right of their own. */
async function rotationsResource({ SecretId }: { SecretId?: string | undefined }, call: Call): Promise<RotationsResource> {
  if (SecretId === undefined) return { arn: `arn:aws:rekey:${call.region}:${call.account}:rotation/*`, context: {} };
  const found = await secretResource({ SecretId }, call);
  const { arn, shown, policy, context } = found;
  return { arn, shown, context, ...(policy === undefined ? {} : { policy }), found };
}

/** How rotations stand and how earlier ones ended, newest first, each with its reason and remedy in words. */
export const listRotationsOperation = defineOperation<z.infer<typeof input>, RotationsResource>({
  name: "ListRotations",
  noun: "rotations",
  verb: "list",
  mode: "read",
  summary: "Lists the rotations of a secret, or of all, newest first: how they stand, why, and what would help.",
  input,
  resource: rotationsResource,
  permissions: ({ SecretId }, found) => [
    { action: SecretId === undefined ? "rekey:ListRotations" : "secretsmanager:DescribeSecret", resource: found },
  ],
  async run({ State, MaxResults, NextToken }, { found }, { sql }) {
    const secretArn = found && existing(found).arn;
    const scope = `rotations ${secretArn ?? ""} ${State ?? ""}`;
    const after = NextToken === undefined ? undefined : positionIn(NextToken, scope);
    const rotations = await listRotations(sql, { secretArn, state: State, limit: MaxResults + 1, after });
    const last = rotations.length > MaxResults ? rotations[MaxResults - 1] : undefined;
    const quarantine = await findQuarantine(sql);
    return {
      ...(quarantine && { Quarantine: { SinceDate: new Date(quarantine.sinceAt), Reason: quarantine.reason } }),
      Rotations: rotations.slice(0, MaxResults).map(shown),
      ...(last && { NextToken: writePageToken(scope, [last.startedAt, last.id]) }),
    };
  },
});

function positionIn(token: string, scope: string): { startedAt: number; id: string } {
  const [startedAt, id] = readPageToken(token, scope);
  return { startedAt: Number(startedAt), id: String(id) };
}

function shown(rotation: ListedRotation) {
  const running = rotation.state === "running";
  return {
    RotationId: rotation.id,
    SecretName: rotation.secretName,
    SecretArn: rotation.secretArn,
    VersionId: rotation.versionId,
    FollowsVersionId: rotation.follows,
    FollowedByVersionId: rotation.followedBy,
    FunctionArn: rotation.functionArn,
    Origin: rotation.origin,
    TestOnly: rotation.testOnly,
    State: rotation.state,
    Step: rotation.step,
    Strategy: rotation.strategy,
    FailedTries: rotation.attempt,
    Outcome: rotation.outcome,
    Reason: rotation.error,
    Remedy: rotation.remedy,
    StartedDate: new Date(rotation.startedAt),
    EndedDate: dateOf(rotation.endedAt),
    LastTryDate: dateOf(rotation.lastStepAt),
    WaitsFor: rotation.waitsFor,
    NextTryDate: running ? new Date(rotation.runAt) : undefined,
    WindowEndsDate: running ? new Date(rotation.windowEndsAt) : undefined,
    ClaimedBy: running ? rotation.claimedBy : undefined,
    ClaimedUntilDate: running ? dateOf(rotation.claimedUntil) : undefined,
    Tries: rotation.tries.map(({ at, step, outcome, reason }) => ({
      Date: new Date(at),
      Step: step,
      Outcome: outcome,
      Reason: reason,
    })),
  };
}

function dateOf(atMs: number | undefined): Date | undefined {
  return atMs === undefined ? undefined : new Date(atMs);
}
