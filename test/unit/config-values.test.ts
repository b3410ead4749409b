// Writes to a config: by name and by change requests, with guards, renames, and what a branch does to its root.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { ConfigDocument, ConfigValue } from "../../src/core/config-document.ts";
import {
  applyChangeRequests,
  applyPromotions,
  applySecrets,
  type ChangeRequest,
  type WrittenConfig,
} from "../../src/core/config-values.ts";
import { ServiceError } from "../../src/core/error.ts";
import { refuses } from "../support/refuses.ts";

const document = (values: Record<string, string | ConfigValue>): ConfigDocument =>
  new Map(Object.entries(values).map(([name, value]) => [name, typeof value === "string" ? { value } : value]));
const plain = (values: ConfigDocument) => Object.fromEntries([...values].map(([name, { value }]) => [name, value]));

const root = (own: Record<string, string | ConfigValue> = {}): WrittenConfig => ({
  own: document(own),
  beneath: document({}),
  isBranch: false,
});
const branch = (own: Record<string, string | ConfigValue>, beneath: Record<string, string | ConfigValue>): WrittenConfig => ({
  own: document(own),
  beneath: document(beneath),
  isBranch: true,
});
const changed = (config: WrittenConfig, ...requests: ChangeRequest[]) => plain(applyChangeRequests(config, requests).own);

describe("secrets by name", () => {
  const set = (config: WrittenConfig, values: Record<string, string | null>) =>
    applySecrets(config, new Map(Object.entries(values)));

  test("are set, changed and removed", () => {
    assert.deepEqual(plain(set(root({ A: "1", B: "2", C: "3" }), { A: "x", B: null, D: "", GONE: null })), {
      A: "x",
      C: "3",
      D: "",
    });
  });

  test("keep visibility and type, those of the root too", () => {
    const config = branch(
      { A: { value: "1", visibility: "unmasked", type: "integer" } },
      { B: { value: "2", visibility: "restricted" } },
    );
    assert.deepEqual(
      set(config, { A: "7", B: "8" }),
      document({ A: { value: "7", visibility: "unmasked", type: "integer" }, B: { value: "8", visibility: "restricted" } }),
    );
    refuses("ValidationException", "The value of A must be a whole number, as its type is integer.", () =>
      set(config, { A: "hush" }),
    );
  });

  test("refused: names, texts that no environment holds, too long ones", () => {
    refuses("ValidationException", /^Secret name "a" may only contain/, () => set(root(), { a: "1" }));
    refuses("ValidationException", /set by Rekey itself/, () => set(root(), { DOPPLER_CONFIG: "1" }));
    refuses("ValidationException", /^The value of A holds a NUL/, () => set(root(), { A: "x\0" }));
    refuses("ValidationException", /^The value of A is not well-formed/, () => set(root(), { A: "\ud800" }));
    set(root(), { A: "x".repeat(50 * 1024) });
    refuses("LimitExceededException", "The value of A is longer than 50 KiB.", () =>
      set(root(), { A: "ü".repeat(25 * 1024 + 1) }),
    );
    refuses("LimitExceededException", /more than 1200 secrets/, () =>
      set(root(), Object.fromEntries(Array.from({ length: 1201 }, (_, index) => [`S${index}`, ""]))),
    );
  });

  test("what was there stays as it was", () => {
    const before = root({ A: "1" });
    set(before, { A: "2", B: "3" });
    assert.deepEqual(plain(before.own), { A: "1" });
  });
});

describe("change requests", () => {
  test("new, changed, kept, deleted", () => {
    const config = root({ A: "1", B: "2", C: "3" });
    assert.deepEqual(
      changed(
        config,
        { name: "NEW", originalName: null, value: "n" },
        { name: "A", value: "x" },
        { name: "B", value: null },
        { name: "C", shouldDelete: true },
        { name: "GONE", shouldDelete: true },
      ),
      { A: "x", B: "2", NEW: "n" },
    );
    refuses("ValidationException", "Secret NEW is new: give its value.", () => changed(config, { name: "NEW" }));
    refuses("ValidationException", /^Secret name "new" may only/, () => changed(config, { name: "new", value: "1" }));
  });

  test("visibility and type are set and taken back", () => {
    const shown = { value: "1", visibility: "unmasked", type: "integer" } as const;
    const own = (config: WrittenConfig, request: ChangeRequest) => applyChangeRequests(config, [request]).own;
    assert.deepEqual(own(root({ A: "1" }), { name: "A", visibility: "unmasked", valueType: "integer" }), document({ A: shown }));
    assert.deepEqual(own(root({ A: shown }), { name: "A", visibility: "masked", valueType: "string" }), document({ A: "1" }));
    assert.deepEqual(own(root({ A: shown }), { name: "A", value: "2" }), document({ A: { ...shown, value: "2" } }));
    refuses("ValidationException", "The value of A must be true or false, as its type is boolean.", () =>
      own(root({ A: "hush" }), { name: "A", valueType: "boolean" }),
    );
  });

  describe("guards", () => {
    const config = root({ A: { value: "1", visibility: "unmasked", type: "integer" }, B: "2" });
    const holding: ChangeRequest[] = [
      {
        name: "A",
        value: "2",
        originalName: "A",
        originalValue: "1",
        originalVisibility: "unmasked",
        originalValueType: "integer",
      },
      { name: "B", value: "3", originalValue: "2", originalVisibility: "masked", originalValueType: "string" },
      { name: "B", shouldDelete: true, originalValue: "2" },
      { name: "B", value: "3", originalName: null, originalValue: null, originalVisibility: null, originalValueType: null },
    ];
    for (const request of holding) test(`holds: ${JSON.stringify(request)}`, () => assert.ok(changed(config, request)));

    const broken: [ChangeRequest, what: string][] = [
      [
        { name: "A", value: "2", originalValue: "hush" },
        "A was not changed, nor any other: its value is not what the request says it was",
      ],
      [{ name: "A", value: "2", originalVisibility: "masked" }, "A was not changed, nor any other: its visibility is not what"],
      [{ name: "A", value: "2", originalValueType: "string" }, "A was not changed, nor any other: its value type is not what"],
      [{ name: "A", shouldDelete: true, originalValue: "" }, "A was not changed, nor any other: its value is not"],
      [{ name: "X", value: "2", originalName: "X" }, "X was not changed, nor any other: it does not exist"],
      [{ name: "Y", value: "2", originalName: "X" }, "X was not changed, nor any other: it does not exist"],
      [{ name: "X", value: "2", originalValue: "hush" }, "X was not changed, nor any other: it does not exist"],
    ];
    for (const [request, what] of broken)
      test(`does not hold: ${JSON.stringify(request)}`, () => {
        refuses("PreconditionNotMetException", new RegExp(`^Secret ${what}.*Read it again\\.$`), () =>
          changed(config, { name: "B", value: "3" }, request),
        );
      });

    test("look at what the branch shows, its root's value too", () => {
      const config = branch({}, { A: "of root" });
      assert.deepEqual(changed(config, { name: "A", value: "own", originalValue: "of root" }), { A: "own" });
      refuses("PreconditionNotMetException", /its value/, () =>
        changed(config, { name: "A", value: "own", originalValue: "else" }),
      );
    });
  });

  test("renames keep value, visibility and type; swaps and rings work", () => {
    const config = root({ A: { value: "1", visibility: "restricted" }, B: "2", C: "3" });
    assert.deepEqual(
      applyChangeRequests(config, [{ name: "NEW", originalName: "A" }]).own,
      document({ B: "2", C: "3", NEW: { value: "1", visibility: "restricted" } }),
    );
    assert.deepEqual(changed(config, { name: "B", originalName: "A" }, { name: "A", originalName: "B" }), {
      A: "2",
      B: "1",
      C: "3",
    });
    assert.deepEqual(
      changed(
        config,
        { name: "B", originalName: "A" },
        { name: "C", originalName: "B" },
        { name: "A", originalName: "C", value: "x" },
      ),
      { A: "x", B: "1", C: "2" },
    );
    refuses("ResourceExistsException", "A secret named B exists already.", () =>
      changed(config, { name: "B", originalName: "A" }),
    );
    refuses("ValidationException", /^Secret name "b" may only/, () => changed(config, { name: "b", originalName: "A" }));
    refuses("ValidationException", "Secret A comes from another config: rename it there.", () =>
      changed(branch({}, { A: "1" }), { name: "B", originalName: "A" }),
    );
  });

  test("one secret is the matter of one change", () => {
    const twice: ChangeRequest[][] = [
      [
        { name: "A", value: "1" },
        { name: "A", shouldDelete: true },
      ],
      [
        { name: "X", originalName: "A" },
        { name: "A", value: "1" },
      ],
      [
        { name: "X", originalName: "A" },
        { name: "X", value: "1" },
      ],
    ];
    for (const requests of twice)
      refuses("ValidationException", /^Secret [AX] is named by more than one change\.$/, () =>
        changed(root({ A: "1" }), ...requests),
      );
    refuses("LimitExceededException", /more than 2400 changes/, () =>
      changed(root(), ...Array.from({ length: 2401 }, (_, index) => ({ name: `S${index}`, shouldDelete: true }))),
    );
  });

  describe("of branches", () => {
    test("a value of the root is not copied when nothing changes", () => {
      const config = branch({}, { A: { value: "1", visibility: "unmasked" } });
      assert.deepEqual(changed(config, { name: "A", value: "1" }), {});
      assert.deepEqual(changed(config, { name: "A" }), {});
      assert.deepEqual(applyChangeRequests(config, [{ name: "A", visibility: "masked" }]).own, document({ A: "1" }));
    });

    test("promoting also changes the root", () => {
      const config = branch({ A: "own", B: "own", C: "own" }, { A: "of root", C: "of root" });
      const { own, promotions } = applyChangeRequests(config, [
        { name: "A", shouldPromote: true },
        { name: "NEW", originalName: "B", shouldPromote: true, valueType: "string" },
        { name: "C", shouldDelete: true, shouldPromote: true },
        { name: "D", value: "not promoted" },
      ]);
      assert.deepEqual(plain(own), { A: "own", NEW: "own", D: "not promoted" });
      assert.deepEqual(plain(applyPromotions(document({ A: "of root", B: "of root", C: "of root", Z: "stays" }), promotions)), {
        A: "own",
        NEW: "own",
        Z: "stays",
      });
    });

    test("converging falls back to the root", () => {
      const config = branch({ A: "own", B: "own" }, { A: "of root" });
      const { own, promotions } = applyChangeRequests(config, [{ name: "A", shouldConverge: true, originalValue: "own" }]);
      assert.deepEqual([plain(own), promotions], [{ B: "own" }, []]);
      refuses("ValidationException", /^Secret B can't be converged: nothing of that name is beneath it/, () =>
        changed(config, { name: "B", shouldConverge: true }),
      );
    });

    test("roots have no root", () => {
      for (const wish of [{ shouldPromote: true }, { shouldConverge: true }])
        refuses("ValidationException", /only branch configs have a root/, () =>
          changed(root({ A: "1" }), { name: "A", value: "2", ...wish }),
        );
      refuses("ValidationException", /promoted or converged, not both/, () =>
        changed(branch({ A: "1" }, { A: "2" }), { name: "A", shouldPromote: true, shouldConverge: true }),
      );
    });
  });

  describe("whatever is asked for", () => {
    const names = ["A", "B", "C", "D"];
    const name = fc.constantFrom(...names);
    const value = fc.constantFrom("1", "2");
    const wish = fc.record(
      {
        name,
        originalName: fc.option(name),
        value: fc.option(value),
        originalValue: fc.option(value),
        shouldDelete: fc.boolean(),
      },
      { noNullPrototype: true },
    );
    const own = fc.dictionary(name, value, { noNullPrototype: true });
    const wishes = fc.array(wish, { maxLength: 3 });
    const outcome = (before: WrittenConfig, requests: readonly ChangeRequest[]): Record<string, string> | undefined => {
      try {
        return changed(before, ...requests);
      } catch (error) {
        assert.ok(error instanceof ServiceError, String(error));
        return undefined;
      }
    };

    function assertDone(
      own: Record<string, string>,
      after: Record<string, string>,
      request: ChangeRequest,
      all: readonly ChangeRequest[],
    ) {
      const source = request.originalName ?? request.name;
      assert.equal(request.originalValue ?? own[source], own[source]);
      const isSetAgain = all.some((other) => other.name === source && !other.shouldDelete);
      if (!request.shouldDelete) assert.equal(after[request.name], request.value ?? own[source]);
      else if (!isSetAgain) assert.equal(after[source], undefined);
    }

    test("is refused, or done as asked", () => {
      fc.assert(
        fc.property(own, wishes, (own, requests) => {
          const after = outcome(root(own), requests);
          if (after) for (const request of requests) assertDone(own, after, request, requests);
        }),
        { numRuns: 1000 },
      );
    });

    test("nothing else changes, and what was there stays as it was", () => {
      fc.assert(
        fc.property(own, wishes, (own, requests) => {
          const before = root(own);
          const after = outcome(before, requests);
          assert.deepEqual(plain(before.own), own);
          const touched = new Set(requests.flatMap(({ name, originalName }) => [name, originalName ?? name]));
          for (const each of names) if (after && !touched.has(each)) assert.equal(after[each], own[each]);
        }),
        { numRuns: 1000 },
      );
    });
  });
});
