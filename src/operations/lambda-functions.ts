import { z } from "zod";
import type { FunctionRecord, LambdaSettings } from "../core/function.ts";
import { insertFunction } from "../store/functions.ts";
import type { Sql } from "../store/sql.ts";
import { blankFunction, noteCode } from "./functions/change-functions.ts";
import { functionAtAws, roleAtAws } from "./functions/function-input.ts";
import { type LambdaInput, lambdaIn } from "./functions/lambda-input.ts";
import type { Call } from "./operation.ts";

/** A registered function of AWS Lambda. */
export type LambdaRecord = FunctionRecord & { readonly kind: "lambda" };

export const roleArn = z.string().max(2048).regex(roleAtAws, "must be the ARN of a role at AWS");
export const lambdaArn = z.string().max(2048).regex(functionAtAws, "must be the ARN of a function of AWS Lambda");

/** One as it would be registered; nothing is kept yet. @throws ServiceError InvalidParameterException */
export function newLambdaFunction(name: string, given: LambdaInput, call: Call): LambdaRecord {
  return { ...blankFunction(name, call), updatedAt: call.startedAt, kind: "lambda", lambda: lambdaIn(given, undefined) };
}

/** @throws ServiceError ResourceExistsException, LimitExceededException */
export async function keepLambdaFunction(tx: Sql, record: LambdaRecord): Promise<void> {
  await insertFunction(tx, record);
  await noteCode(tx, record);
}

/** Public keys of one of Rekey's own functions. @throws ServiceError InvalidParameterException */
export const receiverIn = (targetArn: string, farKey: string): LambdaSettings["receiver"] =>
  lambdaIn({ FunctionArn: targetArn, Protocol: "rekey", FarKey: farKey }, undefined).receiver;
