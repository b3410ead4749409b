// A running Rekey with a folder of function files, and what tests of functions do again and again.
import { randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { type Credentials, clientSettings, homeRegion, nativeOk, newName } from "./aws.ts";
import { type RekeyServer, type StartOptions, startRekey } from "./rekey-server.ts";
import type { SeenRotation } from "./rotation-e2e.ts";

export interface SeenCall {
  readonly requestId: string;
  readonly functionError?: string;
  readonly payload: string;
  readonly outcome?: string;
  readonly reason?: string;
  readonly remedy?: string;
}

export interface FunctionOptions {
  readonly name?: string;
  readonly runtime?: "node" | "python" | "executable";
  readonly file: string;
  readonly handler?: string;
  readonly superuserSecretArn?: string;
  /** Without the policies of `functions/policy`. */
  readonly bare?: boolean;
  readonly [setting: string]: unknown;
}

export const python = "/usr/bin/python3";

/** `users`: of the operating system, that the functions run as. */
export async function functionWorld({ users = "same", ...options }: StartOptions & { users?: string } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "rekey-functions-"));
  chmodSync(folder, 0o755);
  const own = ["--functions-dir", folder, "--functions-users", users, "--functions-python", python];
  const flags = [...own, "--extended-schedules", ...(options.flags ?? [])];
  const server = await startRekey({ ...options, flags, env: { REKEY_SETTLE_MS: "0", ...options.env } });
  return {
    ...functionTools(server, folder),
    server,
    folder,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function functionTools(server: RekeyServer, folder: string) {
  const root = new SecretsManager(clientSettings(server));
  const arnOf = (name: string) => `arn:aws:lambda:${homeRegion}:${server.credentials.account}:function:${name}`;
  const roleOf = (name: string) => `arn:aws:iam::${server.credentials.account}:role/${name}`;
  const ask = (path: string, members: object) => nativeOk(server, path, members);
  const world = {
    root,
    arnOf,
    roleOf,
    ask,
    secretsAs: (credentials: Credentials) => new SecretsManager(clientSettings(server, credentials)),

    write(file: string, text: string, mode = 0o644): string {
      const path = join(folder, file);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text, { mode });
      return path;
    },

    /** A process function with a role of its own that has the least policies. Gives its name. */
    async create({
      name = newName("function"),
      runtime = "node",
      file,
      handler,
      superuserSecretArn,
      bare,
      ...more
    }: FunctionOptions) {
      const role = `${name}-role`;
      const trust = { Effect: "Allow", Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" };
      const assumeRolePolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: [trust] });
      await ask("roles/create", { roleName: role, assumeRolePolicyDocument });
      const process = { runtime, file, ...(handler && { handler }) };
      await ask("functions/create", { functionName: name, process, role: roleOf(role), ...more });
      if (bare !== true) await world.applyPolicies(name, superuserSecretArn);
      return { name, arn: arnOf(name), role };
    },

    /** What `rekey function policy` prints, put in force. */
    async applyPolicies(name: string, superuserSecretArn?: string): Promise<void> {
      const least = await ask("functions/policy", { functionName: name, ...(superuserSecretArn && { superuserSecretArn }) });
      await ask("roles/set-trust", { roleName: `${name}-role`, policyDocument: least.leastTrustPolicy as string });
      const { arn } = await ask("policies/create", {
        policyName: `${name}-policy`,
        policyDocument: least.leastRolePolicy as string,
      });
      await ask("policies/attach", { policyArn: arn as string, roleName: `${name}-role` });
      await ask("functions/put-policy", { functionName: name, policy: least.leastFunctionPolicy as string });
    },

    async newSecret(value: object | string, name = newName("db")): Promise<{ SecretId: string; ARN: string; VersionId: string }> {
      const SecretString = typeof value === "string" ? value : JSON.stringify(value);
      const { ARN = "", VersionId = "" } = await root.createSecret({ Name: name, SecretString });
      return { SecretId: name, ARN, VersionId };
    },

    async value(SecretId: string, label = "AWSCURRENT"): Promise<Record<string, string>> {
      return JSON.parse((await root.getSecretValue({ SecretId, VersionStage: label })).SecretString ?? "");
    },

    async rotations(secretId: string): Promise<SeenRotation[]> {
      return (await ask("rotations/list", { secretId })).rotations as SeenRotation[];
    },

    /** The newest rotation once it is what is waited for; ended, unless told otherwise. */
    async rotationOf(secretId: string, is = ({ state }: SeenRotation) => state !== "running"): Promise<SeenRotation> {
      for (let asked = 0; ; asked++) {
        const [newest] = await world.rotations(secretId);
        if (newest && is(newest)) return newest;
        if (asked > 5_000) throw new Error(`waited in vain: ${JSON.stringify(newest)}\n${server.log().slice(-4_000)}`);
        await sleep(30);
      }
    },

    /** RotateSecret with a function; its token. */
    async rotate(SecretId: string, RotationLambdaARN: string, more: object = {}): Promise<string> {
      const token = randomUUID();
      await root.rotateSecret({ SecretId, RotationLambdaARN, ClientRequestToken: token, ...more });
      return token;
    },

    async invoke(functionName: string, event: unknown): Promise<SeenCall> {
      return (await ask("functions/invoke", { functionName, payload: JSON.stringify(event) })) as unknown as SeenCall;
    },

    /** All that the function wrote, oldest first. */
    async logs(functionName: string): Promise<string> {
      const { logs } = await ask("functions/logs", { functionName, limit: 50 });
      return (logs as { output: string }[])
        .map(({ output }) => output)
        .reverse()
        .join("\n");
    },
  };
  return world;
}

/** A handler in Node that does all four steps with the AWS SDK for a secret whose value no target knows. */
export const nodeRotation = `
import { SecretsManager } from ${JSON.stringify(import.meta.resolve("@aws-sdk/client-secrets-manager"))};
export async function handler({ Step, SecretId, ClientRequestToken, RotationToken }) {
  const secrets = new SecretsManager({ endpoint: process.env.SECRETS_MANAGER_ENDPOINT });
  const { VersionIdsToStages: versions = {} } = await secrets.describeSecret({ SecretId });
  if (!versions[ClientRequestToken]) throw new Error("no such version");
  console.log("step", Step);
  if (Step === "createSecret") {
    const { SecretString } = await secrets.getSecretValue({ SecretId, VersionStage: "AWSCURRENT" });
    try {
      await secrets.getSecretValue({ SecretId, VersionId: ClientRequestToken, VersionStage: "AWSPENDING" });
      return;
    } catch (error) {
      if (error.name !== "ResourceNotFoundException") throw error;
    }
    const { RandomPassword } = await secrets.getRandomPassword({ PasswordLength: 24 });
    const next = { ...JSON.parse(SecretString), password: RandomPassword };
    console.log("made", JSON.stringify(next), RandomPassword, RotationToken);
    await secrets.putSecretValue({
      SecretId, ClientRequestToken, RotationToken, SecretString: JSON.stringify(next), VersionStages: ["AWSPENDING"],
    });
  }
  if (Step === "finishSecret") {
    const current = Object.keys(versions).find((id) => versions[id].includes("AWSCURRENT"));
    if (current === ClientRequestToken) return;
    await secrets.updateSecretVersionStage({
      SecretId, VersionStage: "AWSCURRENT", MoveToVersionId: ClientRequestToken, RemoveFromVersionId: current,
    });
  }
}
`;
