import { randomUUID } from "node:crypto";
import type { Audit } from "../core/audit.ts";
import type { FunctionRecord } from "../core/function.ts";
import { type CodeClaim, codeClaimMs, forgetFarFunction, keepCodeClaim, saveCode } from "../store/function-code.ts";
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
/** What could not be looked at is looked at sooner, and what is under way yet sooner. */
const soonMs = 60_000;
const underWayMs = 15_000;
const keepEveryMs = codeClaimMs / 3;

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
    using held = new HeldCode(sql, claim);
    let isBegun = claim.state === "updating";
    const found = await lookAtCode(
      {
        ...parts,
        async begin(known) {
          await note(record, known, "ok");
          isBegun = await held.save({ ...known, lookedAt: now() });
          return isBegun;
        },
      },
      record,
      claim,
    );
    if (isBegun && found.state === "failed") await note(record, found, "InvalidRequestException");
    const pauseMs = found.state === "updating" ? underWayMs : found.state === "unreachable" ? soonMs : hourMs;
    await held.save({ ...found, lookedAt: now() }, now() + pauseMs);
  };
}

/** A claim that is kept while its look takes: a process that dies leaves it to others soon. */
class HeldCode implements Disposable {
  readonly #sql: Sql;
  readonly #timer: NodeJS.Timeout;
  #claim: CodeClaim;
  /** One after another, as each changes what the claim is known by. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(sql: Sql, claim: CodeClaim) {
    this.#sql = sql;
    this.#claim = claim;
    this.#timer = setInterval(() => void this.#keep().catch(() => undefined), keepEveryMs); // it may go better the next time
    this.#timer.unref();
  }

  /** False: somebody else has taken it up. `againAt`: the end of it; epoch ms. */
  save(found: Parameters<typeof saveCode>[2], againAt?: number): Promise<boolean> {
    return this.#next((tx) => saveCode(tx, this.#claim, found, againAt));
  }

  #keep(): Promise<void> {
    return this.#next(async (tx) => {
      this.#claim = (await keepCodeClaim(tx, this.#claim, this.#claim.until + keepEveryMs)) ?? this.#claim;
    });
  }

  #next<T>(work: (tx: Sql) => Promise<T>): Promise<T> {
    const done = this.#last.then(() => this.#sql.transaction(work));
    this.#last = done.catch(() => undefined);
    return done;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
