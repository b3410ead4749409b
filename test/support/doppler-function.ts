// A stand-in for Doppler's published agents as a function of the AWS account on loopback.
import { join } from "node:path";
import { strToU8, zipSync } from "fflate";
import type { AwsAccount } from "./aws-account.ts";
import type { HostedFunction } from "./hosted-function.ts";

const fake = join(import.meta.dirname, "doppler-agent-fake.ts");

/** `users`: a JSON file of SQL Server's contained users and their passwords. */
export function hostDopplerAgent(
  aws: AwsAccount,
  name: string,
  { kind, keySet, users = "" }: { readonly kind: string; readonly keySet: string; readonly users?: string },
): HostedFunction {
  const code = `const fs = require("node:fs");
    const file = ${JSON.stringify(users)};
    const read = () => JSON.parse(fs.readFileSync(file, "utf8"));
    const users = { get: (name) => read()[name], set: (name, to) => fs.writeFileSync(file, JSON.stringify({ ...read(), [name]: to })) };
    const agent = import(${JSON.stringify(fake)}).then(({ dopplerAgent }) =>
      dopplerAgent(${JSON.stringify(kind)}, JSON.parse(process.env.OVERRIDE_KEY_SET || '{"keys":[]}'), users));
    exports.handler = async (event) => (await agent).handle(event);`;
  const zip = zipSync({ "app.js": strToU8(code) });
  return aws.createFunction({ name, zip, environment: { OVERRIDE_KEY_SET: keySet }, timeoutSeconds: 20 });
}
