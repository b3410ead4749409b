import assert from "node:assert/strict";
import { type ErrorCode, ServiceError } from "../../src/core/error.ts";

/** That `act` is refused with the code, and in these words. */
export const refuses = (code: ErrorCode, message: string | RegExp, act: () => unknown) =>
  assert.throws(act, (error: unknown) => {
    assert.ok(error instanceof ServiceError, String(error));
    assert.equal(error.code, code);
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    return true;
  });
