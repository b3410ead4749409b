// The infrastructure that `rekey aws template` prints, for every target and wish: CloudFormation against AWS's own
// specification, Terraform against CloudFormation. `terraform validate` is not run: the program and its provider's schema
// are nothing that this project installs.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parse } from "@cdktf/hcl2json";
import fc from "fast-check";
import { cloudFormation } from "../../src/commands/aws-template/cloudformation.ts";
import { functionTemplate, type TemplateWishes } from "../../src/commands/aws-template/infrastructure.ts";
import { terraform } from "../../src/commands/aws-template/terraform.ts";
import { lambdaTargets } from "../../src/core/lambda-targets.ts";
import { type CloudFormationTemplate, templateProblems } from "../support/cloudformation-spec.ts";

const id = (prefix: string) => fc.stringMatching(/^[0-9a-f]{8}$/).map((end) => `${prefix}-${end}`);
const ids = (prefix: string) => fc.uniqueArray(id(prefix), { minLength: 1, maxLength: 3 });
const wishes: fc.Arbitrary<TemplateWishes> = fc.record(
  {
    target: fc.constantFrom(...lambdaTargets),
    name: fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/),
    autoUpdate: fc.boolean(),
    externalId: fc.stringMatching(/^[\w+=,.@:/-]{2,40}$/),
    vpc: fc.record({
      vpcId: id("vpc"),
      subnetIds: ids("subnet"),
      securityGroupIds: ids("sg"),
      routeTableIds: fc.oneof(fc.constant([]), ids("rtb")),
    }),
    principal: fc.constantFrom("arn:aws:iam::111122223333:role/rekey", "arn:aws-cn:iam::111122223333:user/rekey"),
    signingProfile: fc.constant("arn:aws:signer:eu-central-1:111122223333:/signing-profiles/rekey/AbCdEf0123"),
    // Text that would begin an expression in one of the languages.
    keySet: fc.constantFrom('{"keys":[]}', `{"keys":[{"kid":"\${x}%{y}\\\\"}]}`, '{"keys":["\\u2028\\b"]}'),
    kmsKey: fc.constant("arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-1111-2222-333344445555"),
    keySetBucket: fc.constantFrom("keys-of-rekey", "a.b-c"),
  },
  { requiredKeys: ["target", "name", "autoUpdate", "externalId"] },
);

/** As someone who reads the JSON gets it. */
const cloudFormationOf = (given: TemplateWishes): CloudFormationTemplate =>
  JSON.parse(JSON.stringify(cloudFormation(functionTemplate(given)))) as CloudFormationTemplate;

interface Statement {
  readonly Effect: string;
  readonly Action: readonly string[];
  readonly Resource: unknown;
}

function statementsOf(template: CloudFormationTemplate, name: string): Statement[] {
  const { PolicyDocument } = template.Resources[name]?.Properties ?? assert.fail(name);
  return (PolicyDocument as { Statement: Statement[] }).Statement;
}

const actionsOf = (template: CloudFormationTemplate, name: string): string[] =>
  statementsOf(template, name).flatMap(({ Effect, Action }) => (Effect === "Allow" ? Action : []));

const plain: TemplateWishes = { target: "postgres", name: "rekey-postgres", autoUpdate: false, externalId: "7f2c" };

/** CloudFormation's names in Terraform's AWS provider, written down a second time. */
const arguments_: Readonly<Record<string, readonly [string, Readonly<Record<string, string>>]>> = {
  "AWS::EC2::VPCEndpoint": [
    "aws_vpc_endpoint",
    { VpcId: "vpc_id", VpcEndpointType: "vpc_endpoint_type", ServiceName: "service_name", RouteTableIds: "route_table_ids" },
  ],
  "AWS::IAM::Role": [
    "aws_iam_role",
    {
      Description: "description",
      AssumeRolePolicyDocument: "assume_role_policy",
      MaxSessionDuration: "max_session_duration",
    },
  ],
  "AWS::IAM::RolePolicy": ["aws_iam_role_policy", { RoleName: "role", PolicyName: "name", PolicyDocument: "policy" }],
  "AWS::Lambda::CodeSigningConfig": [
    "aws_lambda_code_signing_config",
    {
      Description: "description",
      "AllowedPublishers.SigningProfileVersionArns": "allowed_publishers.signing_profile_version_arns",
      "CodeSigningPolicies.UntrustedArtifactOnDeployment": "policies.untrusted_artifact_on_deployment",
    },
  ],
  "AWS::Lambda::Function": [
    "aws_lambda_function",
    {
      FunctionName: "function_name",
      Description: "description",
      Runtime: "runtime",
      Handler: "handler",
      "Code.S3Bucket": "s3_bucket",
      "Code.S3Key": "s3_key",
      CodeSigningConfigArn: "code_signing_config_arn",
      KmsKeyArn: "kms_key_arn",
      Role: "role",
      Timeout: "timeout",
      MemorySize: "memory_size",
      "Environment.Variables": "environment.variables",
      "LoggingConfig.LogFormat": "logging_config.log_format",
      "LoggingConfig.LogGroup": "logging_config.log_group",
      "VpcConfig.SubnetIds": "vpc_config.subnet_ids",
      "VpcConfig.SecurityGroupIds": "vpc_config.security_group_ids",
    },
  ],
  "AWS::Logs::LogGroup": ["aws_cloudwatch_log_group", { LogGroupName: "name", RetentionInDays: "retention_in_days" }],
  "AWS::Signer::SigningProfile": [
    "aws_signer_signing_profile",
    {
      PlatformId: "platform_id",
      "SignatureValidityPeriod.Type": "signature_validity_period.type",
      "SignatureValidityPeriod.Value": "signature_validity_period.value",
    },
  ],
};
const attributes: Readonly<Record<string, string>> = {
  Logs: "aws_cloudwatch_log_group.logs.name",
  ExecutorRole: "aws_iam_role.executor_role.name",
  "ExecutorRole.Arn": "aws_iam_role.executor_role.arn",
  InvokeRole: "aws_iam_role.invoke_role.name",
  "InvokeRole.Arn": "aws_iam_role.invoke_role.arn",
  "CodeSigning.CodeSigningConfigArn": "aws_lambda_code_signing_config.code_signing.arn",
  "SigningProfile.ProfileVersionArn": "aws_signer_signing_profile.signing_profile.version_arn",
  "AWS::Partition": "data.aws_partition.current.partition",
  "AWS::Region": "data.aws_region.current.id",
  "AWS::AccountId": "data.aws_caller_identity.current.account_id",
};
const snake = (name: string): string => name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();
const named = (name: string): string => `\${${attributes[name] ?? `var.${snake(name)}`}}`;

/** A CloudFormation value as the parser of HCL gives the same one. */
function translated(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(translated);
  if (typeof value !== "object" || value === null) return value;
  const [[key, inner] = ["", undefined]] = Object.entries(value) as [string, unknown][];
  if (key === "Ref") return named(String(inner));
  if (key === "Fn::GetAtt") return named((inner as string[]).join("."));
  if (key === "Fn::Sub") return String(inner).replaceAll(/\$\{([^}]*)\}/g, (_all, name: string) => named(name));
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, translated(each)]));
}

type Blocks = Record<string, [Record<string, unknown>]>;
interface Parsed {
  readonly resource: Record<string, Blocks>;
  readonly variable: Blocks;
  readonly output: Blocks;
}
const read = async (hcl: string) => (await parse("main.tf", hcl)) as unknown as Parsed;

/** Text in quotation marks as Terraform evaluates it: what escapes an expression is gone. */
const evaluated = (value: unknown): unknown =>
  typeof value === "string" ? value.replaceAll("$${", "${").replaceAll("%%{", "%{") : value;

/** Blocks' members by dotted names; policies as documents. */
async function flat(block: Record<string, unknown>): Promise<Record<string, unknown>> {
  const entries: [string, unknown][] = [];
  for (const [name, value] of Object.entries(block)) {
    const [, json] = typeof value === "string" ? (/^\$\{jsonencode\((.*)\)\}$/s.exec(value) ?? []) : [];
    if (json !== undefined) entries.push([name, ((await parse("x.tf", `x = ${json}`)) as { x: unknown }).x]);
    else if (Array.isArray(value) && value.length === 1 && typeof value[0] === "object")
      for (const [member, inner] of Object.entries(value[0] as object)) entries.push([`${name}.${member}`, inner]);
    else entries.push([name, value]);
  }
  return Object.fromEntries(entries);
}

/** What Terraform's arguments of a resource should be. */
function expected({ Type, Properties, Condition, DependsOn }: CloudFormationTemplate["Resources"][string]) {
  const [, names] = arguments_[Type] ?? assert.fail(Type);
  const found = Object.entries(Properties).flatMap(([property, value]): [string, unknown][] => {
    const own = names[property];
    if (own !== undefined) return [[own, translated(value)]];
    const members = Object.entries(value as object) as [string, unknown][];
    return members.map(([member, inner]) => [names[`${property}.${member}`] ?? assert.fail(member), translated(inner)]);
  });
  if (Condition !== undefined) found.push(["count", `\${var.code_key == "" ? 0 : 1}`]);
  if (DependsOn) found.push(["depends_on", [`\${aws_iam_role_policy.executor_rights}`]]);
  return Object.fromEntries(found);
}

describe("infrastructure of a function of AWS Lambda", () => {
  it("is what CloudFormation's specification allows", async () => {
    await fc.assert(
      fc.asyncProperty(wishes, async (given) => {
        assert.deepEqual(await templateProblems(cloudFormationOf(given)), []);
      }),
      { numRuns: 60 },
    );
  });

  it("is the same in Terraform", async () => {
    await fc.assert(
      fc.asyncProperty(wishes, async (given) => {
        const wanted = cloudFormationOf(given);
        const text = terraform(functionTemplate(given));
        assert.match(text, /^# Apply it with code_bucket and code_key of /m);
        assert.match(text, /^# Register it: .*--lambda function_arn --assume-role invoke_role_arn --external-id external_id /m);
        const { resource, variable, output } = await read(text);
        const resources: Record<string, unknown> = {};
        for (const [type, all] of Object.entries(resource))
          for (const [name, [block]] of Object.entries(all)) resources[`${type}.${name}`] = await flat(block);
        assert.deepEqual(
          resources,
          Object.fromEntries(
            Object.entries(wanted.Resources).map(([name, each]) => [
              `${arguments_[each.Type]?.[0]}.${snake(name)}`,
              expected(each),
            ]),
          ),
        );
        const shape = Object.entries(variable).map(([name, [block]]) => [
          name,
          {
            about: evaluated(block.description),
            usual: evaluated(block.default),
            isSecret: block.sensitive === true,
            mayBeEmpty: !block.validation,
          },
        ]);
        const parameters = Object.entries(wanted.Parameters).map(([name, { Description, Default, NoEcho, MinLength }]) => [
          snake(name),
          { about: Description, usual: Default, isSecret: NoEcho === true, mayBeEmpty: MinLength === undefined },
        ]);
        assert.deepEqual(Object.fromEntries(shape), Object.fromEntries(parameters));
        assert.deepEqual(
          Object.fromEntries(Object.entries(output).map(([name, [block]]) => [name, block.value])),
          Object.fromEntries(Object.entries(wanted.Outputs).map(([name, { Value }]) => [snake(name), translated(Value)])),
        );
      }),
      { numRuns: 60 },
    );
  });

  it("gives each part its least rights", () => {
    fc.assert(
      fc.property(wishes, (given) => {
        const template = cloudFormationOf(given);
        const arn = { "Fn::Sub": `arn:\${AWS::Partition}:lambda:\${AWS::Region}:\${AWS::AccountId}:function:${given.name}` };
        const invoke = statementsOf(template, "InvokeRights");
        const onFunction = invoke.filter(({ Resource }) => JSON.stringify(Resource) === JSON.stringify(arn));
        assert.deepEqual(
          onFunction.flatMap(({ Action }) => Action),
          [
            "lambda:GetFunctionConfiguration",
            "lambda:InvokeFunction",
            ...(given.autoUpdate ? ["lambda:GetFunction", "lambda:UpdateFunctionCode"] : []),
          ],
        );
        assert.equal(invoke.length - onFunction.length, given.autoUpdate ? 1 : 0, "objects of the code's bucket");
        const allowed = actionsOf(template, "ExecutorRights");
        assert.equal(allowed.includes("kms:Decrypt"), given.kmsKey !== undefined);
        assert.equal(allowed.includes("s3:GetObject"), given.keySetBucket !== undefined);
        assert.equal(allowed.includes("ec2:CreateNetworkInterface"), given.vpc !== undefined);
      }),
    );
  });

  it("allows nothing on everything but network interfaces, which the code in the function has no use for", () => {
    fc.assert(
      fc.property(wishes, (given) => {
        const template = cloudFormationOf(given);
        const statements = [...statementsOf(template, "ExecutorRights"), ...statementsOf(template, "InvokeRights")];
        const wide = statements.filter(({ Resource }) => Resource === "*");
        assert.deepEqual(
          wide.map(({ Effect }) => Effect),
          given.vpc ? ["Allow", "Deny"] : [],
        );
        for (const { Action } of wide) assert.ok(Action.every((action) => action.startsWith("ec2:")));
      }),
    );
  });

  it("lets nobody take on the invoke role without the external id", () => {
    fc.assert(
      fc.property(wishes, (given) => {
        const { Resources, Parameters } = cloudFormationOf(given);
        assert.deepEqual(Resources.InvokeRole?.Properties.AssumeRolePolicyDocument, {
          Version: "2012-10-17",
          Statement: [
            {
              Effect: "Allow",
              Principal: { AWS: { Ref: "Principal" } },
              Action: "sts:AssumeRole",
              Condition: { StringEquals: { "sts:ExternalId": { Ref: "ExternalId" } } },
            },
          ],
        });
        assert.equal(Parameters.ExternalId?.Default, given.externalId);
        assert.equal(Parameters.Principal?.Default, given.principal);
      }),
    );
  });

  it("refuses unsigned code, and never shows the function's keys", () => {
    fc.assert(
      fc.property(wishes, (given) => {
        const { Resources, Parameters, Outputs } = cloudFormationOf(given);
        assert.deepEqual(Resources.CodeSigning?.Properties.CodeSigningPolicies, { UntrustedArtifactOnDeployment: "Enforce" });
        assert.deepEqual(Resources.Function?.Properties.CodeSigningConfigArn, {
          "Fn::GetAtt": ["CodeSigning", "CodeSigningConfigArn"],
        });
        assert.deepEqual([Parameters.FarKeys?.NoEcho, Parameters.FarKeys?.Default], [true, undefined]);
        assert.ok(!JSON.stringify(Outputs).includes("FarKeys"));
      }),
    );
  });

  it("makes an S3 gateway endpoint where keys are read from S3 by route tables that are named", () => {
    const vpc = { vpcId: "vpc-1", subnetIds: ["subnet-1"], securityGroupIds: ["sg-1"], routeTableIds: ["rtb-1"] };
    const has = (more: Partial<TemplateWishes>) => "KeySetEndpoint" in cloudFormationOf({ ...plain, ...more }).Resources;
    assert.equal(has({ vpc, keySetBucket: "keys" }), true);
    assert.equal(has({ vpc }), false);
    assert.equal(has({ vpc: { ...vpc, routeTableIds: [] }, keySetBucket: "keys" }), false);
    assert.equal(has({ keySetBucket: "keys" }), false);
  });

  it("the check sees what is wrong", async () => {
    const good = cloudFormationOf(plain);
    const changed = async (name: string, properties: object, more: object = {}) => {
      const { [name]: resource, ...others } = good.Resources;
      const Resources = {
        ...others,
        [name]: { ...resource, Type: resource?.Type ?? "", ...more, Properties: { ...resource?.Properties, ...properties } },
      };
      return templateProblems({ ...good, Resources });
    };
    assert.match(String(await changed("Function", { Role: undefined })), /Role/);
    assert.match(String(await changed("Function", { Memory: 1 })), /Memory is no property/);
    assert.match(String(await changed("Function", { MemorySize: "1" })), /MemorySize: "1" is no integer/);
    assert.match(String(await changed("Function", { Role: { Ref: "ExecutorRole" } })), /takes no RoleName of AWS::IAM::Role/);
    assert.match(String(await changed("Function", { Role: { "Fn::GetAtt": ["ExecutorRole", "Arm"] } })), /ExecutorRole.Arm/);
    assert.match(String(await changed("Function", { Description: { "Fn::Sub": `\${Nothing}` } })), /refers to Nothing/);
    assert.match(String(await changed("Function", { Code: { S3Bucket: 1 } })), /Code.S3Bucket: 1 is no string/);
    assert.match(
      String(await changed("CodeSigning", { CodeSigningPolicies: { UntrustedArtifactOnDeployment: "Off" } })),
      /"Off" is not allowed/,
    );
    assert.match(
      String(await changed("ExecutorRights", { PolicyName: { "Fn::GetAtt": ["Function", "Arn"] } })),
      /each needs another/,
    );
    assert.match(String(await changed("Function", {}, { Type: "AWS::Lambda::Fun" })), /is no type/);
    assert.match(String(await changed("Function", {}, { Condition: "HasNothing" })), /condition HasNothing/);
  });
});
