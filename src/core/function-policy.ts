import type { FunctionRecord } from "./function.ts";

/** What the documents are for. */
export interface PolicyNeeds {
  /** ARN of the superuser's secret that the function reads as well: alternating users. */
  readonly superuserSecretArn?: string | undefined;
  /** ARNs of customer keys that its secrets, or the superuser's, are encrypted under. */
  readonly keyArns?: readonly string[] | undefined;
  /** Narrows who may have it invoked to one secret. */
  readonly secretArn?: string | undefined;
}

/** The least that a rotation function needs, as JSON documents. */
export interface FunctionPolicies {
  /** For its role: what the function may do. */
  readonly role: string;
  /** For its role: who may assume it. */
  readonly trust: string;
  /** For the function: who may invoke it. */
  readonly resource: string;
}

const rotationActions = ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"];

/**
 * The least rights that let a function rotate the secrets that name it, and nobody but the rotation service invoke it.
 * Source: AWS Secrets Manager user guide, "Lambda rotation function execution role permissions".
 */
export function functionPolicies(
  { arn, region }: Pick<FunctionRecord, "arn" | "region">,
  needs: PolicyNeeds = {},
): FunctionPolicies {
  const account = arn.split(":")[4] ?? "";
  const { superuserSecretArn, keyArns = [], secretArn } = needs;
  const secrets = `arn:aws:secretsmanager:${region}:${account}:secret:*`;
  const ofFunction = { StringEquals: { "secretsmanager:resource/AllowRotationLambdaArn": arn } };
  const contexts = [secrets, ...(superuserSecretArn === undefined ? [] : [superuserSecretArn])];
  return {
    role: document([
      allow(
        "RotateOwnSecrets",
        rotationActions.map((name) => `secretsmanager:${name}`),
        secrets,
        ofFunction,
      ),
      allow("MakePasswords", ["secretsmanager:GetRandomPassword"], "*"),
      ...(superuserSecretArn === undefined
        ? []
        : [allow("ReadSuperuser", ["secretsmanager:GetSecretValue"], superuserSecretArn)]),
      ...(keyArns.length === 0
        ? []
        : [
            allow("UseKeys", ["kms:Decrypt", "kms:GenerateDataKey"], keyArns, {
              StringLike: { "kms:EncryptionContext:SecretARN": contexts },
            }),
          ]),
    ]),
    trust: document([
      {
        Sid: "FunctionsAssume",
        Effect: "Allow",
        Principal: { Service: "lambda.amazonaws.com" },
        Action: "sts:AssumeRole",
        Condition: { ArnEquals: { "aws:SourceArn": arn }, StringEquals: { "aws:SourceAccount": account } },
      },
    ]),
    resource: document([
      {
        Sid: "RotationInvokes",
        Effect: "Allow",
        Principal: { Service: "secretsmanager.amazonaws.com" },
        Action: "lambda:InvokeFunction",
        Resource: arn,
        Condition: {
          StringEquals: { "aws:SourceAccount": account },
          ...(secretArn === undefined ? {} : { ArnEquals: { "aws:SourceArn": secretArn } }),
        },
      },
    ]),
  };
}

function allow(Sid: string, Action: readonly string[], Resource: string | readonly string[], Condition?: object): object {
  return { Sid, Effect: "Allow", Action, Resource, ...(Condition && { Condition }) };
}

function document(Statement: readonly object[]): string {
  return JSON.stringify({ Version: "2012-10-17", Statement }, undefined, 2);
}
