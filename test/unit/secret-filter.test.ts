import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { compileFilters, type FilteredSecret, type FilterKey } from "../../src/core/secret-filter.ts";

const passes = (secret: FilteredSecret, key: FilterKey, ...values: string[]) => compileFilters([{ key, values }])(secret);
const named = (name: string): FilteredSecret => ({ name });
const described = (description: string): FilteredSecret => ({ name: "s", description });

/** Each row: key, value, the texts it finds, the texts it does not. */
function table(key: FilterKey, secretOf: (text: string) => FilteredSecret, rows: [string, string[], string[]][]): void {
  for (const [value, found, missed] of rows)
    test(`${key} ${JSON.stringify(value)}`, () => {
      for (const text of found) assert(passes(secretOf(text), key, value), `finds ${text}`);
      for (const text of missed) assert(!passes(secretOf(text), key, value), `does not find ${text}`);
    });
}

describe("name: a prefix, case and all", () => {
  table("name", named, [
    ["testing1", ["testing1", "testing1/one"], ["Testing1", "my/testing1"]],
    ["testing1 one", [], ["testing1/one"]],
    ["/", ["/one", "/"], ["one/"]],
    ["!/", ["one", "one/two"], ["/one"]],
    ["a.b", ["a.b"], ["axb"]],
  ]);
});

describe("description: every word begins some word of it", () => {
  table("description", described, [
    ["a", ["a secret", "an secret", "asecret", "A Secret"], ["thesecret", "the secret"]],
    ["a secret", ["a secret", "an secret", "secret a"], ["asecret"]],
    ["o t", ["one two", "one and two"], ["one", "two"]],
    ["!a", ["the secret"], ["a secret", "an secret"]],
    ["SECRET", ["a secret"], ["asecret"]],
  ]);

  test("a secret without description has no words", () => {
    assert(!passes(named("s"), "description", "a"));
    assert(passes(named("s"), "description", "!c"));
  });
});

describe("tags, region and service", () => {
  const secret: FilteredSecret = {
    name: "s",
    tags: { Stage: "Production", team: "" },
    primaryRegion: "eu-west-1",
    owningService: "rekey",
  };
  const rows: [FilterKey, string, boolean][] = [
    ["tag-key", "Sta", true],
    ["tag-key", "sta", false],
    ["tag-key", "age", false],
    ["tag-key", "Production", false],
    ["tag-value", "Prod", true],
    ["tag-value", "prod", false],
    ["tag-value", "Stage", false],
    ["tag-value", "!Prod", false],
    ["primary-region", "eu-", true],
    ["primary-region", "us-", false],
    ["owning-service", "Rek", true],
    ["owning-service", "rds", false],
  ];
  for (const [key, value, found] of rows) test(`${key} ${value}`, () => assert.equal(passes(secret, key, value), found));

  test("what is absent has no prefix", () => {
    for (const key of ["tag-key", "tag-value", "primary-region", "owning-service"] as const)
      assert(!passes(named("s"), key, "a"), key);
  });
});

describe("all: words of names, descriptions and tags", () => {
  table("all", named, [
    ["SecretOne", ["SecretOne", "SecretOneMore"], ["SecretTwo"]],
    ["Secret", ["SecretTwo", "My_Secret"], ["Thirdsecret"]],
    ["secret", ["SecretTwo"], ["Thirdsecret"]],
    ["sec", ["SecretTwo"], ["Thirdsecret"]],
    ["ret", [], ["SecretTwo", "Thirdsecret"]],
    ["SomeSecret", [], ["SecretOne", "Secret"]],
    ["my secret", ["My_Secret", "secret/my"], ["My_Thing", "Secret"]],
    ["company", ["uat/COMPANY/x"], ["uat/COMPANYthings/x"]],
    ["Ythings", ["uat/COMPANYthings/x"], ["uat/things/x"]],
    ["things", [], ["uat/COMPANYthings/x"]],
    ["pany", [], ["uat/COMPANYthings/x", "uat/COMPANY/x"]],
    ["N", [], ["uat/COMPANYthings/x"]],
    ["+", [], ["a+b", "+"]],
    ["beta2", ["Beta2", "2/beta"], ["Beta", "beta3"]],
    ["2", ["app2", "2app"], ["app12"]],
    ["!secret", ["other"], ["SecretTwo"]],
  ]);

  test("Beta in prod/AppBeta/x, whatever the signs between words", () => {
    for (const sign of ["/", "_", "+", "=", ".", "@", "-"]) {
      assert(passes(named(`prod${sign}AppBeta${sign}x`), "all", "Beta"), sign);
      assert(passes(named("prod/AppBeta/x"), "all", `App${sign}Beta`), sign);
    }
    for (const sign of ["#", " "]) assert(passes(described(`prod${sign}AppBeta${sign}x`), "all", "Beta"), sign);
  });

  test("looks at descriptions, tag keys and tag values, one of them at a time", () => {
    const secret: FilteredSecret = { name: "nameOne", description: "DescTwo", tags: { keyThree: "valueFour" } };
    for (const words of ["name", "one", "d t", "DescTwo", "three key", "value four"]) assert(passes(secret, "all", words), words);
    for (const words of ["name desc", "key value", "five"]) assert(!passes(secret, "all", words), words);
  });
});

describe("filters together", () => {
  const secret: FilteredSecret = { name: "app/db", description: "main database", tags: { stage: "prod" } };
  const both = (...filters: [FilterKey, ...string[]][]) =>
    compileFilters(filters.map(([key, ...values]) => ({ key, values })))(secret);

  test("all filters must pass, also two with the same key", () => {
    assert(both(["name", "app"], ["tag-value", "prod"]));
    assert(!both(["name", "app"], ["tag-value", "test"]));
    assert(both(["description", "main"], ["description", "data"]));
    assert(!both(["description", "main"], ["description", "other"]));
  });

  test("values of one filter are alternatives; those that exclude must all hold", () => {
    assert(both(["name", "x", "app"]));
    assert(!both(["name", "x", "y"]));
    assert(both(["name", "!x", "!y"]));
    assert(!both(["name", "!x", "!app"]));
    assert(!both(["name", "app", "!app/d"]));
    assert(both(["name", "app", "!web"]));
  });

  test("no filter finds everything", () => assert(both()));
});

test("a value with ! finds exactly what it does not find without", () => {
  const text = fc.string({ unit: fc.constantFrom(..."aAbB1_/ ") });
  const key = fc.constantFrom<FilterKey>("name", "description", "tag-key", "tag-value", "all");
  fc.assert(
    fc.property(key, text, text, text, text, (by, value, name, description, tag) => {
      const secret: FilteredSecret = { name, description, tags: { [tag]: name } };
      assert.notEqual(passes(secret, by, value), passes(secret, by, `!${value}`));
    }),
  );
});
