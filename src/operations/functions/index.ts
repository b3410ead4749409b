import type { Operation } from "../operation.ts";
import { createFunction, deleteFunctionOperation, putFunctionPolicy, updateFunctionOperation } from "./change-functions.ts";
import { getFunction, getFunctionLogs, getFunctionPolicy, invokeFunction, listFunctionsOperation } from "./read-functions.ts";

/** Functions that rotations name, under AWS Lambda's action names where it has the action. */
export const functionOperations: readonly Operation[] = [
  createFunction,
  updateFunctionOperation,
  deleteFunctionOperation,
  putFunctionPolicy,
  getFunction,
  getFunctionLogs,
  getFunctionPolicy,
  invokeFunction,
  listFunctionsOperation,
];
