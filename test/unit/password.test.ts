import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { generatePassword, type PasswordOptions, rotationPasswordOptions } from "../../src/core/password.ts";

const lower = /[a-z]/;
const upper = /[A-Z]/;
const digit = /[0-9]/;
const punctuation = /[!-/:-@[-`{-~]/;
const letters = "abcdefghijklmnopqrstuvwxyz";
const noneButDigits: PasswordOptions = { excludeLowercase: true, excludeUppercase: true, excludePunctuation: true };
const noClass: PasswordOptions = { ...noneButDigits, excludeNumbers: true };

function refusal(message: string) {
  return { name: "ServiceError", code: "InvalidParameterException", message };
}
const tooShort = refusal("Password length is too short based on the required types.");
const nothingLeft = refusal("All characters have been excluded from selection.");
const classEmptied = refusal("All characters of the desired type have been excluded.");

/** A source that always gives the highest, or another fixed fraction of the range: no chance in the test. */
const fraction = (part: number) => (max: number) => Math.min(max - 1, Math.floor(part * max));

test("by default 32 characters with each of the four classes and no space", () => {
  for (let round = 0; round < 50; round++) {
    const password = generatePassword({}, randomInt);
    assert.equal(password.length, 32);
    for (const kind of [lower, upper, digit, punctuation]) assert.match(password, kind);
    assert.doesNotMatch(password, /[^!-~]/);
  }
});

test("the four classes hold the 94 printable ASCII characters, and IncludeSpace adds one", () => {
  const seen = (options: PasswordOptions) => {
    const characters = new Set<string>();
    for (let index = 0; index < 95; index++) {
      characters.add(generatePassword({ ...options, length: 1, requireEachIncludedType: false }, (max) => index % max));
    }
    return [...characters].sort().join("");
  };
  const printable = String.fromCharCode(...Array.from({ length: 94 }, (_, index) => 33 + index));
  assert.equal(seen({}), printable);
  assert.equal(seen({ includeSpace: true }), ` ${printable}`);
});

test("each class can be left out", () => {
  const rows = [
    ["excludeLowercase", lower],
    ["excludeUppercase", upper],
    ["excludeNumbers", digit],
    ["excludePunctuation", punctuation],
  ] as const;
  for (const [exclude, kind] of rows) {
    const password = generatePassword({ [exclude]: true, length: 500 }, randomInt);
    assert.doesNotMatch(password, kind);
    for (const [, other] of rows) if (other !== kind) assert.match(password, other);
  }
});

test("a length below the number of required classes is too short", () => {
  assert.throws(() => generatePassword({ length: 3 }, randomInt), tooShort);
  assert.equal(generatePassword({ length: 4 }, randomInt).length, 4);
  assert.equal(generatePassword({ length: 3, excludePunctuation: true }, randomInt).length, 3);
  assert.throws(() => generatePassword({ length: 2, excludePunctuation: true, includeSpace: true }, randomInt), tooShort);
  assert.equal(generatePassword({ length: 1, requireEachIncludedType: false }, randomInt).length, 1);
});

test("nothing left to choose from", () => {
  assert.throws(() => generatePassword(noClass, randomInt), nothingLeft);
  assert.throws(() => generatePassword({ ...noClass, includeSpace: true, excludeCharacters: " " }, randomInt), nothingLeft);
  const digitsOut = { ...noneButDigits, excludeCharacters: "0123456789", requireEachIncludedType: false };
  assert.throws(() => generatePassword(digitsOut, randomInt), nothingLeft);
  assert.equal(generatePassword({ ...noClass, includeSpace: true, length: 3 }, randomInt), "   ");
});

test("a required class emptied by ExcludeCharacters", () => {
  assert.throws(() => generatePassword({ excludeCharacters: letters }, randomInt), classEmptied);
  assert.throws(() => generatePassword({ ...noneButDigits, excludeCharacters: "0123456789" }, randomInt), classEmptied);
  for (const options of [{ excludeLowercase: true }, { requireEachIncludedType: false }]) {
    assert.doesNotMatch(generatePassword({ excludeCharacters: letters, ...options }, randomInt), lower);
  }
});

test("rotation leaves out the characters that break connection strings", () => {
  const passwords = Array.from({ length: 200 }, () => generatePassword(rotationPasswordOptions(), randomInt));
  for (const password of passwords) {
    assert.match(password, /^[!-~]{32}$/);
    assert.doesNotMatch(password, /[/@"'\\]/);
  }
});

test("required characters do not keep to the front: each place holds each class at times", () => {
  const classesAt = Array.from({ length: 4 }, () => new Set<number>());
  for (let round = 0; round < 400; round++) {
    for (const [place, character] of [...generatePassword({ length: 4 }, randomInt)].entries()) {
      classesAt[place]?.add([lower, upper, digit, punctuation].findIndex((kind) => kind.test(character)));
    }
  }
  for (const seen of classesAt) assert.deepEqual([...seen].sort(), [0, 1, 2, 3]);
});

test("all orders of the shuffle are reached by equally many random choices", () => {
  const onlyDigitAndLower = {
    length: 3,
    excludeUppercase: true,
    excludePunctuation: true,
    excludeCharacters: "123456789bcdefghijklmnopqrstuvwxyz",
  };
  const counts = new Map<string, number>();
  // Calls: one of {a}, one of {0}, one of {a, 0}, then the shuffle's choices among 3 and among 2 places.
  for (let code = 0; code < 2 * 3 * 2; code++) {
    const maxima: number[] = [];
    const draws = [0, 0, code % 2, Math.floor(code / 2) % 3, Math.floor(code / 6)];
    const password = generatePassword(onlyDigitAndLower, (max) => {
      maxima.push(max);
      return draws.shift() ?? assert.fail("one draw too many");
    });
    assert.deepEqual(maxima, [1, 1, 2, 3, 2]);
    counts.set(password, (counts.get(password) ?? 0) + 1);
  }
  assert.deepEqual(new Map([...counts].sort()), new Map(["00a", "0a0", "0aa", "a00", "a0a", "aa0"].map((order) => [order, 2])));
});

function assertKeeps(password: string, chosen: PasswordOptions): void {
  assert.equal(password.length, chosen.length ?? 32);
  for (const character of chosen.excludeCharacters ?? "") assert(!password.includes(character));
  if (!chosen.includeSpace) assert(!password.includes(" "));
  const kinds = [
    [lower, chosen.excludeLowercase],
    [upper, chosen.excludeUppercase],
    [digit, chosen.excludeNumbers],
    [punctuation, chosen.excludePunctuation],
  ] as const;
  for (const [kind, excluded] of kinds) {
    if (excluded) assert.doesNotMatch(password, kind);
    else if (chosen.requireEachIncludedType !== false) assert.match(password, kind);
  }
}

test("whatever the options: a password that keeps them, or one of the three refusals", () => {
  const options = fc.record(
    {
      length: fc.integer({ min: 1, max: 64 }),
      excludeCharacters: fc.oneof(fc.string(), fc.constantFrom(letters, "0123456789", " ")),
      excludeLowercase: fc.boolean(),
      excludeUppercase: fc.boolean(),
      excludeNumbers: fc.boolean(),
      excludePunctuation: fc.boolean(),
      includeSpace: fc.boolean(),
      requireEachIncludedType: fc.boolean(),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(
      options,
      fc.oneof(fc.constantFrom(0, 0.5, 0.999_999), fc.double({ min: 0, max: 0.999_999, noNaN: true })),
      (chosen, part) => {
        let password: string;
        try {
          password = generatePassword(chosen, fraction(part));
        } catch (error) {
          const { message } = error as Error;
          assert(
            [tooShort, nothingLeft, classEmptied].some((one) => one.message === message),
            message,
          );
          return;
        }
        assertKeeps(password, chosen);
      },
    ),
    { numRuns: 500 },
  );
});
