import { dirname } from "node:path";
import type { Authorize } from "./auth/authorize.ts";
import { RotatorError, ServiceError } from "./core/error.ts";
import type { FunctionRecord } from "./core/function.ts";
import { functionRouteText } from "./core/login-outcome.ts";
import type { Secret } from "./core/secret.ts";
import type { Inspection } from "./engine/invoke.ts";
import type { Functions } from "./functions/functions.ts";
import { keyUse } from "./operations/secrets/key-use.ts";
import { SecretResource } from "./operations/secrets/secret-resource.ts";
import type { Services } from "./operations/services.ts";
import { loadPrincipal } from "./store/identity.ts";
import { findSecret } from "./store/secrets.ts";
import type { Finding } from "./targets/target.ts";

export interface InspectionParts extends Pick<Services, "sql" | "keys" | "account"> {
  readonly functions: Pick<Functions, "check" | "reach" | "missingCertificates">;
  readonly authorize: Authorize;
  /** @throws RotatorError `denied` when the function's role is not there, or lets no functions in. */
  requireRole(record: FunctionRecord): Promise<unknown>;
}

/** Functions that log in to a database are seldom done sooner. */
const shortSeconds = 10;

/** What would keep a registered function from being called for a secret, and from doing its work. It is not called. */
export async function inspectFunction(
  parts: InspectionParts,
  record: FunctionRecord,
  secret: Secret,
  superuserArn: string | undefined,
): Promise<Inspection> {
  const findings: Finding[] = [];
  const passed: string[] = [];
  const { name, kind, timeoutSeconds } = record;
  const look = async (part: () => Promise<unknown>, remedy: string, said: string): Promise<boolean> => {
    try {
      await part();
      passed.push(said);
      return true;
    } catch (error) {
      if (!(error instanceof RotatorError)) throw error;
      const own = "remedy" in error && typeof error.remedy === "string" ? error.remedy : remedy;
      findings.push({ step: "createSecret", problem: error.message, remedy: own });
      return false;
    }
  };
  const startable = `See rekey function show ${name}, and correct it with rekey function update ${name}.`;
  const isHere = await look(() => parts.functions.check(record), startable, `function ${name} can be called from this server`);
  if (kind === "lambda" && isHere)
    await look(() => parts.functions.reach(record), startable, `AWS Lambda lets this server invoke ${record.lambda.targetArn}`);
  if (kind === "process" && isHere) findings.push(...(await missingTrust(parts, record)));
  if (kind === "process") {
    const trust = `rekey function policy ${name} --part trust prints the trust policy that its role needs.`;
    const hasRole = await look(() => parts.requireRole(record), trust, `its role ${record.roleArn} is there and lets it in`);
    if (hasRole) findings.push(...(await missingRights(parts, record, secret, superuserArn)));
  }
  if (timeoutSeconds < shortSeconds)
    findings.push({
      step: "setSecret",
      problem: `function ${name} is ended after ${timeoutSeconds} s, which a slow login alone may take`,
      remedy: functionRouteText,
      warning: true,
    });
  else passed.push(`its timeout of ${timeoutSeconds} s leaves room for logins`);
  return { findings, passed };
}

/** What it trusts lies elsewhere on some systems; a function may then fail, or log in without TLS. */
async function missingTrust({ functions }: InspectionParts, record: FunctionRecord): Promise<Finding[]> {
  const missing = await functions.missingCertificates(record);
  return missing.map((path) => ({
    step: "setSecret",
    problem: `function ${record.name} names ${path}, which is not on this server: it may fail, or do without TLS`,
    remedy: `Link it to what this system trusts, e.g. mkdir -p ${dirname(path)} && ln -s /etc/ssl/certs/ca-certificates.crt ${path}`,
    warning: true,
  }));
}

/** Which of AWS's rotation calls its role may not make, as policies stand now. */
async function missingRights(
  { sql, keys, account, authorize }: InspectionParts,
  { arn, name, roleArn = "", region }: FunctionRecord,
  rotated: Secret,
  superuserArn: string | undefined,
): Promise<Finding[]> {
  const role = await loadPrincipal(sql, account, roleArn);
  if (!role) return [];
  const facts = { sourceIp: "127.0.0.1", userAgent: "", secure: false, region, now: Date.now() };
  const findings: Finding[] = [];
  const ask = (step: Finding["step"], action: string, resource: Parameters<Authorize>[2], more: Partial<Finding> = {}): void => {
    const refusal = authorize(role, action, resource, facts);
    const policy = `rekey function policy ${name} --part role${superuserArn === undefined ? "" : " --multi-user SUPERUSER"}`;
    const remedy = `Give its role the right: ${policy} prints the policy that it needs.`;
    if (refusal) findings.push({ step, problem: refusal.message, remedy, ...more });
  };
  const of = (secret: Secret) => new SecretResource(secret.arn, secret, { region, account }, {});
  // As the secret will be once its rotation is configured.
  const secret = { ...rotated, rotationFunctionArn: arn };
  ask("createSecret", "secretsmanager:DescribeSecret", of(secret));
  ask("createSecret", "secretsmanager:GetSecretValue", of(secret));
  ask("createSecret", "secretsmanager:PutSecretValue", of(secret));
  ask("createSecret", "secretsmanager:GetRandomPassword", { arn: "*", context: {} }, { warning: true });
  const key = await usableKey(secret);
  if (key) for (const action of ["kms:Decrypt", "kms:GenerateDataKey"]) ask("createSecret", action, keyUse(key, secret.arn));
  if (superuserArn !== undefined) await askSuperuser(superuserArn);
  ask("finishSecret", "secretsmanager:UpdateSecretVersionStage", of(secret));
  return findings;

  async function askSuperuser(masterArn: string): Promise<void> {
    const master = masterArn.startsWith("arn:") ? await findSecret(sql, region, masterArn) : undefined;
    ask("setSecret", "secretsmanager:GetSecretValue", master ? of(master) : { arn: masterArn, context: {} });
    const masterKey = master && (await usableKey(master));
    if (master && masterKey) ask("setSecret", "kms:Decrypt", keyUse(masterKey, master.arn));
  }

  /** One that grants of its own are needed for; a key that cannot be used is told elsewhere. */
  async function usableKey({ kmsKeyId }: Secret) {
    try {
      const found = await keys.resolve(kmsKeyId, region);
      return found.isDefault ? undefined : found;
    } catch (error) {
      if (error instanceof ServiceError) return undefined;
      throw error;
    }
  }
}
