import assert from "node:assert/strict";
import { test } from "node:test";
import { type CandidateSecret, validityOf } from "../../src/core/candidate.ts";

const of = (stage: "AWSCURRENT" | "AWSPREVIOUS" | "AWSPENDING", more: object = {}) => ({
  stage,
  versionId: stage,
  isRetired: false,
  ...more,
});
const inForce = (secret: Omit<CandidateSecret, "generation">) =>
  (["AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"] as const).map(
    (stage) => validityOf(of(stage), { generation: 5, ...secret }).inForce,
  );

test("what is in force follows what the target was last seen to take, and the strategy", () => {
  assert.deepEqual(inForce({ strategy: "single-user" }), [true, false, false]);
  assert.deepEqual(inForce({ strategy: "alternating-users" }), [true, true, false]);
  assert.deepEqual(inForce({ strategy: "dual-slot", setTo: "AWSPENDING" }), [true, true, true]);
  assert.deepEqual(inForce({ strategy: "single-user", switchedTo: "AWSPENDING" }), [false, false, true]);
  assert.deepEqual(inForce({}), [true, false, false]);
});

test("an old credential that was ended is not in force; until its deadline it is", () => {
  const secret: CandidateSecret = { generation: 5, strategy: "issuer" };
  assert.deepEqual(validityOf(of("AWSPREVIOUS", { retiresAt: 9 }), secret), { generation: 4, inForce: true, validUntil: 9 });
  assert.equal(validityOf(of("AWSPREVIOUS", { isRetired: true }), secret).inForce, false);
  assert.equal(validityOf(of("AWSPENDING"), secret).generation, 6);
});
