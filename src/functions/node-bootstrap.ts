// Runs in the process of a function with a Node handler: asks for calls, gives them to the handler, hands its answers back.
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { registerHooks } from "node:module";
import { sep } from "node:path";
import { json } from "node:stream/consumers";
import { fileURLToPath, pathToFileURL } from "node:url";

type Handler = (event: unknown, context: object, callback: (error: unknown, result?: unknown) => void) => unknown;

const { AWS_LAMBDA_RUNTIME_API: api = "", AWS_LAMBDA_FUNCTION_NAME: functionName, AWS_LAMBDA_FUNCTION_MEMORY_SIZE } = process.env;
const [, , file = "", handlerName = "", within] = process.argv;
const root = `http://${api}/2018-06-01/runtime`;
const agent = new Agent({ keepAlive: false });

if (within !== undefined) loadOnlyFrom(within);
const handler = await loadHandler().catch(async (error: unknown) => {
  await post("/init/error", describe(error));
  process.exit(1);
});
for (;;) await next(handler);

/** Node looks for packages in every folder above, too, where there may be code that nobody signed. */
function loadOnlyFrom(folder: string): void {
  registerHooks({
    resolve(specifier, context, nextResolve) {
      const found = nextResolve(specifier, context);
      if (found.url.startsWith("file:") && !fileURLToPath(found.url).startsWith(folder + sep))
        throw Object.assign(new Error(`${specifier} is not in the function's bundle`), { name: "Runtime.OutsideBundle" });
      return found;
    },
  });
}

async function loadHandler(): Promise<Handler> {
  const loaded = (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  // A CommonJS file's exports come as the default one where Node cannot tell their names.
  for (const exported of [loaded, loaded.default]) {
    if ((typeof exported !== "object" || exported === null) && typeof exported !== "function") continue;
    const found: unknown = Object.hasOwn(exported, handlerName) ? (exported as Record<string, unknown>)[handlerName] : undefined;
    if (typeof found === "function") return found as Handler;
  }
  throw Object.assign(new Error(`${file} exports no function ${handlerName}`), { name: "Runtime.HandlerNotFound" });
}

async function next(handle: Handler): Promise<void> {
  const { headers, body: event } = await ask("GET", "/invocation/next");
  const id = String(headers["lambda-runtime-aws-request-id"]);
  const deadlineAt = Number(headers["lambda-runtime-deadline-ms"]);
  const context = {
    awsRequestId: id,
    functionName,
    functionVersion: "$LATEST",
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    memoryLimitInMB: AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: "",
    logStreamName: "",
    callbackWaitsForEmptyEventLoop: false,
    getRemainingTimeInMillis: () => Math.max(0, deadlineAt - Date.now()),
  };
  try {
    await post(`/invocation/${id}/response`, (await answerOf(handle, event, context)) ?? null);
  } catch (error) {
    console.error(error);
    await post(`/invocation/${id}/error`, describe(error));
  }
}

/** Of a handler that returns its answer or a promise of it, or calls back with it. */
function answerOf(handle: Handler, event: unknown, context: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const callback = (error: unknown, result?: unknown) => (error ? reject(error) : resolve(result));
    const returned = handle(event, context, callback);
    if (handle.length < 3 || returned instanceof Promise) resolve(returned);
  });
}

/** Waits as long as it takes: there may be no call for a while. */
function ask(method: string, path: string, body?: string): Promise<{ headers: IncomingHttpHeaders; body: unknown }> {
  return new Promise((resolve, reject) => {
    const asked = request(root + path, { method, agent, headers: { "Content-Type": "application/json" } });
    asked.on("error", reject);
    asked.on("response", (response) => {
      json(response).then((answer) => resolve({ headers: response.headers, body: answer }), reject);
    });
    asked.end(body);
  });
}

async function post(path: string, body: unknown): Promise<void> {
  await ask("POST", path, JSON.stringify(body));
}

function describe(error: unknown): { errorMessage: string; errorType: string; stackTrace: string[] } {
  const known = error instanceof Error ? error : new Error(String(error));
  return { errorMessage: known.message, errorType: known.name, stackTrace: (known.stack ?? "").split("\n").slice(0, 20) };
}
