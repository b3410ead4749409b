import type { Command } from "commander";
import { type Connection, callApi } from "./api-client.ts";
import { type ApiCommand, addNoun, fields, pickOptions, sentence, type Typed, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { codeState, lambdaFields, lambdaSettings } from "./function-lambda.ts";
import { addFunctionNew } from "./function-new.ts";
import { addFunctionSigning } from "./function-sign.ts";
import { test } from "./function-test.ts";
import { type Answer, cell, printFields, printJson, printLine } from "./output.ts";
import { fileText, numberOf, tagsOf } from "./typed-values.ts";

const functionFields = {
  Name: "functionName",
  ARN: "functionArn",
  Kind: "kind",
  Description: "description",
  Runs: runs,
  ...lambdaFields,
  Role: "role",
  Timeout: ({ timeout }: Answer) => `${timeout} s`,
  Memory: ({ memorySize }: Answer) => `${memorySize} MiB`,
  "At once": "concurrency",
  Variables: "environmentNames",
  Policy: policyOf,
  Changed: "lastModifiedDate",
};

/** Commands on functions. */
export function addFunctionCommands(program: Command): void {
  const noun = addNoun(program, "function", "Your own code that rotates secrets", [
    create,
    update,
    list,
    show,
    remove,
    invoke,
    logs,
    policy,
    setPolicy,
    test,
  ]);
  addFunctionNew(noun);
  addFunctionSigning(noun);
}

const settingOptions = {
  "--runtime <runtime>": "of a process: node, python or executable",
  "--file <path>": "of a process: its file, below the server's --functions-dir",
  "--handler <name>": "of a process: what the file exports, default handler, in Python lambda_handler",
  "--role <role>": "of a process: the role whose rights it gets, by name or ARN",
  "--env <name=value...>": "of a process: its variables, in place of those it has; for settings, not for secrets",
  "--lambda <arn>": "call this function of AWS Lambda instead",
  "--assume-role <arn>": "with --lambda: role at AWS to take on for the call",
  "--external-id <text>": "with --assume-role: the id that the role asks for",
  "--protocol <protocol>": "with --lambda: what it is sent: aws, default, or rekey or doppler for networks",
  "--far-key <file>": "with --protocol rekey: its public keys, FILE.pub of rekey aws keys",
  "--auto-update": "with --protocol rekey: put newer releases of its code in place",
  "--no-auto-update": "leave its code to you; this is the default",
  "--signed-code <s3 address>": "with --protocol rekey: its newest code, signed for AWS, as s3://BUCKET/KEY",
  "--signed-sha256 <digest>": "with --signed-code: SHA-256 of that package, base64, as AWS shows it",
  "--signed-version <id>": "with --signed-code: version of that object",
  "--http-api <file>": "rotate the keys of an HTTP API as this JSON declares instead",
  "--description <text>": "what it is for",
  "--timeout-seconds <number>": "longest call, 1 to 900, default 30",
  "--memory-mib <number>": "memory of a process, 128 to 10240, default 256",
  "--concurrency <number>": "calls at once, 1 to 100, default 10",
};

const create: ApiCommand = {
  usage: "create <name>",
  about: "register a function; give it its policies before a rotation names it",
  examples: [
    "rekey function create rotate-app --runtime node --file rotate-app/index.mjs --role rotate-app",
    "rekey function create rekey-postgres --lambda arn:aws:lambda:eu-central-1:111122223333:function:rekey-postgres --assume-role arn:aws:iam::111122223333:role/rekey --external-id 7f2c --protocol rekey --far-key rekey-postgres.keys.json.pub",
    "rekey function create rotate-far --lambda arn:aws:lambda:eu-central-1:111122223333:function:rotate --assume-role arn:aws:iam::111122223333:role/rekey --external-id 7f2c",
  ],
  operation: "functions/create",
  options: settingOptions,
  input: async (typed, connection) => {
    const { runtime, lambda, httpApi, role } = typed.options;
    const given = await settings(typed, connection);
    if (lambda === undefined && "lambda" in given)
      throw new CommandError(2, "--assume-role, --external-id, --protocol and what else says how it is called go with --lambda");
    if (runtime === undefined && lambda === undefined && httpApi === undefined)
      throw new CommandError(2, "say what it is: --runtime with --file and --role, or --lambda, or --http-api");
    if (runtime !== undefined && role === undefined)
      throw new CommandError(2, "give --role: whose rights the process gets, by name or ARN");
    return { functionName: typed.args[0], ...given };
  },
  show: fields(functionFields),
};

const update: ApiCommand = {
  usage: "update <name>",
  about: "change a function; what is not named stays",
  examples: ["rekey function update rotate-app --timeout-seconds 60"],
  operation: "functions/update",
  options: settingOptions,
  input: async (typed, connection) => ({ functionName: typed.args[0], ...(await settings(typed, connection)) }),
  show: fields(functionFields),
};

const list: ApiCommand = {
  usage: "list",
  about: "list functions",
  examples: ["rekey function list"],
  operation: "functions/list",
  pages: "functions",
  show: table(
    "functions",
    { NAME: "functionName", KIND: "kind", RUNS: runs, CODE: codeState, CHANGED: "lastModifiedDate", DESCRIPTION: "description" },
    "no functions",
  ),
};

const show: ApiCommand = {
  usage: "show <name>",
  about: "show a function",
  examples: ["rekey function show rotate-app"],
  operation: "functions/get",
  input: byName,
  show: fields(functionFields),
};

const remove: ApiCommand = {
  usage: "delete <name>",
  about: "delete a function that no network calls, with its log; rotations that name it fail from then on",
  examples: ["rekey function delete rotate-app"],
  operation: "functions/delete",
  input: byName,
  show: sentence((_answer, { args }) => `function ${args[0]} is deleted`),
};

/** Longer than any call. */
const longestCallMs = 960_000;

const invoke: ApiCommand = {
  usage: "invoke <name>",
  about: "call a function once and show its answer",
  examples: ["rekey function invoke rotate-app --event event.json"],
  operation: "functions/invoke",
  options: { "--event <file>": "JSON that it is given, - for standard input; default {}" },
  notes: "Exit code 1 means that the function failed.",
  async ask({ args, options }, connection) {
    const payload = options.event === undefined ? "{}" : await fileText(String(options.event));
    const answer = await callApi(connection, "functions/invoke", { functionName: args[0], payload }, longestCallMs);
    if (answer.functionError !== undefined) process.exitCode = 1;
    return answer;
  },
  show: (answer) => {
    if (answer.functionError === undefined) printLine(cell(answer.payload));
    else printFields(answer, { Reason: "reason", Remedy: "remedy", Outcome: "outcome", Answer: "payload", Request: "requestId" });
  },
};

const logs: ApiCommand = {
  usage: "logs <name>",
  about: "show what a function wrote in its last calls, oldest first, with secret values cut out",
  examples: ["rekey function logs rotate-app --max 3"],
  operation: "functions/logs",
  options: { "--max <number>": "how many calls, 1 to 50, default 10" },
  input: ({ args, options }) => ({ functionName: args[0], limit: numberOf(options.max, "--max") }),
  show: ({ logs: calls }) => {
    const oldestFirst = [...(calls as readonly Answer[])].reverse();
    if (oldestFirst.length === 0) printLine("it was not called yet");
    for (const { startedDate, output } of oldestFirst)
      for (const line of String(output).split("\n")) printLine(`${cell(startedDate)}  ${cell(line)}`);
  },
};

const policyParts = {
  role: "leastRolePolicy",
  trust: "leastTrustPolicy",
  function: "leastFunctionPolicy",
} as const;

const policy: ApiCommand = {
  usage: "policy <name>",
  about: "print the least policies that let a function rotate the secrets that name it",
  examples: [
    "rekey function policy rotate-app",
    "rekey function policy rotate-app --part role --multi-user app/superuser > role-policy.json",
  ],
  notes:
    "Three documents: for its role what it may do (rekey policy create, rekey policy attach) and who may assume it (rekey role trust), and for the function who may invoke it (rekey function set-policy).",
  operation: "functions/policy",
  options: {
    "--single-user": "for a function that logs in as the secret's own user; this is the default",
    "--multi-user <secret>": "for one that reads this superuser's secret as well",
    "--key <arn...>": "customer keys that the secrets are encrypted under",
    "--secret <secret>": "let it be invoked for this secret only",
    "--part <part>": "print one document alone: role, trust or function",
  },
  input: policyInput,
  show: (answer, { options }) => {
    const { part } = options;
    if (part === undefined) printJson(documentsOf(answer));
    else printJson(documentsOf(answer)[partOf(part)]);
  },
};

const setPolicy: ApiCommand = {
  usage: "set-policy <name> <file>",
  about: "set who may invoke a function, from a JSON file; an empty one removes the policy",
  examples: ["rekey function policy rotate-app --part function | rekey function set-policy rotate-app -"],
  operation: "functions/put-policy",
  input: async ({ args }) => ({ functionName: args[0], policy: (await fileText(String(args[1]))).trim() }),
  show: sentence((_answer, { args }) => `the policy of function ${args[0]} is set`),
};

function byName({ args }: Typed): object {
  return { functionName: args[0] };
}

async function settings({ options }: Typed, connection: Connection): Promise<object> {
  const { runtime, file, handler, httpApi } = options;
  if ((runtime === undefined) !== (file === undefined)) throw new CommandError(2, "give --runtime and --file together");
  if (handler !== undefined && file === undefined) throw new CommandError(2, "--handler goes with --runtime and --file");
  const lambda = await lambdaSettings(options);
  const variables = tagsOf(options.env);
  return {
    ...(runtime !== undefined && { process: { runtime, file, ...(handler !== undefined && { handler }) } }),
    ...(lambda && { lambda }),
    ...(httpApi !== undefined && { httpApi: jsonIn(await fileText(String(httpApi)), "--http-api") }),
    ...(options.role !== undefined && { role: await roleArn(String(options.role), connection) }),
    ...(variables && { environment: Object.fromEntries(variables.map(({ key, value }) => [key, value])) }),
    ...pickOptions(options, { description: "description" }),
    timeout: numberOf(options.timeoutSeconds, "--timeout-seconds"),
    memorySize: numberOf(options.memoryMib, "--memory-mib"),
    concurrency: numberOf(options.concurrency, "--concurrency"),
  };
}

async function roleArn(name: string, connection: Connection): Promise<string> {
  if (name.startsWith("arn:")) return name;
  const { account } = await callApi(connection, "sts/get-caller-identity");
  return `arn:aws:iam::${account}:role/${name}`;
}

async function policyInput({ args, options }: Typed, connection: Connection): Promise<object> {
  const { multiUser, secret, key } = options;
  if (options.singleUser === true && multiUser !== undefined)
    throw new CommandError(2, "give --single-user or --multi-user, not both");
  if (options.part !== undefined) partOf(options.part);
  return {
    functionName: args[0],
    ...(multiUser !== undefined && { superuserSecretArn: await secretArn(String(multiUser), connection) }),
    ...(secret !== undefined && { secretArn: await secretArn(String(secret), connection) }),
    ...(Array.isArray(key) && { keyArns: key }),
  };
}

async function secretArn(secretId: string, connection: Connection): Promise<string> {
  return String((await callApi(connection, "secrets/describe", { secretId })).arn);
}

function partOf(part: unknown): keyof typeof policyParts {
  if (typeof part === "string" && Object.hasOwn(policyParts, part)) return part as keyof typeof policyParts;
  throw new CommandError(2, "--part must be role, trust or function");
}

function documentsOf(answer: Answer): Readonly<Record<keyof typeof policyParts, unknown>> {
  const document = (member: string): unknown => JSON.parse(String(answer[member]));
  const { role, trust, function: own } = policyParts;
  return { role: document(role), trust: document(trust), function: document(own) };
}

function jsonIn(text: string, flag: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CommandError(2, `the file of ${flag} is not JSON`, { cause: error });
  }
}

function policyOf({ policy, lambda }: Answer): unknown {
  if (policy !== undefined) return policy;
  if (["rekey", "doppler"].includes(String((lambda as Answer | undefined)?.protocol)))
    return "none, and it needs none: networks call it; see rekey network";
  return "none: nobody may invoke it; see rekey function policy";
}

function runs({ process, lambda, kind }: Answer): string {
  if (process) {
    const { runtime, file, handler } = process as Answer;
    return `${runtime} ${file}${handler === undefined ? "" : ` (${handler})`}`;
  }
  return lambda ? String((lambda as Answer).functionArn) : String(kind);
}
