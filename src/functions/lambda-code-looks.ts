import { randomUUID } from "node:crypto";
import type { Audit } from "../core/audit.ts";
import type { FunctionRecord } from "../core/function.ts";
import { type CodeClaim, forgetFarFunction, saveCode } from "../store/function-code.ts";
import type { Sql } from "../store/sql.ts";
import type { LambdaFunction } from "./lambda.ts";
import type { LambdaCode } from "./lambda-code.ts";
import type { FarStatus } from "./lambda-far.ts";
import type { LambdaReleases } from "./lambda-releases.ts";
import { type CodeKnown, lookAtCode } from "./lambda-update.ts";

export interface CodeLookParts {
  readonly sql: Sql;
  readonly audit: Pick<Audit<Sql>, "append">;
  readonly code: LambdaCode;
  readonly releases: LambdaReleases | undefined;
  probe(record: LambdaFunction): Promise<FarStatus>;
  findFunction(functionArn: string): Promise<FunctionRecord | undefined>;
  now(): number;
}

const hourMs = 3_600_000;
/** What could not be looked at, or is under way, is looked at sooner. */
const soonMs = 60_000;

/** Looks at the code of a function that was claimed for it, and records what came of it. */
export function createCodeLooks(parts: CodeLookParts): (claim: CodeClaim) => Promise<void> {
  const { sql, audit, now } = parts;
  const note = (record: FunctionRecord, { wanted, message }: CodeKnown, outcome: string) =>
    audit.append({
      requestId: randomUUID(),
      at: now(),
      principal: "secretsmanager.amazonaws.com",
      action: "rekey:UpdateFunctionCode",
      resource: record.arn,
      region: record.region,
      sourceIp: "secretsmanager.amazonaws.com",
      parameters: { CodeSha256: wanted, ...(message !== undefined && { Reason: message.slice(0, 500) }) },
      outcome,
    });
  return async (claim) => {
    const record = await parts.findFunction(claim.functionArn);
    if (record?.kind !== "lambda" || record.lambda.protocol !== "rekey") {
      await sql.transaction((tx) => forgetFarFunction(tx, claim.functionArn));
      return;
    }
    let isBegun = claim.state === "updating";
    const found = await lookAtCode(
      {
        ...parts,
        async begin(known) {
          await note(record, known, "ok");
          isBegun = await sql.transaction((tx) => saveCode(tx, claim, { ...known, lookedAt: now() }));
          return isBegun;
        },
      },
      record,
      claim,
    );
    if (isBegun && found.state === "failed") await note(record, found, "InvalidRequestException");
    const isOpen = found.state === "updating" || found.state === "unreachable";
    await sql.transaction((tx) => saveCode(tx, claim, { ...found, lookedAt: now() }, now() + (isOpen ? soonMs : hourMs)));
  };
}
