import { randomUUID } from "node:crypto";
import { type Command, Option } from "commander";
import { stringify } from "yaml";
import { functionNamePattern } from "../core/function.ts";
import { externalIdPattern } from "../core/identity.ts";
import { lambdaTargets } from "../core/lambda-targets.ts";
import { exampleText } from "./api-command.ts";
import { cloudFormation } from "./aws-template/cloudformation.ts";
import { functionTemplate, type TemplateWishes, type VpcPlace } from "./aws-template/infrastructure.ts";
import type { Template } from "./aws-template/model.ts";
import { terraform } from "./aws-template/terraform.ts";
import { CommandError } from "./command-error.ts";
import { fileText } from "./typed-values.ts";

interface Options {
  readonly target?: string;
  readonly name?: string;
  readonly format: string;
  readonly vpc?: string;
  readonly subnets?: readonly string[];
  readonly securityGroups?: readonly string[];
  readonly routeTables?: readonly string[];
  readonly keySet?: string;
  readonly keySetBucket?: string;
  readonly signingProfile?: string;
  readonly kmsKey?: string;
  readonly principal?: string;
  readonly externalId?: string;
  readonly autoUpdate?: boolean;
}

const formats: Readonly<Record<string, (template: Template) => string>> = {
  cloudformation: (template) =>
    [
      ...comments(template),
      stringify(cloudFormation(template), { aliasDuplicateObjects: false, lineWidth: 0, version: "1.1" }),
    ].join("\n"),
  "cloudformation-json": (template) => `${JSON.stringify(cloudFormation(template), undefined, 2)}\n`,
  terraform,
};

const comments = ({ steps }: Template): string[] => steps.map((step) => `# ${step}`);

/** `rekey aws template`: prints, and asks nobody. */
export function addAwsTemplate(noun: Command): void {
  noun
    .command("template")
    .description("Print the infrastructure of a function: its rights, code signing, and the role by which Rekey calls it")
    .option("--target <kind>", `what it rotates (required): ${lambdaTargets.join(", ")}`)
    .option("--name <name>", "of the function at AWS, default rekey-TARGET")
    .addOption(new Option("--format <format>", "how it is written").choices(Object.keys(formats)).default("cloudformation"))
    .option("--vpc <id>", "run it in this network; --subnets and --security-groups go with it")
    .option("--subnets <id...>", "with --vpc: subnets from which the targets are reached")
    .option("--security-groups <id...>", "with --vpc: security groups that the targets let in")
    .option("--route-tables <id...>", "with --vpc and --key-set-bucket: make an S3 gateway endpoint for these route tables")
    .option("--key-set <file>", "Rekey's public keys, from rekey signing-key export; - for standard input")
    .option("--key-set-bucket <bucket>", "let it read them from this S3 bucket, object rekey/jwks.json, instead")
    .option("--signing-profile <arn>", "version of a signing profile that is there already; default: make one")
    .option("--kms-key <arn>", "KMS key of yours that encrypts its variables, which it alone may then use")
    .option("--principal <arn>", "user or role at AWS as which Rekey's server runs")
    .option("--external-id <text>", "what Rekey says to take on its role, default a new one")
    .option("--auto-update", "let Rekey put newer code in place")
    .addHelpText(
      "after",
      `\nIt ends with the commands that use it. What is left out is asked for where the template is applied.\n${exampleText([
        "rekey aws template --target postgres --principal arn:aws:iam::111122223333:role/rekey > rekey-postgres.yaml",
        "rekey aws template --target mysql --vpc vpc-0a1b --subnets subnet-0a1b subnet-0c2d --security-groups sg-0a1b --auto-update --format terraform > rekey-mysql.tf",
      ])}`,
    )
    .action(async (options: Options) => {
      const wishes = await wishesIn(options);
      process.stdout.write((formats[options.format] ?? terraform)(functionTemplate(wishes)));
    });
}

/** @throws CommandError for usage */
async function wishesIn(options: Options): Promise<TemplateWishes> {
  const { target, name = `rekey-${target}`, principal, keySetBucket, signingProfile, externalId } = options;
  if (target === undefined || !(lambdaTargets as readonly string[]).includes(target))
    throw new CommandError(2, `--target must be one of ${lambdaTargets.join(", ")}`);
  demand(name, functionNamePattern, "--name must have 1 to 64 letters, digits, - and _");
  demand(
    principal,
    /^arn:aws[a-z-]*:iam::\d{12}:(root|(user|role)\/[\w+=,.@/-]{1,512})$/,
    "--principal must be the ARN of a user or role",
  );
  demand(keySetBucket, /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "--key-set-bucket must be the name of an S3 bucket");
  demand(
    signingProfile,
    /^arn:aws[a-z-]*:signer:[a-z0-9-]+:\d{12}:\/signing-profiles\/\w{2,64}\/\w{10}$/,
    "--signing-profile must be the ARN of a signing profile's version, which ends in /signing-profiles/NAME/VERSION",
  );
  demand(options.kmsKey, /^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key\/[\w-]{1,64}$/, "--kms-key must be the ARN of a KMS key");
  demand(externalId, externalIdPattern, "--external-id must have 2 to 1224 letters, digits and +=,.@:/-");
  if (options.keySet !== undefined && keySetBucket !== undefined)
    throw new CommandError(2, "give --key-set or --key-set-bucket, not both");
  return {
    target,
    name,
    vpc: vpcIn(options),
    autoUpdate: options.autoUpdate === true,
    externalId: externalId ?? randomUUID(),
    principal,
    signingProfile,
    kmsKey: options.kmsKey,
    keySetBucket,
    keySet: options.keySet === undefined ? undefined : keySetText(await fileText(options.keySet)),
  };
}

function vpcIn({ vpc, subnets = [], securityGroups = [], routeTables = [], keySetBucket }: Options): VpcPlace | undefined {
  if (vpc === undefined) {
    if (subnets.length + securityGroups.length + routeTables.length > 0)
      throw new CommandError(2, "--subnets, --security-groups and --route-tables go with --vpc");
    return undefined;
  }
  if (subnets.length === 0 || securityGroups.length === 0)
    throw new CommandError(2, "--vpc needs --subnets and --security-groups: where in the network the function is");
  if (routeTables.length > 0 && keySetBucket === undefined)
    throw new CommandError(2, "--route-tables goes with --key-set-bucket: nothing else is read from S3");
  const ids: [string, string, readonly string[]][] = [
    ["--vpc", "vpc", [vpc]],
    ["--subnets", "subnet", subnets],
    ["--security-groups", "sg", securityGroups],
    ["--route-tables", "rtb", routeTables],
  ];
  for (const [flag, prefix, given] of ids)
    for (const id of given)
      demand(id, new RegExp(`^${prefix}-[0-9a-f]{4,40}$`), `${flag} must be ids such as ${prefix}-0a1b2c3d`);
  return { vpcId: vpc, subnetIds: subnets, securityGroupIds: securityGroups, routeTableIds: routeTables };
}

function demand(value: string | undefined, pattern: RegExp, message: string): void {
  if (value !== undefined && !pattern.test(value)) throw new CommandError(2, message);
}

const maxKeySetChars = 3_000;

/** On one line: it becomes a variable of the function, all of which share 4 KiB. */
function keySetText(file: string): string {
  const text = compact(file);
  if (text === undefined || text.includes('"d":'))
    throw new CommandError(2, "the file of --key-set must be a JSON Web Key Set of public keys: rekey signing-key export");
  if (text.length > maxKeySetChars)
    throw new CommandError(2, `the keys of --key-set take more than ${maxKeySetChars} characters: use --key-set-bucket`);
  return text;
}

function compact(file: string): string | undefined {
  try {
    const set: unknown = JSON.parse(file);
    const isSet = typeof set === "object" && set !== null && "keys" in set && Array.isArray(set.keys);
    return isSet ? JSON.stringify(set) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
