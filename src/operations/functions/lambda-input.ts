import { ServiceError } from "../../core/error.ts";
import type { LambdaSettings } from "../../core/function.ts";
import type { SettingsInput } from "./function-input.ts";

export type LambdaInput = NonNullable<SettingsInput["Lambda"]>;

/** How a function of AWS Lambda is called; without FunctionArn, what is not named stays. @throws ServiceError InvalidParameterException */
export function lambdaIn(given: LambdaInput, before: LambdaSettings | undefined): LambdaSettings {
  const targetArn = given.FunctionArn ?? before?.targetArn;
  if (targetArn === undefined) throw invalid("Lambda.FunctionArn is missing: the function at AWS.");
  const stays: Partial<LambdaSettings> = given.FunctionArn === undefined && before ? before : {};
  const { Protocol = stays.protocol ?? "aws", SignedCode: signed } = given;
  const settings: LambdaSettings = {
    targetArn,
    assumeRoleArn: given.AssumeRoleArn ?? stays.assumeRoleArn,
    externalId: given.ExternalId ?? stays.externalId,
    protocol: Protocol === "aws" ? undefined : Protocol,
    receiver: given.FarKey === undefined ? stays.receiver : receiverIn(given.FarKey),
    autoUpdate: (given.AutoUpdate ?? stays.autoUpdate) || undefined,
    signedCode: signed
      ? { bucket: signed.Bucket, key: signed.Key, objectVersion: signed.ObjectVersion, sha256: signed.Sha256 }
      : stays.signedCode,
  };
  checkTogether(settings);
  return settings;
}

function checkTogether({
  targetArn,
  assumeRoleArn,
  externalId,
  protocol,
  receiver,
  autoUpdate,
  signedCode,
}: LambdaSettings): void {
  if (externalId !== undefined && assumeRoleArn === undefined)
    throw invalid("ExternalId goes with AssumeRoleArn, the role that asks for it.");
  if (protocol === "rekey" && !receiver)
    throw invalid("FarKey is missing: the function's public keys, which rekey aws keys wrote into FILE.pub.");
  if (protocol !== "rekey" && receiver) throw invalid("FarKey goes with Protocol rekey.");
  if (protocol !== "rekey" && (autoUpdate || signedCode)) throw invalid("AutoUpdate and SignedCode go with Protocol rekey.");
  // Code is put in place of the function's newest version, not of one that was published.
  if (autoUpdate && targetArn.split(":").length > 7)
    throw invalid("AutoUpdate needs a FunctionArn without version or alias: a published version never changes.");
}

function receiverIn(text: string): NonNullable<LambdaSettings["receiver"]> {
  const { signing, sealing } = objectIn(text);
  if (!isKey(signing) || !isKey(sealing)) throw invalid("FarKey must be what rekey aws keys wrote into FILE.pub.");
  if ("d" in signing || "d" in sealing)
    throw invalid("FarKey holds the function's private keys, which nobody but the function may have: give FILE.pub.");
  return { signing, sealing };
}

const isKey = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && "x" in value;

function objectIn(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

/** What callers see of it. */
export function shownLambda(settings: LambdaSettings): object {
  const { targetArn, assumeRoleArn, externalId, protocol = "aws", receiver, autoUpdate, signedCode: signed } = settings;
  return {
    FunctionArn: targetArn,
    AssumeRoleArn: assumeRoleArn,
    ExternalId: externalId,
    Protocol: protocol,
    // A key's own members are data.
    FarKey: receiver && JSON.stringify(receiver),
    AutoUpdate: autoUpdate,
    SignedCode: signed && { Bucket: signed.bucket, Key: signed.key, ObjectVersion: signed.objectVersion, Sha256: signed.sha256 },
  };
}

function invalid(message: string): ServiceError {
  return new ServiceError("InvalidParameterException", message);
}
