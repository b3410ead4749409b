import { z } from "zod";
import { heartbeatWords } from "../../core/heartbeat.ts";
import { type ListedHeartbeat, listHeartbeats } from "../../store/heartbeats.ts";
import { secretId } from "../input.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { readPageToken, writePageToken } from "../secrets/page-token.ts";
import { existing, type SecretResource, secretResource } from "../secrets/secret-resource.ts";

const input = z.object({
  SecretId: secretId.optional(),
  /** Only those that did not log in. */
  Failing: z.boolean().default(false),
  MaxResults: z.int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
});

interface HeartbeatsResource extends Resource {
  readonly found?: SecretResource;
}

/** What the last try of each current credential at its target came to. */
export const listHeartbeatsOperation = defineOperation<z.infer<typeof input>, HeartbeatsResource>({
  name: "ListHeartbeats",
  noun: "rotations",
  verb: "heartbeats",
  mode: "read",
  summary: "Shows whether current credentials still log in at their targets, for those secrets whose policy asks for it.",
  input,
  async resource({ SecretId }, call: Call) {
    if (SecretId === undefined) return { arn: `arn:aws:rekey:${call.region}:${call.account}:rotation/*`, context: {} };
    const found = await secretResource({ SecretId }, call);
    const { arn, shown, policy, context } = found;
    return { arn, shown, context, ...(policy === undefined ? {} : { policy }), found };
  },
  permissions: ({ SecretId }, found) => [
    { action: SecretId === undefined ? "rekey:ListRotations" : "secretsmanager:DescribeSecret", resource: found },
  ],
  async run({ Failing: failing, MaxResults, NextToken }, { found }, { sql, region }) {
    const secretArn = found && existing(found).arn;
    const scope = `heartbeats ${secretArn ?? ""} ${failing}`;
    const after = NextToken === undefined ? undefined : String(readPageToken(NextToken, scope)[0]);
    const all = await listHeartbeats(sql, { region, secretArn, failing, limit: MaxResults + 1, after });
    const last = all.length > MaxResults ? all[MaxResults - 1] : undefined;
    return {
      Heartbeats: all.slice(0, MaxResults).map(shown),
      ...(last && { NextToken: writePageToken(scope, [last.secretId]) }),
    };
  },
});

function shown({ secretName, secretArn, outcome, at, since, dueAt }: ListedHeartbeat) {
  return {
    SecretName: secretName,
    SecretArn: secretArn,
    Outcome: outcome,
    Meaning: heartbeatWords[outcome],
    LastTryDate: new Date(at),
    SinceDate: new Date(since),
    NextTryDate: dueAt === undefined ? undefined : new Date(dueAt),
  };
}
