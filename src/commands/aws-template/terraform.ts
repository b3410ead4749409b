import { type Expression, isExpression, type Parameter, type Template, type TemplateResource, type Value } from "./model.ts";

interface TerraformType {
  readonly type: string;
  /** Property -> argument; absent ones are written in small letters with underscores. */
  readonly names?: Readonly<Record<string, string>>;
  /** Properties whose members are arguments of the resource itself. */
  readonly spread?: readonly string[];
  /** Properties that are JSON text here. */
  readonly json?: readonly string[];
  readonly attributes?: Readonly<Record<string, string>>;
}

/** CloudFormation's types in Terraform. Source: documentation of Terraform's AWS provider, version 5. */
const types: Readonly<Record<string, TerraformType>> = {
  "AWS::EC2::VPCEndpoint": { type: "aws_vpc_endpoint" },
  "AWS::IAM::Role": {
    type: "aws_iam_role",
    names: { AssumeRolePolicyDocument: "assume_role_policy" },
    json: ["AssumeRolePolicyDocument"],
    attributes: { Arn: "arn", Ref: "name" },
  },
  "AWS::IAM::RolePolicy": {
    type: "aws_iam_role_policy",
    names: { RoleName: "role", PolicyName: "name", PolicyDocument: "policy" },
    json: ["PolicyDocument"],
  },
  "AWS::Lambda::CodeSigningConfig": {
    type: "aws_lambda_code_signing_config",
    names: { CodeSigningPolicies: "policies" },
    attributes: { CodeSigningConfigArn: "arn" },
  },
  "AWS::Lambda::Function": { type: "aws_lambda_function", names: { S3Bucket: "s3_bucket", S3Key: "s3_key" }, spread: ["Code"] },
  "AWS::Logs::LogGroup": {
    type: "aws_cloudwatch_log_group",
    names: { LogGroupName: "name" },
    attributes: { Ref: "name" },
  },
  "AWS::Signer::SigningProfile": { type: "aws_signer_signing_profile", attributes: { ProfileVersionArn: "version_arn" } },
};

/** Properties that are maps from names of their own to values, written with `=`; other objects are blocks. */
const maps: ReadonlySet<string> = new Set(["Variables"]);
const places = {
  Partition: "data.aws_partition.current.partition",
  Region: "data.aws_region.current.id",
  AccountId: "data.aws_caller_identity.current.account_id",
};

/** A module in Terraform's language. Source: Terraform language documentation, "Syntax". */
export function terraform(template: Template): string {
  const { parameters, resources, outputs } = template;
  const blocks = [
    block("terraform", [block("required_providers", ['aws = {\n  source = "hashicorp/aws"\n  version = ">= 5.0"\n}'])]),
    ...["aws_partition", "aws_region", "aws_caller_identity"].map((name) => `data "${name}" "current" {}`),
    ...Object.entries(parameters).map(([name, parameter]) => variable(name, parameter)),
    ...Object.entries(resources).map(([name, resource]) => resourceBlock(name, resource, template)),
    ...Object.entries(outputs).map(([name, { about, value }]) =>
      block(`output "${snake(name)}"`, [`description = ${quoted(about)}`, `value = ${valueText(value, template)}`]),
    ),
  ];
  const steps = template.steps.map((step) =>
    step.replace(/\b[A-Z]\w+/g, (word) => (word in parameters || word in outputs ? snake(word) : word)),
  );
  return `${[[template.about, ...steps].map((line) => `# ${line}`).join("\n"), ...blocks].join("\n\n")}\n`;
}

function variable(name: string, { about, default: usual, secret, optional }: Parameter): string {
  const own = `var.${snake(name)}`;
  const notEmpty = block("validation", [
    `condition = length(${own}) > 0`,
    `error_message = ${quoted(`${snake(name)} must not be empty.`)}`,
  ]);
  return block(`variable "${snake(name)}"`, [
    `description = ${quoted(about)}`,
    "type = string",
    ...(usual === undefined ? [] : [`default = ${quoted(usual)}`]),
    ...(secret ? ["sensitive = true"] : []),
    "nullable = false",
    ...(optional ? [] : [notEmpty]),
  ]);
}

function resourceBlock(name: string, { type, properties, dependsOn, when }: TemplateResource, template: Template): string {
  const known = typeOf(type);
  const entries = Object.entries(properties).flatMap(([property, value]) =>
    known.spread?.includes(property) ? Object.entries(value as Record<string, Value>) : [[property, value] as const],
  );
  return block(`resource "${known.type}" "${snake(name)}"`, [
    ...(when === undefined ? [] : [`count = var.${snake(when)} == "" ? 0 : 1`]),
    ...entries.map(([property, value]) => argument(property, value, known, template)),
    ...(dependsOn ? [`depends_on = [${dependsOn.map((other) => addressOf(other, template)).join(", ")}]`] : []),
  ]);
}

function argument(property: string, value: Value, known: TerraformType, template: Template): string {
  const name = known.names?.[property] ?? snake(property);
  if (known.json?.includes(property)) return `${name} = jsonencode(${valueText(value, template)})`;
  if (typeof value !== "object" || Array.isArray(value) || isExpression(value) || maps.has(property))
    return `${name} = ${valueText(value, template)}`;
  const members = Object.entries(value as Record<string, Value>);
  return block(
    name,
    members.map(([member, inner]) => argument(member, inner, known, template)),
  );
}

function valueText(value: Value, template: Template): string {
  if (typeof value === "string") return quoted(value);
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `[${value.map((each) => valueText(each, template)).join(", ")}]`;
  if (isExpression(value)) return expressionText(value, template);
  const entries = Object.entries(value as Record<string, Value>);
  return `{\n${indented(entries.map(([name, each]) => `${quoted(name)} = ${valueText(each, template)}`).join("\n"))}\n}`;
}

function expressionText(value: Expression, template: Template): string {
  if (value.$ === "parameter") return `var.${snake(value.name)}`;
  if (value.$ === "place") return places[value.name];
  if (value.$ === "attribute") {
    const known = typeOf(template.resources[value.of]?.type ?? "").attributes?.[value.name];
    if (known === undefined) throw new Error(`no attribute ${value.name} of ${value.of} in Terraform`);
    return `${addressOf(value.of, template)}.${known}`;
  }
  const parts = value.parts.map((part) =>
    typeof part === "string" ? quoted(part).slice(1, -1) : `\${${expressionText(part, template)}}`,
  );
  return `"${parts.join("")}"`;
}

function addressOf(name: string, { resources }: Template): string {
  return `${typeOf(resources[name]?.type ?? "").type}.${snake(name)}`;
}

function typeOf(type: string): TerraformType {
  const known = types[type];
  if (!known) throw new Error(`${type} is not known in Terraform`);
  return known;
}

const snake = (name: string): string => name.replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();

/** Text between quotation marks; `${` and `%{` would begin an expression. */
function quoted(plain: string): string {
  const own: Readonly<Record<string, string>> = { "\\b": "\\u0008", "\\f": "\\u000c" };
  const escaped = JSON.stringify(plain).replaceAll(/\\./g, (pair) => own[pair] ?? pair);
  return escaped.replaceAll("${", "$${").replaceAll("%{", "%%{");
}

function block(head: string, lines: readonly string[]): string {
  return `${head} {\n${indented(lines.join("\n"))}\n}`;
}

const indented = (lines: string): string => lines.replaceAll(/^(?=.)/gm, "  ");
