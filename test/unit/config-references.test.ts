// References between secrets: what counts as one, what they become, and what must never hang or blow up.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Computed, computeValues, type FindRaw } from "../../src/core/config-compute.ts";
import { findReferences, referredConfigs } from "../../src/core/config-references.ts";

const home = { project: "shop", config: "dev" };

/** A reference as it is written. */
const to = (inside: string) => `\${${inside}}`;

/** Configs by `project/config`. */
function found(configs: Record<string, Record<string, string>>): FindRaw {
  return ({ project, config }, name) => {
    const value = configs[`${project}/${config}`]?.[name];
    return value === undefined ? undefined : { value };
  };
}

const computed = (own: Record<string, string>, others: Record<string, Record<string, string>> = {}): Computed =>
  computeValues(home, Object.keys(own), found({ "shop/dev": own, ...others }));

describe("what counts as a reference", () => {
  const cases: [value: string, references: object[]][] = [
    [`a${to("B")}c`, [{ name: "B" }]],
    [to("prd.B"), [{ config: "prd", name: "B" }]],
    [to("shop.prd_eu-1.B"), [{ project: "shop", config: "prd_eu-1", name: "B" }]],
    [to("my.shop.prd.B"), [{ project: "my.shop", config: "prd", name: "B" }]],
    [`${to("A")}${to("A")}`, [{ name: "A" }, { name: "A" }]],
    [`\${x${to("A")}}`, [{ name: "A" }]],
    [
      `$A ${["", " A ", "a", "A:-b", "1A", "A-B", ".A", "dev.", "DEV.A", "/etc.A", "a..b.A"].map(to).join(" ")} \${A`,
      [{ project: "a.", config: "b", name: "A" }],
    ],
  ];
  for (const [value, references] of cases)
    test(value, () => {
      assert.deepEqual(
        findReferences(value).map(({ text: _, ...rest }) => rest),
        references,
      );
    });

  test("what a value refers to elsewhere, each once", () => {
    const value = ["A", "dev.A", "shop.dev.A", "prd.A", "shop.prd.B", "crm.dev.A", "crm.dev.C"].map(to).join(" ");
    assert.deepEqual(referredConfigs(value, home), [
      { project: "shop", config: "prd" },
      { project: "crm", config: "dev" },
    ]);
  });
});

describe("what references become", () => {
  test("in the same config, in others, and over several", () => {
    const { values, unresolved } = computed(
      { URL: `pg://${to("USER")}:${to("prd.PASSWORD")}@${to("crm.main.HOST")}`, USER: "app" },
      { "shop/prd": { PASSWORD: to("SALT") + to("dev.USER"), SALT: "s-" }, "crm/main": { HOST: "db" } },
    );
    assert.deepEqual(Object.fromEntries(values), { URL: "pg://app:s-app@db", USER: "app" });
    assert.deepEqual(unresolved, []);
  });

  test("what is put in is not looked through again", () => {
    const { values } = computed({ A: `$${to("OPEN")}B}`, OPEN: "{", B: "no", C: `\${${to("NAME")}}`, NAME: "B" });
    assert.equal(values.get("A"), `$${"{"}B}`);
    assert.equal(values.get("C"), to("B"));
  });

  test("replacement patterns in a value are text", () => {
    assert.equal(computed({ A: `<${to("B")}>`, B: "$& $1 $$ $`" }).values.get("A"), "<$& $1 $$ $`>");
  });

  test("what is not there stays text, and is reported once", () => {
    const { values, unresolved } = computed({ A: `${to("NOPE")}${to("x.y.Z")}${to("NOPE")}` });
    assert.equal(values.get("A"), `${to("NOPE")}${to("x.y.Z")}${to("NOPE")}`);
    assert.deepEqual(unresolved, [
      { name: "A", reference: to("NOPE"), reason: "missing" },
      { name: "A", reference: to("x.y.Z"), reason: "missing" },
    ]);
  });

  test("a value that came from another place is read there", () => {
    const find: FindRaw = (place, name) => {
      if (place.project === "base") return name === "HOST" ? { value: "base-host" } : undefined;
      if (name === "HOST") return { value: "shop-host" };
      return name === "URL" ? { value: `${to("HOST")} ${to("dev.HOST")}`, home: { project: "base", config: "main" } } : undefined;
    };
    assert.equal(computeValues(home, ["URL"], find).values.get("URL"), "base-host base-host");
  });

  test("what only looks like a reference in a value that nobody wrote stays", () => {
    const find: FindRaw = (_, name) =>
      name === "DB_PASSWORD" ? { value: to("A"), literal: true } : { value: name === "A" ? "a" : to("DB_PASSWORD") };
    assert.deepEqual(
      [...computeValues(home, ["URL", "A"], find).values],
      [
        ["URL", to("A")],
        ["A", "a"],
      ],
    );
  });

  test("names that are not there are left out", () => {
    assert.deepEqual([...computeValues(home, ["A"], () => undefined).values], []);
  });
});

describe("cycles", () => {
  test("their references stay text, those that lead into them are resolved", () => {
    const { values, unresolved } = computed({
      SELF: `me ${to("SELF")}`,
      A: `${to("B")}${to("D")}`,
      B: to("C"),
      C: to("A"),
      D: "d",
      E: `in: ${to("A")}`,
    });
    assert.deepEqual(Object.fromEntries(values), {
      SELF: `me ${to("SELF")}`,
      A: `${to("B")}d`,
      B: to("C"),
      C: to("A"),
      D: "d",
      E: `in: ${to("B")}d`,
    });
    assert.deepEqual(
      new Set(unresolved.map(({ name, reason }) => `${name} ${reason}`)),
      new Set(["SELF cycle", "A cycle", "B cycle", "C cycle"]),
    );
  });

  test("over configs", () => {
    const { values } = computed({ A: to("prd.A") }, { "shop/prd": { A: to("crm.main.A") }, "crm/main": { A: to("shop.dev.A") } });
    assert.equal(values.get("A"), to("prd.A"));
  });
});

describe("bounds", () => {
  const find =
    (own: ReadonlyMap<string, string>): FindRaw =>
    (_, name) => {
      const value = own.get(name);
      return value === undefined ? undefined : { value };
    };

  test("32 over one another are resolved, longer chains in pieces", () => {
    const own = new Map([["S0", "x"], ...Array.from({ length: 40 }, (_, index) => [`S${index + 1}`, to(`S${index}`)] as const)]);
    const { values, unresolved } = computeValues(home, own.keys(), find(own));
    assert.equal(values.get("S32"), "x");
    assert.equal(values.get("S33"), to("S32"));
    assert.deepEqual(unresolved, [{ name: "S33", reference: to("S32"), reason: "depth" }]);
  });

  test("a chain as long as there is room for ends", () => {
    const own = new Map([
      ["S0", "x"],
      ...Array.from({ length: 50_000 }, (_, index) => [`S${index + 1}`, to(`S${index}`)] as const),
    ]);
    assert.equal(computeValues(home, ["S50000"], find(own)).values.size, 1);
    own.set("S0", to("S50000"));
    const cycle = computeValues(home, own.keys(), find(own));
    assert.deepEqual([...cycle.values], [...own]);
  });

  test("a bomb stays small: no value over 500 KiB, all together little more than was written", () => {
    const own = new Map([
      ["S0", "x".repeat(1000)],
      ...Array.from({ length: 30 }, (_, index) => [`S${index + 1}`, to(`S${index}`).repeat(1000)] as const),
    ]);
    const { values, unresolved } = computeValues(home, own.keys(), find(own));
    const bytes = [...values.values()].map((text) => Buffer.byteLength(text));
    const written = [...own.values()].reduce((sum, text) => sum + text.length, 0);
    assert.ok(Math.max(...bytes) <= 500 * 1024);
    assert.ok(bytes.reduce((sum, each) => sum + each, 0) <= written + 2 * 1024 * 1024);
    assert.ok(unresolved.some(({ reason }) => reason === "size") && unresolved.length < 100);
  });

  test("bytes are counted, not characters", () => {
    const own = new Map([
      ["A", "ü".repeat(200 * 1024)],
      ["B", to("A") + to("A")],
    ]);
    const value = computeValues(home, ["B"], find(own)).values.get("B") ?? "";
    assert.ok(value.endsWith(to("A")) && Buffer.byteLength(value) <= 500 * 1024);
  });
});

describe("any secrets that refer to any", () => {
  const names = ["A", "B", "C", "D", "E"];
  const part = fc.oneof(
    fc.constantFrom("x", "$", "{", "}", ""),
    fc.constantFrom(...names, "GONE").map(to),
    fc.constantFrom("dev.A", "shop.dev.B").map(to),
  );
  const own = fc.array(fc.array(part, { maxLength: 5 }), { minLength: 5, maxLength: 5 });
  const asRecord = (values: readonly string[][]) =>
    Object.fromEntries(names.map((name, index) => [name, values[index]?.join("") ?? ""]));

  test("come out the same in every order, and alone", () => {
    fc.assert(
      fc.property(own, fc.shuffledSubarray(names), (values, order) => {
        const all = asRecord(values);
        const whole = computed(all);
        const some = computeValues(home, order, found({ "shop/dev": all }));
        for (const name of order) assert.equal(some.values.get(name), whole.values.get(name));
        assert.equal(whole.unresolved.filter(({ name }) => order.includes(name)).length, some.unresolved.length);
      }),
    );
  });

  test("where only earlier ones are referred to, it is what replacing one by one gives", () => {
    fc.assert(
      fc.property(own, (values) => {
        const raw = asRecord(values);
        const expected: Record<string, string> = {};
        const written: Record<string, string> = {};
        for (const [index, name] of names.entries()) {
          const earlier = names.slice(0, index);
          // References to itself, later ones and what is gone become other text.
          written[name] = (raw[name] ?? "").replace(/\$\{(?:shop\.)?(?:dev\.)?([A-Z]+)\}/g, (text, to) =>
            earlier.includes(to) ? text : "-",
          );
          expected[name] = written[name].replace(/\$\{(?:shop\.)?(?:dev\.)?([A-E])\}/g, (_, name) => expected[name] ?? "");
        }
        assert.deepEqual(Object.fromEntries(computed(written).values), expected);
      }),
    );
  });
});
