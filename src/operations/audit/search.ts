import { z } from "zod";
import { defineOperation, type Resource } from "../operation.ts";

const text = z.string().min(1).max(2048).optional();
const time = z.iso.datetime({ offset: true }).optional();
const input = z.object({
  Principal: text,
  Action: text,
  Resource: text,
  Outcome: text,
  /** Included. */
  From: time,
  /** Not included. */
  To: time,
  Cursor: z.string().min(1).max(4096).optional(),
  Limit: z.int().min(1).max(1000).optional(),
});

const epochMs = (iso: string | undefined): number | undefined => (iso === undefined ? undefined : Date.parse(iso));

/** Who asked for what, newest first. `Complete` is false while the newest records are too many to be all looked at. */
export const searchAuditOperation = defineOperation<z.infer<typeof input>, Resource>({
  name: "SearchAudit",
  action: "rekey:SearchAudit",
  noun: "audit",
  verb: "search",
  mode: "read",
  summary: "Finds audit records by principal, action, resource, outcome and time, newest first.",
  input,
  resource: (_input, { region, account }) => ({ arn: `arn:aws:rekey:${region}:${account}:audit/trail`, context: {} }),
  async run({ Principal, Action, Resource, Outcome, From, To, Cursor, Limit }, _found, { services }) {
    const { records, cursor, complete } = await services.audit.search({
      principal: Principal,
      action: Action,
      resource: Resource,
      outcome: Outcome,
      from: epochMs(From),
      to: epochMs(To),
      cursor: Cursor,
      limit: Limit,
    });
    return {
      Records: records.map(
        ({ at, requestId, principal, accessKeyId, action, resource, region, sourceIp, userAgent, parameters, outcome }) => ({
          Time: new Date(at),
          RequestId: requestId,
          Principal: principal,
          ...(accessKeyId === undefined ? {} : { AccessKeyId: accessKeyId }),
          Action: action,
          Resource: resource,
          Region: region,
          SourceIp: sourceIp,
          ...(userAgent === undefined ? {} : { UserAgent: userAgent }),
          Parameters: parameters,
          Outcome: outcome,
        }),
      ),
      ...(cursor === undefined ? {} : { Cursor: cursor }),
      Complete: complete,
    };
  },
});
