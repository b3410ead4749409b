import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ServiceError } from "../../src/core/error.ts";
import { addPending, addVersion, detach, moveLabel, type SealedValue, type Secret } from "../../src/core/secret.ts";

const hourMs = 3_600_000;
const empty: Secret = {
  id: "row",
  region: "eu-central-1",
  name: "db/main",
  arn: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db/main-AbCdEf",
  createdAt: 0,
  lastChangedAt: 0,
  generation: 0,
  rowVersion: 1,
  versions: [],
};

/** Stands for a sealed value: only kind and digest count here. */
function value(text: string, kind: SealedValue["kind"] = "string"): SealedValue {
  const bytes = Buffer.from(text);
  return { kind, sealed: bytes, wrappedDataKey: bytes, keyId: "key", keyVersion: 1, digest: bytes };
}

type Step = (secret: Secret) => Secret;
const put =
  (id: string, stages?: string[], nowMs = 0): Step =>
  (secret) =>
    addVersion(secret, { id, stages, value: value(`value of ${id}`), createdAt: nowMs }).secret;
const move =
  (label: string, moveTo?: string, removeFrom?: string): Step =>
  (secret) =>
    moveLabel(secret, { label, moveTo, removeFrom }, 0);
const after = (...steps: Step[]): Secret => steps.reduce((secret, step) => step(secret), empty);

const initials: Record<string, string> = { AWSCURRENT: "C", AWSPREVIOUS: "P", AWSPENDING: "N" };

/** `v1[P] v2[C,N]`: labelled versions in the order of their ids. */
function shown(secret: Secret): string {
  return secret.versions
    .filter(({ stages }) => stages.length > 0)
    .map(({ id, stages }) => `${id}[${stages.map((stage) => initials[stage] ?? stage).sort()}]`)
    .sort()
    .join(" ");
}

const refuses = (code: string, message: string | RegExp, act: () => unknown) =>
  assert.throws(act, (error: unknown) => {
    assert(error instanceof ServiceError);
    assert.equal(error.code, code);
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    return true;
  });

describe("a new value", () => {
  const cases: [string, Step[], string][] = [
    ["the first is current", [put("v1")], "v1[C]"],
    ["the first is current beside the labels asked for", [put("v1", ["mine", "AWSPENDING"])], "v1[C,N,mine]"],
    ["the second is current, the first previous", [put("v1"), put("v2")], "v1[P] v2[C]"],
    ["the one before the previous has no label", [put("v1"), put("v2"), put("v3")], "v2[P] v3[C]"],
    ["without labels removes AWSPENDING from wherever it is", [put("v1"), put("v2", ["AWSPENDING"]), put("v3")], "v1[P] v3[C]"],
    ["without labels leaves others' own labels", [put("v1", ["mine"]), put("v2")], "v1[P,mine] v2[C]"],
    ["with AWSCURRENT among its labels", [put("v1", ["a", "b"]), put("v2", ["AWSCURRENT", "b"])], "v1[P,a] v2[C,b]"],
    ["with AWSCURRENT also ends AWSPENDING", [put("v1"), put("v2", ["AWSPENDING"]), put("v3", ["AWSCURRENT"])], "v1[P] v3[C]"],
    [
      "with AWSCURRENT and AWSPENDING bears both",
      [put("v1"), put("v2", ["AWSPENDING"]), put("v3", ["AWSCURRENT", "AWSPENDING"])],
      "v1[P] v3[C,N]",
    ],
    ["AWSPREVIOUS stays the way back", [put("v1"), put("v2", ["AWSCURRENT", "AWSPREVIOUS"])], "v1[P] v2[C]"],
    ["with other labels leaves AWSCURRENT", [put("v1"), put("v2", ["mine"])], "v1[C] v2[mine]"],
    ["with other labels leaves AWSPENDING", [put("v1"), put("v2", ["AWSPENDING"]), put("v3", ["x"])], "v1[C] v2[N] v3[x]"],
    ["AWSPENDING moves if asked for", [put("v1"), put("v2", ["AWSPENDING"]), put("v3", ["AWSPENDING"])], "v1[C] v3[N]"],
    ["labels that only begin with AWS are free", [put("v1"), put("v2", ["AWSSOMETHING"])], "v1[C] v2[AWSSOMETHING]"],
    ["a label named twice counts once", [put("v1"), put("v2", ["mine", "mine"])], "v1[C] v2[mine]"],
  ];
  for (const [name, steps, expected] of cases) test(name, () => assert.equal(shown(after(...steps)), expected));
});

describe("sequences recorded from AWS", () => {
  test("a pending version made current keeps AWSPENDING until a plain value comes", () => {
    const moved = after(put("v1"), put("v2", ["AWSPENDING"]), move("AWSCURRENT", "v2", "v1"));
    assert.equal(shown(moved), "v1[P] v2[C,N]");
    assert.equal(shown(put("v3")(moved)), "v2[P] v3[C]");
  });

  test("two cycles through AWSPENDING", () => {
    const first = after(put("v1"), put("v2", ["AWSPENDING"]), move("AWSCURRENT", "v2", "v1"));
    assert.equal(shown(first), "v1[P] v2[C,N]");
    const second = put("v3", ["AWSPENDING"])(first);
    assert.equal(shown(second), "v1[P] v2[C] v3[N]");
    assert.equal(shown(move("AWSCURRENT", "v3", "v2")(second)), "v2[P] v3[C,N]");
  });

  test("own labels stay where they are while the three move", () => {
    const secret = after(
      put("v1"),
      put("v2", ["SOME", "AWSPENDING", "PUT1"]),
      move("AWSCURRENT", "v2", "v1"),
      put("v3", ["AWSPENDING", "PUT2"]),
      move("AWSCURRENT", "v3", "v2"),
    );
    assert.equal(shown(secret), "v2[P,PUT1,SOME] v3[C,N,PUT2]");
  });

  test("own labels move from version to version", () => {
    const three = after(put("v0"), put("v1", ["one", "two", "three"]));
    assert.equal(shown(put("v2", ["one", "two", "three", "four"])(three)), "v0[C] v2[four,one,three,two]");
    assert.equal(shown(put("v2", ["one", "four"])(three)), "v0[C] v1[three,two] v2[four,one]");
  });
});

describe("a token that is used again", () => {
  const known = after(put("v1"), put("v2"));

  test("with the same value changes nothing, whatever labels are asked for", () => {
    for (const stages of [undefined, ["AWSCURRENT"], ["mine"]]) {
      const again = addVersion(known, { id: "v1", stages, value: value("value of v1"), createdAt: 5 });
      assert.equal(again.changed, false);
      assert.equal(again.secret, known);
    }
  });

  test("with another value, or the same bytes of another kind, is refused", () => {
    const text = `You can't use ClientRequestToken v1 because that value is already in use for a version of secret ${empty.arn}.`;
    for (const other of [value("other"), value("value of v1", "binary")])
      refuses("ResourceExistsException", text, () => addVersion(known, { id: "v1", value: other, createdAt: 0 }));
  });
});

describe("a version that a rotation made without value", () => {
  const begun = addPending(after(put("v1")), "v2", 7);

  test("bears AWSPENDING and leaves the rest", () => {
    assert.equal(shown(begun), "v1[C] v2[N]");
    assert.equal(begun.versions.find(({ id }) => id === "v2")?.digest, undefined);
    assert.equal(begun.generation, 1);
    assert.equal(begun.lastChangedAt, 7);
  });

  test("is filled under its token, keeping the time it was made", () => {
    const filled = put("v2", ["AWSPENDING"], 9)(begun);
    assert.equal(shown(filled), "v1[C] v2[N]");
    assert.deepEqual(
      filled.versions.filter(({ id }) => id === "v2").map(({ createdAt, kind }) => [createdAt, kind]),
      [[7, "string"]],
    );
    assert.equal(shown(move("AWSCURRENT", "v2", "v1")(filled)), "v1[P] v2[C,N]");
  });

  test("cannot be current before it is filled", () => {
    refuses("InvalidRequestException", /has no value/, () => move("AWSCURRENT", "v2", "v1")(begun));
  });

  test("does not count as the secret's first value", () => {
    assert.equal(shown(put("v1", ["AWSPENDING"])(addPending(empty, "v1", 0))), "v1[C,N]");
    assert.equal(shown(put("v2", ["mine"])(addPending(empty, "v1", 0))), "v2[C,mine]");
  });

  test("beginning again with the same token changes no label", () => {
    assert.equal(shown(addPending(begun, "v2", 9)), "v1[C] v2[N]");
  });

  test("takes AWSPENDING from an older version", () => {
    assert.equal(shown(addPending(begun, "v3", 9)), "v1[C] v3[N]");
  });
});

describe("moving labels", () => {
  const two = after(put("v1", ["mine"]), put("v2"));

  const moves: [string, Step, string][] = [
    ["attach a free label", move("new", "v1"), "v1[P,mine,new] v2[C]"],
    ["move a label from its holder", move("mine", "v2", "v1"), "v1[P] v2[C,mine]"],
    ["detach", move("mine", undefined, "v1"), "v1[P] v2[C]"],
    ["detach AWSPREVIOUS", move("AWSPREVIOUS", undefined, "v1"), "v1[mine] v2[C]"],
    ["AWSCURRENT to the previous one swaps both", move("AWSCURRENT", "v1", "v2"), "v1[C,mine] v2[P]"],
    ["to where it is already", move("mine", "v1"), "v1[P,mine] v2[C]"],
    ["to and from where it is", move("mine", "v1", "v1"), "v1[P,mine] v2[C]"],
  ];
  for (const [name, step, expected] of moves) test(name, () => assert.equal(shown(step(two)), expected));

  test("a version without its last label stays, as deprecated", () => {
    const secret = after(put("v1"), put("v2", ["x"]), move("x", undefined, "v2"));
    assert.deepEqual(secret.versions.map(({ id, stages }) => [id, stages.length]).sort(), [
      ["v1", 1],
      ["v2", 0],
    ]);
  });

  test("to where it is already is no change at all", () => assert.equal(move("AWSCURRENT", "v2")(two), two));

  const refused: [string, Step, string, string | RegExp][] = [
    [
      "AWSCURRENT removed",
      move("AWSCURRENT", undefined, "v2"),
      "InvalidParameterException",
      "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.",
    ],
    [
      "moved from a holder that is not named",
      move("mine", "v2"),
      "InvalidParameterException",
      "The parameter RemoveFromVersionId can't be empty. Staging label mine is currently attached to version v1, so you must explicitly reference that version in RemoveFromVersionId.",
    ],
    [
      "moved from another version than its holder",
      move("AWSCURRENT", "v1", "v1"),
      "InvalidParameterException",
      "When you move staging label AWSCURRENT, if you specify RemoveFromVersionId, it must be set to the version that currently has the staging label AWSCURRENT.",
    ],
    ["a free label moved from a version", move("new", "v1", "v2"), "InvalidParameterException", /it must be set to the version/],
    [
      "detached from another version",
      move("mine", undefined, "v2"),
      "InvalidParameterException",
      /is not attached to version v2/,
    ],
    ["neither to nor from", move("mine"), "InvalidParameterException", /MoveToVersionId/],
    [
      "to an unknown version",
      move("mine", "v9", "v1"),
      "ResourceNotFoundException",
      "Secrets Manager can't find the specified secret value for VersionId: v9",
    ],
    ["from an unknown version", move("mine", "v2", "v9"), "ResourceNotFoundException", /VersionId: v9$/],
  ];
  for (const [name, step, code, message] of refused) test(`refused: ${name}`, () => refuses(code, message, () => step(two)));
});

describe("limits", () => {
  const names = (count: number, prefix = "l") => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

  test("20 labels over all versions, the three included", () => {
    const full = after(put("v1", names(9, "a")), put("v2", names(9, "b")));
    assert.equal(full.versions.flatMap(({ stages }) => stages).length, 19);
    const twenty = move("last", "v1")(full);
    refuses("LimitExceededException", /20 staging labels/, () => move("one too many", "v1")(twenty));
    refuses("LimitExceededException", /20 staging labels/, () => put("v3", ["one too many"])(twenty));
    refuses("LimitExceededException", /20 staging labels/, () => addPending(twenty, "v3", 0));
    assert.equal(shown(move("last", "v2", "v1")(twenty)).match(/last/g)?.length, 1, "moving one is no new one");
    put("v3", ["last", "a0", "b0"])(twenty);
  });

  const many = (count: number, nowMs = 0): Secret =>
    names(count, "v").reduce((secret, id, i) => put(id, undefined, nowMs + i)(secret), empty);

  test("the hundred-and-first version ends the oldest without label", () => {
    const secret = put("new", undefined, 25 * hourMs)(many(100));
    assert.equal(secret.versions.length, 100);
    assert(!secret.versions.some(({ id }) => id === "v0"));
    assert.equal(shown(secret), "new[C] v99[P]");
  });

  test("labelled versions stay, however old", () => {
    const secret = put("new", undefined, 25 * hourMs)(move("keep", "v0")(many(100)));
    assert(secret.versions.some(({ id }) => id === "v0"));
    assert(!secret.versions.some(({ id }) => id === "v1"));
  });

  test("none younger than 24 hours is ended: refused instead", () => {
    const young = many(100, hourMs);
    refuses("LimitExceededException", /100 versions/, () => put("new", undefined, 25 * hourMs - 1)(young));
    assert.equal(put("new", undefined, 25 * hourMs)(young).versions.length, 100);
    refuses("LimitExceededException", /100 versions/, () => addPending(young, "new", 2 * hourMs));
  });

  test("a token that is known needs no room", () => {
    const full = many(100);
    assert.equal(put("v5", undefined, 1)(full), full);
  });
});

/** What labels do, written a second time: label to version id, and nothing else. */
class Model {
  labels = new Map<string, string>();
  readonly filled = new Set<string>();
  readonly known = new Set<string>();
  generation = 0;

  current(id: string): void {
    const former = this.labels.get("AWSCURRENT");
    if (former === id) return;
    this.labels.set("AWSCURRENT", id);
    this.generation += 1;
    if (former === undefined) return;
    this.labels.set("AWSPREVIOUS", former);
  }

  put(id: string, stages: readonly string[] = ["AWSCURRENT"]): void {
    if (this.filled.has(id)) return;
    const first = this.filled.size === 0;
    this.filled.add(id);
    this.known.add(id);
    const moves = first || stages.includes("AWSCURRENT");
    if (moves) this.current(id);
    if (moves && !stages.includes("AWSPENDING")) this.labels.delete("AWSPENDING");
    for (const stage of stages)
      if (stage !== "AWSCURRENT" && !(moves && !first && stage === "AWSPREVIOUS")) this.labels.set(stage, id);
  }

  pending(id: string): void {
    this.known.add(id);
    this.labels.set("AWSPENDING", id);
  }

  /** False when it must be refused. */
  move(label: string, to: string | undefined, from: string | undefined): boolean {
    const holder = this.labels.get(label);
    for (const id of [to, from]) if (id !== undefined && !this.known.has(id)) return false;
    if (to === undefined) return this.remove(label, holder, from);
    if (holder !== (from ?? holder) || (from === undefined && holder !== undefined && holder !== to)) return false;
    if (holder === to) return true;
    if (label === "AWSCURRENT" && !this.filled.has(to)) return false;
    if (label === "AWSCURRENT") this.current(to);
    else this.labels.set(label, to);
    return true;
  }

  private remove(label: string, holder: string | undefined, from: string | undefined): boolean {
    if (from === undefined || label === "AWSCURRENT" || holder !== from) return false;
    this.labels.delete(label);
    return true;
  }
}

const anyId = fc.constantFrom("v1", "v2", "v3", "v4");
const anyLabel = fc.constantFrom("AWSCURRENT", "AWSPREVIOUS", "AWSPENDING", "x", "y");
type Act = (secret: Secret, model: Model) => Secret;
const tried = (act: () => Secret): Secret | undefined => {
  try {
    return act();
  } catch (error) {
    assert(error instanceof ServiceError, String(error));
    return undefined;
  }
};
const anyAct: fc.Arbitrary<Act> = fc.oneof(
  fc.record({ id: anyId, stages: fc.option(fc.uniqueArray(anyLabel, { minLength: 1, maxLength: 3 }), { nil: undefined }) }).map(
    ({ id, stages }): Act =>
      (secret, model) => {
        model.put(id, stages);
        return put(id, stages)(secret);
      },
  ),
  anyId.map(
    (id): Act =>
      (secret, model) => {
        model.pending(id);
        return addPending(secret, id, 0);
      },
  ),
  fc.record({ label: anyLabel, to: fc.option(anyId, { nil: undefined }), from: fc.option(anyId, { nil: undefined }) }).map(
    ({ label, to, from }): Act =>
      (secret, model) => {
        const moved = tried(() => move(label, to, from)(secret));
        assert.equal(moved !== undefined, model.move(label, to, from), `move ${label} to ${to} from ${from}`);
        return moved ?? secret;
      },
  ),
  fc.constantFrom("AWSPENDING", "x").map(
    (label): Act =>
      (secret, model) => {
        model.labels.delete(label);
        return detach(secret, label);
      },
  ),
);

function checkInvariants(before: Secret, now: Secret): void {
  const labels = now.versions.flatMap(({ stages }) => stages);
  assert.equal(new Set(labels).size, labels.length, "a label is on one version at most");
  const holder = (secret: Secret, label: string) => secret.versions.find(({ stages }) => stages.includes(label))?.id;
  const hasValue = now.versions.some(({ digest }) => digest !== undefined);
  assert.equal(holder(now, "AWSCURRENT") !== undefined, hasValue, "AWSCURRENT is there once a value is");
  const former = holder(before, "AWSCURRENT");
  const moved = former !== holder(now, "AWSCURRENT");
  assert.equal(now.generation - before.generation, moved ? 1 : 0, "the generation rises when AWSCURRENT moves, and only then");
  if (moved && former !== undefined) assert.equal(holder(now, "AWSPREVIOUS"), former, "AWSPREVIOUS is the former current one");
}

test("any sequence of values and moves ends as the model does", () => {
  fc.assert(
    fc.property(fc.array(anyAct, { maxLength: 25 }), (acts) => {
      const model = new Model();
      let secret = empty;
      for (const act of acts) {
        const next = act(secret, model);
        checkInvariants(secret, next);
        secret = next;
        const labels = secret.versions.flatMap(({ id, stages }) => stages.map((stage) => `${stage} ${id}`)).sort();
        assert.deepEqual(labels, [...model.labels].map(([label, id]) => `${label} ${id}`).sort());
        assert.equal(secret.generation, model.generation);
      }
    }),
    { numRuns: 500 },
  );
});
