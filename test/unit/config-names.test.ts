// What projects, environments, configs and their secrets may be called.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  checkBranchName,
  checkEnvironmentSlug,
  checkProjectName,
  checkSecretName,
  checkText,
  checkTitle,
  isManagedName,
  isSecretName,
  renamedBranch,
} from "../../src/core/config-names.ts";
import { ServiceError } from "../../src/core/error.ts";

/** The refusal's message, or `undefined` when nothing is refused. */
function refusal(check: () => unknown): string | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    assert.ok(error instanceof ServiceError);
    assert.equal(error.code, "ValidationException");
    return error.message;
  }
}

test("names of secrets", () => {
  for (const name of ["A", "_", "API_KEY", "_1", "S3", "A".repeat(200)]) {
    assert.equal(
      refusal(() => checkSecretName(name)),
      undefined,
      name,
    );
    assert.ok(isSecretName(name));
  }
  const only = (name: string) => `Secret name "${name}" may only contain uppercase letters, numbers, and underscores.`;
  for (const name of ["apiKey", "A-B", "A.B", "A B", "Ä", "A=B", `\${A}`]) {
    assert.equal(
      refusal(() => checkSecretName(name)),
      only(name),
    );
    assert.ok(!isSecretName(name));
  }
  assert.equal(
    refusal(() => checkSecretName("1A")),
    'Secret name "1A" may not start with a number.',
  );
  assert.equal(
    refusal(() => checkSecretName("")),
    "A secret name can't be empty.",
  );
  assert.match(refusal(() => checkSecretName("A".repeat(201))) ?? "", /^Secret name "A{100}…" is longer than 200 characters\.$/);
});

test("a refused name is shown on one line, cut, and as well-formed text", () => {
  assert.equal(
    refusal(() => checkSecretName("A\nB\u001b[31m")),
    'Secret name "A?B?[31m" may only contain uppercase letters, numbers, and underscores.',
  );
  assert.ok(refusal(() => checkSecretName("a\ud800"))?.isWellFormed());
  assert.ok((refusal(() => checkProjectName("x".repeat(1_000_000)))?.length ?? 0) < 200);
});

test("managed names are nobody's to write", () => {
  for (const brand of ["DOPPLER", "REKEY"])
    for (const what of ["PROJECT", "ENVIRONMENT", "CONFIG"]) {
      assert.ok(isManagedName(`${brand}_${what}`));
      assert.equal(
        refusal(() => checkSecretName(`${brand}_${what}`)),
        `Secret name "${brand}_${what}" is set by Rekey itself: choose another one.`,
      );
    }
  assert.ok(!isManagedName("DOPPLER_TOKEN") && !isManagedName("PROJECT"));
});

test("names of projects", () => {
  for (const name of ["a", "shop", "my.shop-2_x", "9", "a".repeat(64)])
    assert.equal(
      refusal(() => checkProjectName(name)),
      undefined,
    );
  for (const name of ["Shop", "a/b", "a b", ".a", "-a", "_a", "..", "a&b", "é", "a\n"])
    assert.match(
      refusal(() => checkProjectName(name)) ?? "",
      /^Project name ".*" may only contain lowercase letters, .*, and must start with/,
      name,
    );
  assert.equal(
    refusal(() => checkProjectName("")),
    "Project name can't be empty.",
  );
  assert.match(refusal(() => checkProjectName("a".repeat(65))) ?? "", /longer than 64/);
});

test("slugs of environments and names of branches", () => {
  assert.equal(
    refusal(() => checkEnvironmentSlug("dev")),
    undefined,
  );
  assert.match(refusal(() => checkEnvironmentSlug("de.v")) ?? "", /^Environment slug "de\.v" may only contain/);
  assert.equal(
    refusal(() => checkBranchName("dev_alice", "dev")),
    undefined,
  );
  for (const name of ["dev", "dev_", "dev-a", "stg_a", "xdev_a"])
    assert.equal(
      refusal(() => checkBranchName(name, "dev")),
      `Config name "${name}" must start with "dev_" and go on, as its environment is dev.`,
    );
  assert.match(refusal(() => checkBranchName("dev_A", "dev")) ?? "", /^Config name "dev_A" may only contain/);
  assert.match(refusal(() => checkBranchName(`dev_${"a".repeat(57)}`, "dev")) ?? "", /longer than 60/);
});

test("a branch follows its environment's slug", () => {
  assert.equal(renamedBranch("dev_dev_a", "dev", "development"), "development_dev_a");
  assert.match(refusal(() => renamedBranch(`dev_${"a".repeat(50)}`, "dev", "development")) ?? "", /longer than 60/);
});

test("what people read", () => {
  assert.equal(
    refusal(() => checkTitle("Environment name", "Entwicklung ü")),
    undefined,
  );
  assert.equal(
    refusal(() => checkTitle("Environment name", " ")),
    "Environment name can't be empty.",
  );
  assert.equal(
    refusal(() => checkTitle("Token name", "a\nb")),
    "Token name can't contain control characters.",
  );
  assert.equal(
    refusal(() => checkTitle("Token name", "\ud800")),
    "Token name can't contain control characters.",
  );
  assert.match(refusal(() => checkTitle("Token name", "a".repeat(101))) ?? "", /longer than 100/);
  assert.equal(
    refusal(() => checkText("Description", "")),
    undefined,
  );
  assert.equal(
    refusal(() => checkText("Note", "two\nlines\twith tabs")),
    undefined,
  );
  assert.match(refusal(() => checkText("Note", "a\u0007")) ?? "", /^Note can't contain control/);
  assert.match(refusal(() => checkText("Note", "a".repeat(2001))) ?? "", /longer than 2000/);
});
