// Whether the campaign finds faults that are planted in a copy of the program: another one for each commit; `npm run crash -- --holes`
// plants all.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { sampleOf } from "../support/sample.ts";
import { findHole, skipOf } from "./campaign/find-hole.ts";
import { type Hole, holes, plant } from "./campaign/holes.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const sampled = 1;
const kills = 60;

describe("planted holes", () => {
  for (const hole of sampleOf(holes, sampled, "holes")) {
    test(`${hole.name} is found: ${hole.about}`, { skip: skipOf(hole) }, async (context) => {
      const found = await findHole(hole, { root, kills, seed: 1 });
      context.diagnostic(String(found));
      assert.ok(found, "nothing shows it");
    });
  }

  const by = { scenario: "aws-iam/issuer" };
  const control: Hole = { name: "none", about: "the program as it is", by, changes: [] };
  test("in a copy without any there is nothing to find", { skip: skipOf(control) }, async () => {
    assert.equal(await findHole(control, { root, kills: 3, seed: 1 }), undefined);
  });

  test("each fits the program as it is now; one that does not is no hole", () => {
    for (const hole of holes) withCopyOf(hole, (copy) => plant(hole, copy));
    for (const hole of holes) {
      const changes = hole.changes.map((change) => ({ ...change, from: `${change.from} once` }));
      withCopyOf(hole, (copy) => assert.throws(() => plant({ ...hole, changes }, copy), /does not fit/));
    }
  });

  test("a campaign that cannot run has found nothing", async () => {
    const broken: Hole = {
      name: "broken",
      about: "a program that does not start",
      by: { scenario: "aws-iam/issuer" },
      changes: [{ file: "src/engine/loop.ts", from: "export function startEngine(", to: "export function noEngine(" }],
    };
    await assert.rejects(findHole(broken, { root, kills: 3, seed: 1 }), /not found, the program fails/);
    const noTest: Hole = { ...broken, by: { test: "test/crash/split-brain.test.ts", pattern: "redis/dual-slot" } };
    await assert.rejects(findHole(noTest, { root, kills: 3, seed: 1 }), /not found, the test fails/);
  });
});

function withCopyOf({ changes }: Hole, work: (copy: string) => void): void {
  const copy = mkdtempSync(join(tmpdir(), "rekey-hole-"));
  try {
    for (const { file } of changes) cpSync(join(root, file), join(copy, file));
    work(copy);
  } finally {
    rmSync(copy, { recursive: true });
  }
}
