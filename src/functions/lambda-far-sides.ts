import { RotatorError } from "../core/error.ts";
import type { FunctionRecord } from "../core/function.ts";
import { readPublicJwk } from "../crypto/message-keys.ts";
import type { FarRoute } from "../targets/far.ts";
import type { FarRotator } from "../targets/far-rotator-verbs.ts";
import { dopplerRotator } from "./doppler-rotator.ts";
import { createDopplerRoute } from "./doppler-route.ts";
import type { LambdaFunction } from "./lambda.ts";
import { createLambdaRoute, type LambdaFarParts } from "./lambda-far.ts";

export interface FarSideParts extends LambdaFarParts {
  /** Whether this server may call it at all: @throws RotatorError with why not. */
  check(record: FunctionRecord): Promise<void>;
  findFunction(functionArn: string): Promise<FunctionRecord | undefined>;
}

/** Registered functions at AWS as ways into networks. */
export interface LambdaFarSides {
  /** As the function is registered at each call. */
  route(functionArn: string): FarRoute;
  /** A far rotator, as the function can be one. */
  fit(functionArn: string, far: FarRotator): Promise<FarRotator>;
}

/** A message counts for so long after it was signed. */
const messageMs = 30_000;

export function createLambdaFarSides(parts: FarSideParts): LambdaFarSides {
  const find = async (functionArn: string): Promise<LambdaFunction> => {
    const record = await parts.findFunction(functionArn);
    if (!record) throw new RotatorError("invalid", `there is no function ${functionArn}: see rekey function list`);
    if (record.kind !== "lambda" || record.lambda.protocol === undefined)
      throw new RotatorError(
        "invalid",
        `function ${record.name} is no far side: one has --lambda and --protocol rekey, or doppler`,
      );
    await parts.check(record);
    return record;
  };
  const route = (functionArn: string): FarRoute => ({
    async call(call) {
      const record = await find(functionArn);
      const make = record.lambda.protocol === "rekey" ? createLambdaRoute : createDopplerRoute;
      return make(parts, record).call(call);
    },
  });
  return {
    route,
    async fit(functionArn, far) {
      const record = await parts.findFunction(functionArn);
      if (record?.kind !== "lambda" || record.lambda.protocol !== "doppler") return far;
      return dopplerRotator(far, messageMs + record.timeoutSeconds * 1_000);
    },
  };
}

/** @throws RotatorError when what was given as the function's public keys are none */
export async function checkReceiver({ name, lambda }: LambdaFunction): Promise<void> {
  if (!lambda.receiver) return;
  const signing = await readPublicJwk(lambda.receiver.signing, "reply");
  const sealing = await readPublicJwk(lambda.receiver.sealing, "enc");
  if (signing?.kid !== lambda.receiver.signing.kid || sealing?.kid !== lambda.receiver.sealing.kid)
    throw new RotatorError("invalid", `the public keys of function ${name} are not what rekey aws keys wrote`);
}
