// One function of AWS Lambda: its zip, unpacked, run by a Node.js of its own through Lambda's Runtime API. Each execution
// environment takes one call at a time and is kept for the next.
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { unzipSync } from "fflate";
import { openRuntimeApi, type RuntimeApi } from "../../src/functions/runtime-api.ts";

export interface FunctionOptions {
  readonly name: string;
  readonly zip: Uint8Array;
  readonly environment?: Readonly<Record<string, string>>;
  readonly timeoutSeconds?: number;
  readonly memoryMiB?: number;
  /** As `app.handler`. */
  readonly handler?: string;
  /** E.g. `nodejs20.x`. */
  readonly runtime?: string;
  /** The Node.js that runs it; absent: this one. */
  readonly node?: string;
}

export interface Invoked {
  /** JSON text. */
  readonly payload: string;
  readonly functionError?: "Unhandled";
  /** What it wrote while it ran. */
  readonly log: string;
}

interface Place {
  readonly folder: string;
  readonly program: string;
}

const repository = join(import.meta.dirname, "../..");
const runtime = join(import.meta.dirname, "lambda-runtime.mjs");

export class HostedFunction implements AsyncDisposable {
  readonly arn: string;
  readonly name: string;
  readonly handler: string;
  readonly runtime: string;
  /** May be changed: it counts from the next execution environment on. */
  readonly environment: Record<string, string>;
  timeoutSeconds: number;
  readonly memoryMiB: number;
  zip: Uint8Array;
  revisionId: string = randomUUID();
  lastUpdateStatus: "Successful" | "InProgress" | "Failed" = "Successful";
  /** How long an update takes. */
  updateMs = 0;
  /** Updates with code that this does not say yes to are refused, as by an enforced code signing configuration. */
  acceptsCode: (zip: Uint8Array) => boolean = () => true;
  throttled = false;
  answerDelayMs = 0;
  /** Of a call, before it is begun. */
  requestDelayMs = 0;
  /** The connection ends before the call arrives. */
  losesRequests = false;
  /** A call arrives twice; the second answer counts. */
  doublesRequests = false;
  /** The function runs, and the caller's connection ends before the answer. */
  losesAnswers = false;
  /** Calls that were begun. */
  invocations = 0;
  /** What its calls wrote, as CloudWatch would keep it. */
  written = "";

  readonly #base: Readonly<Record<string, string>>;
  readonly #node: string;
  readonly #idle: Environment[] = [];
  readonly #all = new Set<Environment>();
  #place: Place | undefined;
  readonly #folders: string[] = [];

  constructor(arn: string, options: FunctionOptions, base: Readonly<Record<string, string>>) {
    this.arn = arn;
    this.name = options.name;
    this.zip = options.zip;
    this.handler = options.handler ?? "app.handler";
    this.runtime = options.runtime ?? `nodejs${process.versions.node.split(".")[0]}.x`;
    this.environment = { ...options.environment };
    this.timeoutSeconds = options.timeoutSeconds ?? 30;
    this.memoryMiB = options.memoryMiB ?? 256;
    this.#node = options.node ?? process.execPath;
    this.#base = base;
  }

  /** As AWS Lambda's CodeSha256. */
  get codeSha256(): string {
    return createHash("sha256").update(this.zip).digest("base64");
  }

  /** The new code counts at once; the status says so after `updateMs`. */
  update(zip: Uint8Array): void {
    this.zip = zip;
    this.#place = undefined;
    this.revisionId = randomUUID();
    this.renew();
    if (this.updateMs === 0) return;
    this.lastUpdateStatus = "InProgress";
    setTimeout(() => {
      this.lastUpdateStatus = "Successful";
    }, this.updateMs).unref();
  }

  /** Ends idle execution environments: the next call is a cold start. */
  renew(): void {
    for (const environment of this.#idle.splice(0)) void this.#end(environment);
  }

  async invoke(requestId: string, payload: string): Promise<Invoked> {
    this.invocations += 1;
    const environment = this.#idle.pop() ?? (await this.#start());
    const invoked = await environment.invoke(requestId, payload, this.timeoutSeconds);
    this.written += invoked.log;
    if (environment.isUsable && environment.folder === this.#place?.folder) this.#idle.push(environment);
    else await this.#end(environment);
    return invoked;
  }

  async #start(): Promise<Environment> {
    this.#place ??= this.#unpack();
    const { folder, program } = this.#place;
    const api = await openRuntimeApi();
    const [, exported = ""] = this.handler.split(".");
    const child = spawn(this.#node, [`--max-old-space-size=${this.memoryMiB}`, runtime, program, exported], {
      cwd: dirname(program),
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        AWS_EXECUTION_ENV: `AWS_Lambda_${this.runtime}`,
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(this.memoryMiB),
        AWS_LAMBDA_FUNCTION_NAME: this.name,
        AWS_LAMBDA_RUNTIME_API: api.address,
        LAMBDA_TASK_ROOT: dirname(program),
        NODE_PATH: join(folder, "runtime", "node_modules"),
        TZ: ":UTC",
        ...this.#base,
        ...this.environment,
      },
    });
    const environment = new Environment(this.arn, folder, api, child);
    this.#all.add(environment);
    return environment;
  }

  async #end(environment: Environment): Promise<void> {
    this.#all.delete(environment);
    await environment.end();
  }

  /** Beside it, of all packages only the SDK, which AWS's runtimes bring. */
  #unpack(): Place {
    const folder = mkdtempSync(join(tmpdir(), "rekey-lambda-"));
    this.#folders.push(folder);
    const task = join(folder, "task");
    for (const [name, bytes] of Object.entries(unzipSync(this.zip))) {
      mkdirSync(dirname(join(task, name)), { recursive: true });
      writeFileSync(join(task, name), bytes);
    }
    const modules = join(folder, "runtime", "node_modules");
    mkdirSync(modules, { recursive: true });
    symlinkSync(join(repository, "node_modules", "@aws-sdk"), join(modules, "@aws-sdk"));
    return { folder, program: join(task, `${this.handler.split(".")[0]}.js`) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#all].map((environment) => this.#end(environment)));
    for (const folder of this.#folders) rmSync(folder, { recursive: true, force: true });
  }
}

class Environment {
  readonly folder: string;
  readonly #arn: string;
  readonly #api: RuntimeApi;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #log = "";

  constructor(arn: string, folder: string, api: RuntimeApi, child: ChildProcess) {
    this.#arn = arn;
    this.folder = folder;
    this.#api = api;
    this.#child = child;
    this.#ended = once(child, "exit");
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#log += text;
      });
    }
  }

  get isUsable(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async invoke(requestId: string, payload: string, timeoutSeconds: number): Promise<Invoked> {
    this.#log = "";
    const until = new AbortController();
    try {
      // Loading is not counted, as AWS gives it ten seconds of its own.
      const broken = await Promise.race([this.#api.ready(), this.#api.initFailed, this.#ended]);
      if (broken) return this.#failed("payload" in Object(broken) ? (broken as { payload: string }).payload : exitError);
      const deadlineAt = Date.now() + timeoutSeconds * 1_000;
      const answer = await Promise.race([
        this.#api.call({ requestId, functionArn: this.#arn, deadlineAt, payload }),
        sleep(timeoutSeconds * 1_000, "late" as const, { signal: until.signal }),
        this.#ended.then(() => "ended" as const),
      ]);
      if (answer === "ended") return this.#failed(exitError);
      if (answer === "late") {
        await this.end();
        const errorMessage = `${new Date().toISOString()} ${requestId} Task timed out after ${timeoutSeconds.toFixed(2)} seconds`;
        return this.#failed(JSON.stringify({ errorMessage }));
      }
      if (answer.kind !== "response") return this.#failed(answer.payload);
      return { payload: answer.payload, log: this.#log };
    } finally {
      until.abort();
    }
  }

  #failed(payload: string): Invoked {
    return { payload, functionError: "Unhandled", log: this.#log };
  }

  async end(): Promise<void> {
    if (this.isUsable) this.#child.kill("SIGKILL");
    await this.#ended;
    this.#api.close();
  }
}

const exitError = JSON.stringify({ errorType: "Runtime.ExitError", errorMessage: "Runtime exited without providing a reason" });
