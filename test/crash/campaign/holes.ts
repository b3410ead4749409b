// Faults as other managers have had them, planted in a copy of the program: a campaign that does not find them proves nothing.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Hole {
  readonly name: string;
  readonly about: string;
  /** What must find it: the kills of a scenario, or a test file and the names of its tests. */
  readonly by: { readonly scenario: string } | { readonly test: string; readonly pattern: string };
  readonly changes: readonly Change[];
}

interface Change {
  readonly file: string;
  /** Occurs once in the file. */
  readonly from: string;
  readonly to: string;
}

const rotate = "src/engine/rotate.ts";
const commitOfPending = "  const commit = () => commitPending(held, turn, made ? undefined : value, hold);\n";
const commitOfIssued =
  "  held.stepDone();\n  await commitPending(held, turn, credentialValue(issued), (unchanged) => unchanged);\n";

export const holes: readonly Hole[] = [
  {
    name: "value-in-memory",
    about: "the target is told before the new value is stored",
    by: { scenario: "postgres/single-user" },
    changes: [
      {
        file: rotate,
        from: commitOfPending,
        to: `  if (strategy === "single-user")
    await rotator.set({ pending, current, previous: undefined, admin: undefined }, strategy, await held.tools());\n${commitOfPending}`,
      },
    ],
  },
  {
    name: "value-anew",
    about: "a repeated step makes another value and sets that one",
    by: { scenario: "mariadb/single-user" },
    changes: [
      {
        file: rotate,
        from: '  const pending = suitable(rotator, parseCredential(value, "the pending value"), "the pending value");\n',
        to: `  const again = made && held.rotation.step !== "createSecret";
  const pending = again ? await rotator.create(current, strategy, await held.tools())
    : suitable(rotator, parseCredential(value, "the pending value"), "the pending value");\n`,
      },
      // Without a look at what is in force.
      {
        file: rotate,
        from: 'doubtful ? await probe(held, turn, pending) : { decision: "set" }',
        to: 'doubtful && !probe ? { decision: "proceed" } : { decision: "set" }',
      },
    ],
  },
  {
    name: "label-before-test",
    about: "a new key is current before anybody tried it",
    by: { scenario: "aws-iam/issuer" },
    changes: [
      {
        file: rotate,
        from: '  if (held.rotation.step === "testSecret") {\n',
        to: '  if (held.rotation.step === "testSecret" && turn.strategy === "issuer") held.stepDone();\n  if (held.rotation.step === "testSecret") {\n',
      },
    ],
  },
  {
    name: "label-before-set",
    about: "the label moves first, then the password",
    by: { scenario: "postgres/alternating-users" },
    changes: [
      {
        file: rotate,
        from: "  await finishSecret(held, turn);\n",
        to: `  if (turn.strategy !== "alternating-users") await finishSecret(held, turn);\n`,
      },
      {
        file: rotate,
        from: "  } else await putInForce(held, turn, pending, { doubtful, barrier });\n",
        to: `  } else if (turn.strategy === "alternating-users") {
    const before = { ...held.rotation };
    held.rotation = { ...before, step: "finishSecret" };
    await finishSecret(held, turn);
    held.rotation = before;
    return setSecret(held, turn, pending, { decision: "set", barrier });
  } else await putInForce(held, turn, pending, { doubtful, barrier });\n`,
      },
    ],
  },
  {
    name: "no-fence",
    about: "whoever lost its claim still writes",
    by: { test: "test/crash/split-brain.test.ts", pattern: "postgres/alternating-users" },
    changes: [
      {
        file: "src/store/rotation-claims.ts",
        from: "and fence = $2 and state = 'running' returning id`,\n    [\n      after.id,",
        to: "and $2 = $2 returning id`,\n    [\n      after.id,",
      },
    ],
  },
  {
    name: "unreachable-is-refused",
    about: "a target that is down counts as one that refuses the password",
    by: { test: "test/crash/faults.test.ts", pattern: "postgres/single-user" },
    changes: [{ file: "src/targets/postgres-errors.ts", from: 'ECONNRESET: "unreachable"', to: 'ECONNRESET: "refused"' }],
  },
  {
    name: "delete-oldest-key",
    about: "where the target is full, the oldest key goes, whatever it is",
    by: { scenario: "aws-iam/issuer, kept" },
    changes: [
      {
        file: "src/engine/issue-room.ts",
        from: "  const nowMs = held.parts.now();\n",
        to: `  const nowMs = held.parts.now();
  const [oldest] = [...listed].sort((a, b) => (a.createdAt ?? 0) - (b.createdAt ?? 0));
  if (oldest) {
    await issuer.delete(oldest.id, access, await held.tools());
    return oldest.id;
  }\n`,
      },
    ],
  },
  {
    name: "strays-forgotten",
    about: "a key that was made and not stored is never looked for",
    by: { scenario: "aws-iam/issuer" },
    changes: [
      {
        file: "src/engine/issued.ts",
        from: "if (mayDelete(id, named, now()))",
        to: "if (mayDelete(id, named, now()) && id === '')",
      },
    ],
  },
  {
    name: "slot-emptied",
    about: "a second password drives out the one that is in use",
    by: { scenario: "redis/dual-slot" },
    changes: [
      {
        file: "src/targets/redis.ts",
        from: "hash !== wanted && hash !== inForce",
        to: "hash !== wanted && hash !== inForce?.slice(1)",
      },
    ],
  },
  {
    name: "retired-early",
    about: "old credentials end at once, whatever their grace period",
    by: { scenario: "redis/dual-slot" },
    changes: [
      {
        file: "src/engine/finish.ts",
        from: "const dueAt = createdAt + (retireAfterMs(strategy, secret) ?? 0);",
        to: "const dueAt = createdAt;",
      },
    ],
  },
  {
    name: "event-apart",
    about: "what happened is told after the commit",
    by: { scenario: "postgres/alternating-users" },
    changes: [
      {
        file: "src/engine/held-rotation.ts",
        from: "      if (event !== undefined) await this.#addEvent(tx, event, secret);\n      await also?.(tx, secret);\n      return secret;\n    });\n",
        to: `      await also?.(tx, secret);
      return secret;
    });
    const told = this.#secret;
    if (event !== undefined && told) await sql.transaction((tx) => this.#addEvent(tx, event, told));\n`,
      },
    ],
  },
  {
    name: "lease-forgotten",
    about: "a user whose making was under way when its process died is taken for one that was not made",
    by: { scenario: "leases, postgres" },
    changes: [
      {
        file: "src/core/lease.ts",
        from: '      if (takenOver) return { kind: "begin-revoking", reason: "failed" };\n',
        to: '      if (takenOver) return { kind: "drop", reason: "failed" };\n',
      },
    ],
  },
  {
    name: "session-lives-on",
    about: "the user of a lease is gone, and who had logged in as it stays",
    by: { scenario: "leases, postgres" },
    changes: [
      {
        file: "src/targets/lease-postgres-revoke.ts",
        from: '    await endSessions(db, "usesysid = $1::oid", role.oid, manager.deadlineAt);\n',
        to: "",
      },
    ],
  },
  {
    name: "config-apart",
    about: "whoever reads the config is told of a rotation after the commit",
    by: { scenario: "postgres/alternating-users, shown by a config" },
    changes: [
      {
        file: "src/engine/finish.ts",
        from: "    raised = await tellOwner(tx, parts, turn);\n  });\n",
        to: "  });\n  raised = await parts.sql.transaction((tx) => tellOwner(tx, parts, turn));\n",
      },
    ],
  },
  {
    name: "value-in-log",
    about: "the log shows the new credential",
    by: { scenario: "postgres/alternating-users" },
    changes: [{ file: rotate, from: commitOfPending, to: `  parts.log.info({ pending }, "made");\n${commitOfPending}` }],
  },
  {
    name: "intent-after",
    about: "what is to be asked for is noted when it was answered",
    by: { scenario: "aws-iam/issuer" },
    changes: [
      {
        file: "src/engine/issue.ts",
        from: "  await commitPending(held, turn, undefined, (unchanged) => unchanged);\n  const issued",
        to: "  const issued",
      },
      { file: "src/engine/issue.ts", from: commitOfIssued, to: commitOfIssued },
    ],
  },
  {
    name: "journal-after-verb",
    about: "an agent runs what it is asked for before it is in its journal",
    by: { test: "test/crash/far-journal.test.ts", pattern: "killed at any point of a job" },
    changes: [
      {
        file: "src/functions/agent-jobs.ts",
        from: "  const begun = begin(request, await",
        to: "  const early = decline === undefined ? await perform(request, job, parts) : undefined;\n  const begun = begin(request, await",
      },
      {
        file: "src/functions/agent-jobs.ts",
        from: "  const outcome = await perform(request, job, parts);",
        to: "  const outcome = early ?? (await perform(request, job, parts));",
      },
    ],
  },
  {
    name: "late-claim-runs",
    about: "an agent runs jobs of an older claim after those of a younger one",
    by: { test: "test/crash/far-journal.test.ts", pattern: "a job of an older claim" },
    changes: [
      {
        file: "src/functions/agent-journal.ts",
        from: "if (entry.fence < Number(fenceOf.get(entry.subject)?.fence ?? entry.fence))",
        to: "if (entry.fence < Number(fenceOf.get(entry.subject)?.fence ?? entry.fence) - 1_000)",
      },
    ],
  },
];

/** @throws Error when the program has changed and the hole does not fit any more. */
export function plant({ name, changes }: Hole, root: string): void {
  for (const { file, from, to } of changes) {
    const path = join(root, file);
    const text = readFileSync(path, "utf8");
    if (text.split(from).length !== 2) throw new Error(`hole ${name} does not fit ${file}: ${JSON.stringify(from)}`);
    writeFileSync(
      path,
      text.replace(from, () => to),
    );
  }
}
