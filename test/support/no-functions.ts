import type { FunctionDirectory } from "../../src/operations/services.ts";

const none = (): never => {
  throw new Error("there are no registered functions here");
};

/** Of a server that has none, and where every function that is named may be invoked. */
export const noFunctions: FunctionDirectory = {
  refusal: async () => undefined,
  policyOf: async () => undefined,
  check: none,
  timeoutAtAws: none,
  call: none,
  seal: none,
  forget: none,
};
