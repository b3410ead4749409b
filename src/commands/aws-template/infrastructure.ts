import {
  accountId,
  attribute,
  type Expression,
  type Parameter,
  parameter,
  partition,
  region,
  type Template,
  type TemplateResource,
  text,
  type Value,
} from "./model.ts";

/** A network of the function's own, by AWS's ids. */
export interface VpcPlace {
  readonly vpcId: string;
  readonly subnetIds: readonly string[];
  readonly securityGroupIds: readonly string[];
  /** Through which an S3 gateway endpoint is reached; none: none is made. */
  readonly routeTableIds: readonly string[];
}

export interface TemplateWishes {
  /** Kind of the rotator, e.g. `postgres`. */
  readonly target: string;
  /** Name of the function. */
  readonly name: string;
  readonly vpc?: VpcPlace | undefined;
  /** Rekey may put newer code in place. */
  readonly autoUpdate: boolean;
  readonly externalId: string;
  /** Who assumes the invoke role: Rekey's own identity at AWS. Absent: asked for where it is applied. */
  readonly principal?: string | undefined;
  /** ARN of a version of a signing profile that is there already; absent: one is made. */
  readonly signingProfile?: string | undefined;
  /** Rekey's public keys: as text, or the bucket that holds them. Neither: text, asked for where it is applied. */
  readonly keySet?: string | undefined;
  readonly keySetBucket?: string | undefined;
  /** ARN of a KMS key that encrypts the function's variables, for all but the function itself. */
  readonly kmsKey?: string | undefined;
}

/** The object in which a function looks for Rekey's public keys. */
const keySetObject = "rekey/jwks.json";
const logDays = 90;
/** AWS's own 3 s end the slower changes of a busy database in the middle. */
const timeoutSeconds = 60;
const memoryMiB = 256;

const allow = (action: readonly string[], resource: Value): Value => ({ Effect: "Allow", Action: action, Resource: resource });
const policy = (statements: readonly Value[]): Value => ({ Version: "2012-10-17", Statement: statements });

const networkActions = [
  "ec2:AssignPrivateIpAddresses",
  "ec2:CreateNetworkInterface",
  "ec2:DeleteNetworkInterface",
  "ec2:DescribeNetworkInterfaces",
  "ec2:DescribeSubnets",
  "ec2:UnassignPrivateIpAddresses",
];

/**
 * Everything at AWS that one function needs to run a rotator near its targets, with the least rights for each part.
 * Source: AWS Lambda developer guide, "Giving Lambda functions access to resources in a VPC", "Using code signing";
 * AWS managed policy reference, AWSLambdaVPCAccessExecutionRole; IAM user guide, "external id".
 */
export function functionTemplate(wishes: TemplateWishes): Template {
  const { name, target, vpc, autoUpdate, keySetBucket } = wishes;
  // By its name and not by the resource, so that roles can be made before it.
  const functionArn = text`arn:${partition}:lambda:${region}:${accountId}:function:${name}`;
  return {
    about: `Rekey: runs its ${target} rotator as function ${name}, near its targets.`,
    steps: stepsOf(wishes),
    parameters: parametersOf(wishes),
    resources: {
      Logs: {
        type: "AWS::Logs::LogGroup",
        properties: { LogGroupName: `/aws/lambda/${name}`, RetentionInDays: logDays },
      },
      ExecutorRole: role(`What function ${name} may do`, { Service: "lambda.amazonaws.com" }),
      ExecutorRights: rights("ExecutorRole", "rekey-executor", executorStatements(wishes, functionArn)),
      ...(wishes.signingProfile === undefined && { SigningProfile: signingProfile }),
      CodeSigning: codeSigning(wishes),
      Function: lambdaFunction(wishes),
      InvokeRole: invokeRole(name),
      InvokeRights: rights("InvokeRole", "rekey-invoke", [
        allow(["lambda:GetFunctionConfiguration", "lambda:InvokeFunction"], functionArn),
        ...(autoUpdate
          ? [
              allow(["lambda:GetFunction", "lambda:UpdateFunctionCode"], functionArn),
              allow(["s3:GetObject", "s3:GetObjectVersion"], text`arn:${partition}:s3:::${parameter("CodeBucket")}/*`),
            ]
          : []),
      ]),
      ...(vpc && keySetBucket !== undefined && vpc.routeTableIds.length > 0 && { KeySetEndpoint: s3Endpoint(vpc) }),
    },
    outputs: {
      FunctionArn: { about: "For rekey function create --lambda", value: functionArn },
      InvokeRoleArn: { about: "For rekey function create --assume-role", value: attribute("InvokeRole", "Arn") },
      ExternalId: { about: "For rekey function create --external-id", value: parameter("ExternalId") },
      SigningProfileVersionArn: { about: "Whose signature the function's code must have", value: signedBy(wishes) },
    },
  };
}

const signedBy = ({ signingProfile: given }: TemplateWishes): Value =>
  given === undefined ? attribute("SigningProfile", "ProfileVersionArn") : parameter("SigningProfileVersionArn");

/** Signatures made by it count for as long as AWS lets them. Source: AWS Signer API reference, SignatureValidityPeriod. */
const signingProfile: TemplateResource = {
  type: "AWS::Signer::SigningProfile",
  properties: { PlatformId: "AWSLambda-SHA384-ECDSA", SignatureValidityPeriod: { Type: "MONTHS", Value: 135 } },
};

function codeSigning(wishes: TemplateWishes): TemplateResource {
  return {
    type: "AWS::Lambda::CodeSigningConfig",
    properties: {
      Description: `Code of function ${wishes.name} is refused without the profile's signature`,
      AllowedPublishers: { SigningProfileVersionArns: [signedBy(wishes)] },
      CodeSigningPolicies: { UntrustedArtifactOnDeployment: "Enforce" },
    },
  };
}

function lambdaFunction({ name, target, vpc, keySetBucket, kmsKey, signingProfile: given }: TemplateWishes): TemplateResource {
  const keys: { [name: string]: Value } =
    keySetBucket === undefined ? { REKEY_KEY_SET: parameter("KeySet") } : { REKEY_KEY_SET_S3_BUCKET: parameter("KeySetBucket") };
  return {
    type: "AWS::Lambda::Function",
    properties: {
      FunctionName: name,
      Description: `Rekey's ${target} rotator`,
      Runtime: "nodejs22.x",
      Handler: "app.handler",
      Code: { S3Bucket: parameter("CodeBucket"), S3Key: parameter("CodeKey") },
      CodeSigningConfigArn: attribute("CodeSigning", "CodeSigningConfigArn"),
      Role: attribute("ExecutorRole", "Arn"),
      Timeout: timeoutSeconds,
      MemorySize: memoryMiB,
      Environment: { Variables: { ...keys, REKEY_FAR_KEYS: parameter("FarKeys") } },
      ...(kmsKey !== undefined && { KmsKeyArn: parameter("KmsKey") }),
      LoggingConfig: { LogFormat: "Text", LogGroup: attribute("Logs", "Ref") },
      ...(vpc && { VpcConfig: { SubnetIds: vpc.subnetIds, SecurityGroupIds: vpc.securityGroupIds } }),
    },
    dependsOn: ["ExecutorRights"],
    // The profile has to be there before anything can be signed by it.
    ...(given === undefined && { when: "CodeKey" }),
  };
}

function invokeRole(name: string): TemplateResource {
  const condition = { StringEquals: { "sts:ExternalId": parameter("ExternalId") } };
  return role(`Rekey takes it on to call function ${name}`, { AWS: parameter("Principal") }, condition);
}

function role(description: string, principal: Value, condition?: Value): TemplateResource {
  const trust = { Effect: "Allow", Principal: principal, Action: "sts:AssumeRole", ...(condition && { Condition: condition }) };
  return {
    type: "AWS::IAM::Role",
    properties: { Description: description, AssumeRolePolicyDocument: policy([trust]), MaxSessionDuration: 3_600 },
  };
}

function rights(of: string, name: string, statements: readonly Value[]): TemplateResource {
  const properties = { RoleName: attribute(of, "Ref"), PolicyName: name, PolicyDocument: policy(statements) };
  return { type: "AWS::IAM::RolePolicy", properties };
}

function executorStatements({ name, vpc, keySetBucket, kmsKey }: TemplateWishes, functionArn: Expression): Value[] {
  const logs = text`arn:${partition}:logs:${region}:${accountId}:log-group:/aws/lambda/${name}:*`;
  return [
    allow(["logs:CreateLogStream", "logs:PutLogEvents"], logs),
    ...(kmsKey === undefined ? [] : [allow(["kms:Decrypt"], parameter("KmsKey"))]),
    ...(keySetBucket === undefined
      ? []
      : [allow(["s3:GetObject"], text`arn:${partition}:s3:::${parameter("KeySetBucket")}/${keySetObject}`)]),
    ...(vpc
      ? [
          allow(networkActions, "*"),
          // AWS Lambda itself makes the network interfaces; the code that runs in the function has no use for the right.
          {
            Effect: "Deny",
            Action: networkActions,
            Resource: "*",
            Condition: { ArnEquals: { "lambda:SourceFunctionArn": functionArn } },
          },
        ]
      : []),
  ];
}

/** Without a policy of its own: what else in the network reaches S3 by these route tables must go on doing so. */
function s3Endpoint({ vpcId, routeTableIds }: VpcPlace): TemplateResource {
  return {
    type: "AWS::EC2::VPCEndpoint",
    properties: {
      VpcId: vpcId,
      VpcEndpointType: "Gateway",
      ServiceName: text`com.amazonaws.${region}.s3`,
      RouteTableIds: routeTableIds,
    },
  };
}

function parametersOf(wishes: TemplateWishes): Record<string, Parameter> {
  const { signingProfile: profile, keySet, keySetBucket, principal, externalId, target, kmsKey } = wishes;
  const isTwoSteps = profile === undefined;
  return {
    CodeBucket: { about: `S3 bucket, in this region, that holds the signed rekey-${target}.zip` },
    CodeKey: {
      about: `Key of the signed rekey-${target}.zip in that bucket${isTwoSteps ? "; empty: the function is not made yet" : ""}`,
      ...(isTwoSteps && { default: "", optional: true }),
    },
    ...(profile !== undefined && {
      SigningProfileVersionArn: { about: "Version of the signing profile that signs the code", default: profile },
    }),
    ...(keySetBucket === undefined
      ? {
          KeySet: {
            about: "Rekey's public keys as a JSON Web Key Set: rekey signing-key export",
            ...(keySet !== undefined && { default: keySet }),
          },
        }
      : { KeySetBucket: { about: `S3 bucket with Rekey's public keys as object ${keySetObject}`, default: keySetBucket } }),
    FarKeys: { about: "The function's own keys: the file that rekey aws keys wrote", secret: true },
    ...(kmsKey !== undefined && {
      KmsKey: { about: "KMS key that encrypts the function's variables", default: kmsKey },
    }),
    Principal: {
      about: "ARN of the user or role at AWS as which Rekey's server runs",
      ...(principal !== undefined && { default: principal }),
    },
    ExternalId: { about: "What Rekey must say to take on the invoke role", default: externalId },
  };
}

function stepsOf({ name, target, signingProfile: profile, keySetBucket }: TemplateWishes): string[] {
  const zip = `rekey-${target}.zip`;
  return [
    `Make the function's own keys: rekey aws keys ${name}.keys.json`,
    ...(profile === undefined
      ? ["Apply this once without CodeKey: it makes the signing profile, and all but the function."]
      : []),
    `Put ${zip} into a versioned S3 bucket of this region and sign it with the profile: aws signer start-signing-job`,
    ...(keySetBucket === undefined
      ? []
      : [`Put Rekey's public keys into bucket ${keySetBucket} as ${keySetObject}: rekey signing-key export`]),
    `Apply it with CodeBucket and CodeKey of the signed ${zip}.`,
    `Register it: rekey function create ${name} --lambda FunctionArn --assume-role InvokeRoleArn --external-id ExternalId --protocol rekey --far-key ${name}.keys.json.pub`,
    `Timeout is ${timeoutSeconds} s: AWS's usual 3 s end the slower changes of a busy database in the middle.`,
  ];
}
