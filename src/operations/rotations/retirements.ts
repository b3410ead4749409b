import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { addEvent } from "../../store/events.ts";
import { cancelRetirement, hastenRetirement, type ListedRetirement, listRetirements } from "../../store/retirements.ts";
import { changeSecret } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { secretId, versionId } from "../input.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { readPageToken, writePageToken } from "../secrets/page-token.ts";
import { existing, notFound, type SecretResource, secretResource } from "../secrets/secret-resource.ts";

const listInput = z.object({
  SecretId: secretId.optional(),
  State: z.enum(["waiting", "running", "blocked", "done", "canceled"]).optional(),
  MaxResults: z.int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
});

interface RetirementsResource extends Resource {
  readonly found?: SecretResource;
}

/** A secret's retirements may be seen by whoever may describe it; those of all secrets ask for a right of their own. */
async function retirementsResource({ SecretId }: { SecretId?: string | undefined }, call: Call): Promise<RetirementsResource> {
  if (SecretId === undefined) return { arn: `arn:aws:rekey:${call.region}:${call.account}:retirement/*`, context: {} };
  const found = await secretResource({ SecretId }, call);
  const { arn, shown, policy, context } = found;
  return { arn, shown, context, ...(policy === undefined ? {} : { policy }), found };
}

/** When old credentials end, and what became of those whose time had come; newest first. */
const list = defineOperation<z.infer<typeof listInput>, RetirementsResource>({
  name: "ListRetirements",
  noun: "retirements",
  verb: "list",
  mode: "read",
  summary: "Lists when the old credentials of a secret, or of all, end at their targets, and how that went; newest first.",
  input: listInput,
  resource: retirementsResource,
  permissions: ({ SecretId }, found) => [
    { action: SecretId === undefined ? "rekey:ListRetirements" : "secretsmanager:DescribeSecret", resource: found },
  ],
  async run({ State, MaxResults, NextToken }, { found }, { sql }) {
    const secretArn = found && existing(found).arn;
    const scope = `retirements ${secretArn ?? ""} ${State ?? ""}`;
    const after = NextToken === undefined ? undefined : positionIn(NextToken, scope);
    const rows = await listRetirements(sql, { secretArn, state: State, limit: MaxResults + 1, after });
    const last = rows.length > MaxResults ? rows[MaxResults - 1] : undefined;
    return {
      Retirements: rows.slice(0, MaxResults).map(shown),
      ...(last && { NextToken: writePageToken(scope, [last.createdAt, last.secretId, last.versionId, last.what]) }),
    };
  },
});

function positionIn(token: string, scope: string) {
  const [createdAt, id, version, what] = readPageToken(token, scope);
  return { createdAt: Number(createdAt), secretId: String(id), versionId: String(version), what: String(what) };
}

function shown(retirement: ListedRetirement) {
  const open = retirement.endedAt === undefined;
  return {
    SecretName: retirement.secretName,
    SecretArn: retirement.secretArn,
    VersionId: retirement.versionId,
    What: retirement.what,
    Strategy: retirement.strategy,
    FunctionArn: retirement.functionArn,
    State: retirement.state,
    DueDate: new Date(retirement.dueAt),
    NextTryDate: open ? new Date(retirement.runAt) : undefined,
    FailedTries: retirement.attempt,
    Outcome: retirement.outcome,
    Reason: retirement.error,
    Remedy: retirement.remedy,
    CreatedDate: new Date(retirement.createdAt),
    LastTryDate: dateOf(retirement.lastTryAt),
    EndedDate: dateOf(retirement.endedAt),
  };
}

function dateOf(atMs: number | undefined): Date | undefined {
  return atMs === undefined ? undefined : new Date(atMs);
}

const oneInput = z.object({ SecretId: secretId, VersionId: versionId });
type OneInput = z.infer<typeof oneInput>;

/** Changes the retirement of one version. @throws ServiceError ResourceNotFoundException when none waits */
async function changeOne(
  { VersionId }: OneInput,
  found: SecretResource,
  call: Call,
  { change, event }: { change: typeof hastenRetirement; event: string },
): Promise<object> {
  const { id } = existing(found);
  const secret = await call.transaction(async (tx: Sql) => {
    const locked = await changeSecret(tx, id, (before) => before);
    if (!locked) throw notFound();
    if (!(await change(tx, id, VersionId, call.startedAt)))
      throw new ServiceError(
        "ResourceNotFoundException",
        `No old credential of version ${VersionId} waits to be ended: rotations with two credentials at a time leave one.`,
      );
    const { arn, generation } = locked;
    const detail = { versionId: VersionId, dueAt: call.startedAt };
    await addEvent(tx, { at: call.startedAt, type: event, resource: arn, generation, detail });
    return locked;
  });
  call.services.wakeEngine();
  return { ARN: secret.arn, Name: secret.name, VersionId };
}

const runNow = defineOperation<OneInput, SecretResource>({
  name: "RunRetirement",
  action: "rekey:RunRetirement",
  noun: "retirements",
  verb: "run-now",
  mode: "write",
  summary: "Ends an old credential at once, or tries again to end it, instead of at its deadline.",
  input: oneInput,
  resource: (request, call) => secretResource(request, call),
  run: (request, found, call) => changeOne(request, found, call, { change: hastenRetirement, event: "retirement.scheduled" }),
});

const cancel = defineOperation<OneInput, SecretResource>({
  name: "CancelRetirement",
  action: "rekey:CancelRetirement",
  noun: "retirements",
  verb: "cancel",
  mode: "write",
  summary: "Leaves an old credential alive at its target: it is not ended at its deadline.",
  input: oneInput,
  resource: (request, call) => secretResource(request, call),
  run: (request, found, call) => changeOne(request, found, call, { change: cancelRetirement, event: "retirement.canceled" }),
});

/** Operations on old credentials that are to end. */
export const retirementOperations = [list, runNow, cancel];
