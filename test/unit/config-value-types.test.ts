// What a value of each type looks like.
import { describe, test } from "node:test";
import { checkValueType, type ValueType, valueTypes } from "../../src/core/config-value-types.ts";
import { refuses } from "../support/refuses.ts";

describe("value types", () => {
  const cases: Record<ValueType, { good: string[]; bad: string[] }> = {
    string: { good: ["", "anything\n"], bad: [] },
    json: { good: ["{}", '"a"', "1"], bad: ["", "{a:1}", "{", "[".repeat(40_000)] },
    json5: { good: ["{a:1,}", "// c\n[+1]"], bad: ["", "{a", "[".repeat(40_000)] },
    boolean: { good: ["true", "false"], bad: ["", "TRUE", "1", "true "] },
    integer: { good: ["0", "-12", "+3", "123456789012345678901234567890"], bad: ["", "1.0", "1e3", "0x1", " 1"] },
    decimal: { good: ["1", "-1.50", ".5", "+0.1"], bad: ["", ".", "1.", "1,5", "NaN", "1e3"] },
    email: {
      good: ["a@example.com", "a.b+c@mail.example.co"],
      bad: ["", "a", "a@b", "a b@example.com", "a@example.com,b@example.com", "a@-x.com", `${"a".repeat(65)}@example.com`],
    },
    url: {
      good: ["https://example.com/a?b#c", "postgres://u:p@h:5432/db", "redis://h"],
      bad: ["", "example.com", "https://", "https://a b", "javascript:alert(1)", "/path"],
    },
    uuidv4: {
      good: ["6f1c9d7e-8a4b-4c2d-9e3f-0a1b2c3d4e5f", "6F1C9D7E-8A4B-4C2D-BE3F-0A1B2C3D4E5F"],
      bad: [
        "",
        "6f1c9d7e-8a4b-1c2d-9e3f-0a1b2c3d4e5f",
        "6f1c9d7e-8a4b-4c2d-ce3f-0a1b2c3d4e5f",
        "6f1c9d7e8a4b4c2d9e3f0a1b2c3d4e5f",
      ],
    },
    cuid2: { good: ["tz4a98xxat96iws9zmbrgj3a", "ab"], bad: ["", "a", "1abc", "Abc", "a".repeat(33)] },
    ulid: {
      good: ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav"],
      bad: ["", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARZ3NDEKTSV4RRFFQ69G5FA"],
    },
    datetime8601: {
      good: ["2024-02-29T23:59:60Z", "2026-01-01T00:00:00.123456+02:00", "2026-01-01T00:00", "2026-01-01T10:00:00-0530"],
      bad: [
        "",
        "2026-01-01",
        "2026-01-01 00:00:00",
        "2023-02-29T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:61:00Z",
        "2026-01-01T00:00:00+25:00",
      ],
    },
    date8601: {
      good: ["2026-12-31", "2000-02-29"],
      bad: [
        "",
        "1900-02-29",
        "2026-02-30",
        "2026-04-31",
        "2026-13-01",
        "2026-00-10",
        "2026-01-00",
        "26-1-1",
        "2026-01-01T00:00:00Z",
      ],
    },
    yaml: { good: ["a: 1", "- x", "", "plain"], bad: ["a: [", 'a: "x', "a: 1\n---\nb: 2", "[".repeat(40_000)] },
  };

  for (const type of valueTypes)
    test(type, () => {
      for (const text of cases[type].good) checkValueType("A", text, type);
      for (const text of cases[type].bad)
        refuses("ValidationException", new RegExp(`^The value of A must be .*, as its type is ${type}\\.$`), () =>
          checkValueType("A", text, type),
        );
    });

  test("values with references are judged by nobody before they are read", () => {
    for (const type of valueTypes) checkValueType("A", `\${dev.B}`, type);
  });
});
