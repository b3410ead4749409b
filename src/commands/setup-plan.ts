import { builtinFunctionNames, functionForEngine } from "../functions/builtin.ts";
import type { Strategy } from "../targets/target.ts";
import { type Connection, callApi, rowsOf } from "./api-client.ts";
import type { Typed } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { runJob } from "./job-command.ts";
import type { Answer } from "./output.ts";
import { rdsAddress } from "./rds-address.ts";
import { rulesOf } from "./secret.ts";
import { functionParts, ifThere, type SecretValue, type SetupPart, type Superuser, secretParts } from "./setup-parts.ts";
import { numberOf, tagsOf } from "./typed-values.ts";

/** What setting up a secret's rotation takes. */
export interface Setup {
  readonly secretName: string;
  readonly functionArn: string;
  readonly strategy: unknown;
  /** In the order in which they are made; the last configures the rotation. */
  readonly parts: readonly SetupPart[];
  /** What the pre-flight found. */
  readonly check: Answer;
}

/** Looks at what is there and what a rotation would meet; changes nothing. @throws CommandError */
export async function planSetup({ args, options }: Typed, connection: Connection): Promise<Setup> {
  const secret = await callApi(connection, "secrets/describe", { secretId: args[0] });
  const secretId = String(secret.arn);
  const secretName = String(secret.name);
  await requireQuiet(connection, secretId, secretName);
  const current = await readValue(connection, secretId);
  const { value } = current;
  const superuser = await superuserOf(options, value, connection);
  const functionArn = chooseFunction({ args, options }, secret, value, superuser !== undefined);
  const own = await ownFunctionParts({ args, options }, connection, secret, functionArn, superuser);
  const isPlanned = own.some(({ state }) => state !== "there");
  const check = await runJob(
    connection,
    "rotations/check",
    {
      secretId,
      rotationLambdaArn: functionArn,
      ...(superuser && { superuserSecretArn: superuser.arn, superuserAddress: superuser.missingAddress }),
      ...(isPlanned && { functionPlanned: true }),
    },
    `looking at what a rotation of ${secretName} needs`,
  );
  const rotation = rotationPart({ args, options }, connection, secret, functionArn);
  const parts = [...secretParts(connection, secretId, current, superuser), ...own, rotation];
  return { secretName, functionArn, strategy: check.strategy, parts, check };
}

/** A value that is put while a password is being switched would bring the old one back. */
async function requireQuiet(connection: Connection, secretId: string, name: string): Promise<void> {
  const running = await callApi(connection, "rotations/list", { secretId, state: "running", limit: 1 });
  if (rowsOf(running, "rotations").length > 0)
    throw new CommandError(
      1,
      `a rotation of ${name} is running: wait for its end (rekey rotation status ${name}) or stop it (rekey rotation cancel ${name}), then set up`,
    );
}

/** Empty when the secret has none. */
async function readValue(connection: Connection, secretId: string): Promise<SecretValue> {
  const found = await ifThere(callApi(connection, "secrets/get-value", { secretId }));
  if (!found) return {};
  const { secretString, versionId } = found;
  try {
    const value: unknown = JSON.parse(String(secretString));
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? { value: value as Answer, versionId } : { versionId };
  } catch (error) {
    if (error instanceof SyntaxError) return { versionId };
    throw error;
  }
}

/** The superuser that is asked for, else the one that the value names. */
async function superuserOf(
  options: Typed["options"],
  value: Answer | undefined,
  connection: Connection,
): Promise<Superuser | undefined> {
  const id = options.superuser ?? value?.masterarn;
  if (typeof id !== "string") return undefined;
  if (options.superuser !== undefined && !value)
    throw new CommandError(1, "--superuser needs a secret whose value is a JSON object: masterarn is written into it");
  const described = await callApi(connection, "secrets/describe", { secretId: id });
  const tags = (described.tags as readonly Answer[] | undefined) ?? [];
  const { value: own } = await readValue(connection, String(described.arn));
  const told = own?.host === undefined ? tags.find(({ key }) => key === "rekey:address")?.value : "in its value";
  const missingAddress = await addressOf(options, value, told);
  return { arn: String(described.arn), missingAddress, keyArn: await keyArnOf(connection, described) };
}

/** Where the superuser's secret may be used, when that has still to be said: as RDS tells, else as the rotated secret does. */
async function addressOf({ rds }: Typed["options"], { host, port }: Answer = {}, told: unknown): Promise<string | undefined> {
  if (typeof rds === "string") {
    if (told === "in its value") throw new CommandError(2, "--rds is for a superuser's secret without host: this one has one");
    const address = await rdsAddress(rds);
    return address === told ? undefined : address;
  }
  return told !== undefined || host === undefined ? undefined : [host, port].filter((part) => part !== undefined).join(":");
}

async function keyArnOf(connection: Connection, { kmsKeyId }: Answer): Promise<string | undefined> {
  if (typeof kmsKeyId !== "string") return undefined;
  if (kmsKeyId.startsWith("arn:")) return kmsKeyId;
  return String((await callApi(connection, "keys/describe", { keyId: kmsKeyId })).arn);
}

/** @throws CommandError for usage when none can be told */
function chooseFunction({ options }: Typed, secret: Answer, value: Answer | undefined, hasSuperuser: boolean): string {
  const [, partition, , region, account] = String(secret.arn).split(":");
  const arnOf = (name: string) => `arn:${partition}:lambda:${region}:${account}:function:${name}`;
  const given = options.function;
  if (typeof given === "string") return given.startsWith("arn:") ? given : arnOf(given);
  const asked = options.strategy ?? (options.superuser === undefined ? undefined : "alternating-users");
  if (asked === undefined && typeof secret.rotationLambdaArn === "string") return secret.rotationLambdaArn;
  const strategy = asked ?? (hasSuperuser ? "alternating-users" : undefined);
  const engine = value?.engine ?? value?.type; // random values and key pairs have no engine
  if (typeof engine !== "string")
    throw new CommandError(2, "the secret's value has no key engine, or type, that tells what it is for: name a --function");
  const name = functionForEngine(engine, strategy as Strategy | undefined);
  if (name === undefined)
    throw new CommandError(
      2,
      `no function is built in for engine ${engine}${strategy === undefined ? "" : ` and ${strategy}`}: name a --function of your own`,
    );
  return arnOf(name);
}

async function ownFunctionParts(
  { options }: Typed,
  connection: Connection,
  secret: Answer,
  functionArn: string,
  superuser: Superuser | undefined,
): Promise<SetupPart[]> {
  const name = functionArn.split(":")[6] ?? "";
  if (builtinFunctionNames.includes(name)) return [];
  const { runtime, file, handler } = options;
  if ((runtime === undefined) !== (file === undefined)) throw new CommandError(2, "give --runtime and --file together");
  const variables = tagsOf(options.env);
  const settings = runtime !== undefined && {
    process: { runtime, file, ...(handler !== undefined && { handler }) },
    ...(variables && { environment: Object.fromEntries(variables.map(({ key, value }) => [key, value])) }),
    timeout: numberOf(options.timeoutSeconds, "--timeout-seconds"),
  };
  const keys = [await keyArnOf(connection, secret), superuser?.keyArn].filter((arn) => arn !== undefined);
  return functionParts(connection, {
    name,
    arn: functionArn,
    ...(settings && { settings }),
    needs: { superuserSecretArn: superuser?.arn, keyArns: [...new Set(keys)] },
  });
}

/** The last part: it is there when it is configured so, and was rotated, or is not to be rotated now. */
function rotationPart({ options }: Typed, connection: Connection, secret: Answer, functionArn: string): SetupPart {
  const rules = rulesOf(options);
  const later = options.immediately === false;
  const configured = secret.rotationEnabled === true && secret.rotationLambdaArn === functionArn && hasRules(secret, rules);
  const input = { secretId: secret.arn, rotationLambdaArn: functionArn, rotationRules: rules };
  const apply = () => callApi(connection, "secrets/rotate", { ...input, ...(later && { rotateImmediately: false }) });
  const part = { part: later ? "rotation" : "rotation, and the first one now", name: String(secret.name) };
  if (configured && (later || secret.lastRotatedDate !== undefined)) return { ...part, state: "there" };
  return { ...part, state: secret.rotationLambdaArn === undefined ? "to make" : "to change", apply };
}

function hasRules(secret: Answer, rules: object | undefined): boolean {
  const now = (secret.rotationRules ?? {}) as Answer;
  return Object.entries(rules ?? {}).every(([name, value]) => now[name] === value);
}
