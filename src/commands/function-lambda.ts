import type { Flags } from "../config.ts";
import { pickOptions } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import type { Answer } from "./output.ts";
import { fileText } from "./typed-values.ts";

/** How a function of AWS Lambda is called, as the API wants it; `undefined`: nothing of it was given. @throws CommandError for usage */
export async function lambdaSettings(options: Flags): Promise<object | undefined> {
  const given = {
    ...pickOptions(options, {
      functionArn: "lambda",
      assumeRoleArn: "assumeRole",
      externalId: "externalId",
      protocol: "protocol",
      autoUpdate: "autoUpdate",
    }),
    ...(options.farKey !== undefined && { farKey: (await fileText(String(options.farKey))).trim() }),
    ...signedCode(options),
  };
  return Object.keys(given).length > 0 ? given : undefined;
}

function signedCode({ signedCode: address, signedSha256: sha256, signedVersion: version }: Flags): object {
  if (address === undefined && sha256 === undefined && version === undefined) return {};
  const [, bucket, key] = /^s3:\/\/([^/]+)\/(.+)$/.exec(String(address)) ?? [];
  if (bucket === undefined || key === undefined) throw new CommandError(2, "--signed-code is written s3://BUCKET/KEY");
  if (sha256 === undefined)
    throw new CommandError(2, "--signed-code needs --signed-sha256: what is put in place is checked by it");
  return { signedCode: { bucket, key, sha256, ...(version !== undefined && { objectVersion: version }) } };
}

const ofLambda =
  (member: string) =>
  ({ lambda }: Answer): unknown =>
    (lambda as Answer | undefined)?.[member];

const codeOf = ({ code }: Answer): Answer | undefined => code as Answer | undefined;

const states: Readonly<Record<string, string>> = {
  available: "update available",
  current: "up to date",
  failed: "update failed",
  unknown: "not looked at yet",
  unreachable: "cannot be looked at",
  updating: "being updated",
};

/** How new the code of a function of AWS Lambda is, in a word or two. */
export const codeState = (answer: Answer): string | undefined => {
  const state = codeOf(answer)?.state;
  return state === undefined ? undefined : (states[String(state)] ?? String(state));
};

/** What a function of AWS Lambda has beside others. */
export const lambdaFields = {
  "Assumed role": ofLambda("assumeRoleArn"),
  "External id": ofLambda("externalId"),
  Protocol: ofLambda("protocol"),
  "Signed code": ({ lambda }: Answer) => {
    const signed = (lambda as Answer | undefined)?.signedCode as Answer | undefined;
    return signed && `s3://${signed.bucket}/${signed.key}`;
  },
  "Auto-update": ofLambda("autoUpdate"),
  Code: codeState,
  Why: (answer: Answer) => codeOf(answer)?.message,
};
