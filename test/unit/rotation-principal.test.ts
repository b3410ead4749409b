import assert from "node:assert/strict";
import { test } from "node:test";
import { rootPrincipal } from "../../src/core/identity.ts";
import type { Principal } from "../../src/core/principal.ts";
import { rotationPrincipal, withSession } from "../../src/core/rotation-principal.ts";

const accountId = "123456789012";
const user: Principal = {
  kind: "user",
  arn: `arn:aws:iam::${accountId}:user/app`,
  accountId,
  userId: "AIDAAPP",
  userName: "app",
  tags: { team: "red" },
  policies: [{ name: "own", document: "{}" }],
};
const role: Principal = {
  kind: "role",
  arn: `arn:aws:iam::${accountId}:role/r`,
  roleArn: `arn:aws:iam::${accountId}:role/r`,
  accountId,
  userId: "AROAR",
  tags: { team: "red", place: "here" },
  policies: [],
};
const session: Principal = {
  ...role,
  arn: `arn:aws:sts::${accountId}:assumed-role/r/s`,
  userId: "AROAR:s",
  tags: { place: "here", Team: "blue" },
  sessionTags: { Team: "blue" },
  tokenIssuedAt: 5,
};
const inline = { name: "session policy", document: '{"Statement":[]}' };
const named = { name: `arn:aws:iam::${accountId}:policy/p`, document: "as it was" };

test("of root and users, who they are; what they may do is asked at each run", () => {
  const root = rootPrincipal(accountId);
  assert.deepEqual(rotationPrincipal(root), { arn: root.arn, id: accountId });
  const kept = rotationPrincipal(user);
  assert.deepEqual(kept, { arn: user.arn, id: "AIDAAPP" });
  const later = { ...user, policies: [], tags: { team: "green" } };
  assert.equal(withSession(later, kept, undefined), later);
  assert.equal(withSession({ ...later, userId: "AIDAOTHER" }, kept, undefined), undefined, "another one of the same name");
});

test("of a session, its name, tags and limits, over the role as it is then", () => {
  const kept = rotationPrincipal({ ...session, sessionPolicies: [inline, named] });
  assert.equal(kept.arn, role.arn);
  assert.deepEqual(kept.session?.policies, [inline, { name: named.name }], "a named policy is the one of its name at each run");
  const later = { ...role, tags: { team: "green", more: "tags" } };
  const then = withSession(later, kept, [inline]);
  assert.deepEqual(then, {
    ...later,
    arn: session.arn,
    userId: "AROAR:s",
    tags: { more: "tags", Team: "blue" },
    tokenIssuedAt: 5,
    sessionPolicies: [inline],
  });
  assert.deepEqual(withSession(later, kept, [])?.sessionPolicies, [], "policies that are gone allow nothing");
  assert.equal(withSession({ ...later, userId: "AROAOTHER" }, kept, [inline]), undefined);
});

test("a session without policies has no limits but its role's, and a token's limits stay with its user", () => {
  assert.equal(withSession(role, rotationPrincipal(session), undefined)?.sessionPolicies, undefined);
  const kept = rotationPrincipal({ ...user, sessionPolicies: [inline] });
  assert.deepEqual(withSession(user, kept, [inline]), { ...user, sessionPolicies: [inline] });
});
