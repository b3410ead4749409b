// A function of Rekey's in an AWS account on loopback: calls are lost, late or come twice, their answers are lost or late, it is
// throttled, and ended by its own timeout at any place of its work.
import { newFarKeys, publicFarKeys } from "../../../src/crypto/message-keys.ts";
import { nativeOk } from "../../support/aws.ts";
import { startAwsAccount } from "../../support/aws-account.ts";
import { lambdaZip } from "../../support/lambda-zips.ts";
import type { RekeyServer } from "../../support/rekey-server.ts";
import { network } from "./far-points.ts";
import type { FarSides } from "./far-sides.ts";

const roleArn = "arn:aws:iam::111122223333:role/rekey-invoke";
const externalId = "7f2c";
const usualSeconds = 30;
/** As long as a verb takes, with a new execution environment. */
const mostCutSeconds = 1.5;
/** Longer than a call at a target may take. */
const longestDelayMs = 9_000;

export async function startLambda(kind: string, random: () => number): Promise<FarSides> {
  const aws = await startAwsAccount();
  aws.roles.set(roleArn, { externalId, allow: new Set(["lambda:InvokeFunction"]) });
  const [keys, { zip }] = await Promise.all([newFarKeys(), lambdaZip(kind)]);
  const logs: (() => string)[] = [];
  let rate = 0;
  let faults = 0;
  const happens = (part: number): boolean => {
    if (random() >= rate * part) return false;
    faults += 1;
    return true;
  };
  return {
    get faults() {
      return faults;
    },
    isWhole: true,
    serverFlags: ["--functions-lambda"],
    serverEnv: aws.env,
    async introduce(server: RekeyServer) {
      const keySet = await (await fetch(`${server.endpoint}/.well-known/jwks.json`)).text();
      const environment = { REKEY_KEY_SET: keySet, REKEY_FAR_KEYS: JSON.stringify(keys) };
      const hosted = aws.createFunction({ name: `rekey-${kind}`, zip, environment });
      Object.defineProperties(hosted, {
        losesRequests: { get: () => happens(0.15) },
        losesAnswers: { get: () => happens(0.25) },
        requestDelayMs: { get: () => (happens(0.05) ? longestDelayMs * random() : 0) },
        answerDelayMs: { get: () => (happens(0.1) ? longestDelayMs * random() : 0) },
        doublesRequests: { get: () => happens(0.15) },
        throttled: { get: () => happens(0.1) },
        timeoutSeconds: { get: () => (happens(0.2) ? mostCutSeconds * random() : usualSeconds) },
      });
      logs.push(() => hosted.written);
      const far = { protocol: "rekey", farKey: JSON.stringify(publicFarKeys(keys)) };
      const lambda = { functionArn: hosted.arn, assumeRoleArn: roleArn, externalId, ...far };
      await nativeOk(server, "functions/create", { functionName: hosted.name, lambda });
      const { functionArn } = await nativeOk(server, "functions/get", { functionName: hosted.name });
      await nativeOk(server, "networks/create", { name: network, functions: { [kind]: functionArn } });
    },
    faultRate(next) {
      rate = next;
    },
    async revive() {
      // Execution environments are started by calls.
    },
    output: () => logs.map((log) => log()).join(""),
    [Symbol.asyncDispose]: () => aws[Symbol.asyncDispose](),
  };
}
