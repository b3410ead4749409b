// Runs a function's handler as AWS's runtimes for Node.js do, on any version of it: asks Lambda's Runtime API for calls and hands
// the answers back. Arguments: the program's file, the name of its handler.
import { createRequire } from "node:module";

const [, , file, handlerName] = process.argv;
const { AWS_LAMBDA_FUNCTION_MEMORY_SIZE, AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_RUNTIME_API } = process.env;
const root = `http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime`;

function post(path, body) {
  return fetch(`${root}${path}`, { method: "POST", body: JSON.stringify(body ?? null) });
}

function told({ name, message, stack = "" }) {
  return { errorType: name, errorMessage: message, stackTrace: stack.split("\n") };
}

let handler;
try {
  handler = createRequire(file)(file)[handlerName];
  if (typeof handler !== "function") throw new Error(`${handlerName} is undefined or not exported`);
} catch (error) {
  await post("/init/error", told(error));
  process.exit(1);
}
for (;;) {
  const next = await fetch(`${root}/invocation/next`);
  const id = next.headers.get("lambda-runtime-aws-request-id");
  const deadlineAt = Number(next.headers.get("lambda-runtime-deadline-ms"));
  const context = {
    awsRequestId: id,
    functionName: AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: "$LATEST",
    invokedFunctionArn: next.headers.get("lambda-runtime-invoked-function-arn"),
    memoryLimitInMB: AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    getRemainingTimeInMillis: () => Math.max(0, deadlineAt - Date.now()),
  };
  try {
    await post(`/invocation/${id}/response`, await handler(await next.json(), context));
  } catch (error) {
    await post(`/invocation/${id}/error`, told(error));
  }
}
