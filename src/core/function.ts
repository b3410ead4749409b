import type { OutcomeClass } from "./error.ts";

/** Source: AWS Lambda API reference, CreateFunction: limits of timeout and memory. */
export const functionLimits = {
  timeoutSeconds: { least: 1, most: 900, usual: 30 },
  memoryMiB: { least: 128, most: 10_240, usual: 256 },
  concurrency: { least: 1, most: 100, usual: 10 },
  /** Of the payload of a call and of its answer, in bytes. */
  payloadBytes: 6 * 1024 * 1024,
  environmentBytes: 4096,
  policyChars: 20_480,
} as const;

export const functionNamePattern = /^[A-Za-z0-9_-]{1,64}$/;
export const fileRuntimes = ["node", "python", "executable"] as const;

/** Runs a file in the server's functions folder. */
export interface ProcessSettings {
  /** `executable`: speaks the Lambda Runtime API itself. */
  readonly runtime: (typeof fileRuntimes)[number];
  /** Path below the functions folder. */
  readonly file: string;
  /** What the file exports; absent: `handler`, in Python `lambda_handler`. Not of executables. */
  readonly handler?: string | undefined;
}

/** Calls a function of AWS Lambda. */
export interface LambdaSettings {
  /** Of the function at AWS; may have a qualifier. */
  readonly targetArn: string;
  /** Assumed for the call; absent: the server's own AWS credentials. */
  readonly assumeRoleArn?: string | undefined;
  readonly externalId?: string | undefined;
  /** What it is sent; absent: `aws`. */
  readonly protocol?: FarProtocol | undefined;
  /** Its own public keys, JWKs; of `rekey`. */
  readonly receiver?: { readonly signing: PublicKey; readonly sealing: PublicKey } | undefined;
  /** Rekey puts newer releases of its code in place; of `rekey`. */
  readonly autoUpdate?: boolean | undefined;
  /** The newest code, signed for AWS; absent: the release that this server has, unsigned. */
  readonly signedCode?: SignedCode | undefined;
}

type PublicKey = Readonly<Record<string, unknown>>;

/**
 * `aws`: events of AWS's rotation functions. `rekey`: sealed messages to Rekey's own code, `doppler`: signed ones to Doppler's
 * published agents; both run verbs near their targets, for networks.
 */
export const lambdaProtocols = ["aws", "rekey", "doppler"] as const;
type FarProtocol = Exclude<(typeof lambdaProtocols)[number], "aws">;

/** A package in S3 that AWS Signer has signed. */
interface SignedCode {
  readonly bucket: string;
  readonly key: string;
  readonly objectVersion?: string | undefined;
  /** Of the signed package, base64: what AWS Lambda calls CodeSha256. */
  readonly sha256: string;
}

/** How a function does its work; `http-api`: the declaration of an HTTP API's keys. */
export type FunctionSettings =
  | { readonly kind: "process"; readonly process: ProcessSettings }
  | { readonly kind: "lambda"; readonly lambda: LambdaSettings }
  | { readonly kind: "http-api"; readonly declaration: unknown };

/** A registered function: what RotationLambdaARN names, beside the built-in ones. */
export type FunctionRecord = FunctionSettings & {
  readonly region: string;
  readonly name: string;
  readonly arn: string;
  readonly description?: string | undefined;
  /** Whose temporary credentials a process gets. */
  readonly roleArn?: string | undefined;
  /** Who may invoke it, as a JSON policy; absent: nobody but who may by a policy of its own. */
  readonly policy?: string | undefined;
  readonly timeoutSeconds: number;
  readonly memoryMiB: number;
  /** Calls at once, on each server process. */
  readonly concurrency: number;
  /** Their values are sealed. */
  readonly environmentNames: readonly string[];
  readonly createdAt: number;
  readonly updatedAt: number;
};

export function functionArn(region: string, account: string, name: string): string {
  return `arn:aws:lambda:${region}:${account}:function:${name}`;
}

/** In the sentence on a call whose role AWS did not let us have. */
export const roleRefusedText = "could not be assumed";

/** Why a call did not end well: for people, without values. */
export interface CallFailure {
  readonly outcome: Exclude<OutcomeClass, "ok">;
  readonly message: string;
  readonly remedy?: string | undefined;
}

/** What came of one call of a function. */
export interface CallResult {
  readonly requestId: string;
  /** JSON text: what the function answered, or its error. */
  readonly payload: string;
  /** As AWS Lambda names it; absent: it answered. */
  readonly functionError?: "Handled" | "Unhandled" | undefined;
  readonly failure?: CallFailure | undefined;
}

const environmentName = /^[A-Z][A-Z0-9_]{0,127}$/;
/**
 * Names by which a variable changes what a program loads or whom it trusts, before the program itself begins: whoever may
 * set a function's variables must not get to run other code than the operator put there.
 */
const keptPrefixes =
  "AWS_ BASH CLASSPATH CURL_ DYLD_ GCONV_ GEM_ GIT_ GLIBC_ GO_ JAVA JDK_ LAMBDA_ LC_ LD_ LIBPATH LUA MALLOC_ NODE NPM_ OPENSSL_ PERL PG PHP PYTHON REKEY_ REQUESTS_ RUBY SSH_ SSL XDG_".split(
    " ",
  );
const keptNames: ReadonlySet<string> = new Set(
  "ALL_PROXY CDPATH EDITOR ENV FPATH GODEBUG GOFLAGS GOPATH HOME HOSTALIASES HTTPS_PROXY HTTP_PROXY IFS LANG LOCALDOMAIN LOCPATH NLSPATH NO_PROXY PATH PAGER PS4 RES_OPTIONS SECRETS_MANAGER_ENDPOINT SHELL SHELLOPTS TEMP TERM TMP TMPDIR TZ TZDIR USER VISUAL ZDOTDIR".split(
    " ",
  ),
);

/** What is wrong with the name of a function's variable; `undefined`: nothing. */
export function environmentNameProblem(name: string): string | undefined {
  if (!environmentName.test(name)) return "must be capital letters, digits and _, and begin with a letter";
  if (keptNames.has(name) || keptPrefixes.some((prefix) => name.startsWith(prefix)))
    return "is kept: it changes how programs start or whom they trust";
  return undefined;
}
