// Files of secrets as people have them: dotenv, JSON, YAML; and as attackers would like them.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { parseUpload } from "../../src/core/config-upload.ts";
import { ServiceError } from "../../src/core/error.ts";

const read = (text: string, format?: Parameters<typeof parseUpload>[1]) => Object.fromEntries(parseUpload(text, format));

function refusal(text: string, format?: Parameters<typeof parseUpload>[1]): string {
  try {
    parseUpload(text, format);
  } catch (error) {
    assert.ok(error instanceof ServiceError, String(error));
    return error.message;
  }
  return assert.fail("nothing was refused");
}

describe("env", () => {
  const cases: [what: string, text: string, secrets: Record<string, string>][] = [
    ["lines, comments, blanks", "# hi\n\nA=1\n  B=2  # two\n#C=3\nD=a#b c \n", { A: "1", B: "2", D: "a#b c" }],
    ["export, and space around the sign", "export A=1\nexport\tB = 2\nC =3", { A: "1", B: "2", C: "3" }],
    ["nothing", "A=\nB=   \nC= # no\nD=#yes\nE=''\nF=\"\"", { A: "", B: "", C: "", D: "#yes", E: "", F: "" }],
    ["double quotes", 'A="a b" # c\nB="\\n\\r\\t\\\\ \\" \\$ \\` \\q"\nC="#"', { A: "a b", B: '\n\r\t\\ " $ ` \\q', C: "#" }],
    ["single quotes and backticks", 'A=\'\\n "$X"\'\nB=`it\'s "x"`', { A: '\\n "$X"', B: 'it\'s "x"' }],
    [
      "over lines",
      "KEY=\"-----BEGIN\nabc=\n-----END\"\nB='1\n#2'\nC=3",
      { KEY: "-----BEGIN\nabc=\n-----END", B: "1\n#2", C: "3" },
    ],
    ["CRLF and a byte order mark", '\ufeffA=1\r\nB="x\r\ny"\r\n', { A: "1", B: "x\ny" }],
    ["dollars are text", `A=$HOME\nB="\${X}"\nC=p$1`, { A: "$HOME", B: `\${X}`, C: "p$1" }],
    ["signs in values", "URL=postgres://u:p@h/db?a=b&c=d", { URL: "postgres://u:p@h/db?a=b&c=d" }],
    ["no file at all", " \n# nothing\n", {}],
  ];
  for (const [what, text, secrets] of cases) test(what, () => assert.deepEqual(read(text), secrets));

  test("what can't be read is told by its line", () => {
    assert.equal(refusal("A=1\nB", "env"), "Line 2 of the file: expected NAME=value.");
    assert.equal(refusal("A=1\n\nB='hush\nC=2\n"), "Line 3 of the file: the value's quotation mark is not closed.");
    assert.equal(refusal('A="x\ny" hush\n'), "Line 2 of the file: only a comment may follow the closing quotation mark.");
    assert.equal(refusal("A=1\nB=2\n\nA=3"), "Line 4 of the file: line 1 has that name already.");
  });
});

describe("json", () => {
  test("strings, numbers as written, booleans", () => {
    const text = '\n{"A": "x\\n\\u00fc\\/" ,\t"B":1.10,"C":12345678901234567890,"D":-1e5,"E":true,"F":false}\n';
    assert.deepEqual(read(text), { A: "x\nü/", B: "1.10", C: "12345678901234567890", D: "-1e5", E: "true", F: "false" });
    assert.deepEqual(read("{}"), {});
    assert.deepEqual(read(" { } "), {});
  });

  test("what can't be read is told by its line", () => {
    const value = "a value must be a string in double quotes, a number, true or false.";
    const cases: [text: string, message: string][] = [
      ['{"A":null}', `Line 1 of the file: ${value}`],
      ['{\n"A":"1",\n"B":{"C":"hush"}}', `Line 3 of the file: ${value}`],
      ['{"A":["hush"]}', `Line 1 of the file: ${value}`],
      ['{"A":01}', `Line 1 of the file: ${value}`],
      ['{"A":hush}', `Line 1 of the file: ${value}`],
      ['{"A":"hu\nsh"}', `Line 1 of the file: ${value}`],
      ['{"A":"\\x"}', `Line 1 of the file: ${value}`],
      ['{"A":"hush"', "Line 1 of the file: expected a comma or the object's end, }."],
      ['{"A":"1",\n}', "Line 2 of the file: expected a name in double quotes."],
      ["{A:1}", "Line 1 of the file: expected a name in double quotes."],
      ['{"A" "hush"}', "Line 1 of the file: expected a colon after the name."],
      ['{"A":"1"}\n{', "Line 2 of the file: the object ends here, yet more follows."],
      ['{"A":"1",\n"\\u0041":"2"}', "Line 2 of the file: line 1 has that name already."],
    ];
    for (const [text, message] of cases) assert.equal(refusal(text), message, text);
    assert.equal(refusal("[]", "json"), "Line 1 of the file: expected an object, which begins with {.");
  });

  test("whatever JSON.parse takes of strings is taken alike", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.boolean(), (text, spaced) => {
        assert.equal(read(JSON.stringify({ A: text }, null, spaced ? 2 : 0)).A, text);
      }),
    );
  });
});

describe("yaml", () => {
  test("texts in all styles, numbers as written, booleans, aliases", () => {
    const text =
      "---\n# hi\nA: plain text # c\nB: 'it''s'\n\"C\": \"a\\nb\"\nD: |\n  one\n  two\nE: >-\n  one\n  two\nF: 1.10\nG: 0x1F\nH: True\nI: yes\nJ:\nK: !!str 12\nL: &x same\nM: *x\nN: 2020-01-01\n";
    assert.deepEqual(read(text), {
      A: "plain text",
      B: "it's",
      C: "a\nb",
      D: "one\ntwo\n",
      E: "one two",
      F: "1.10",
      G: "0x1F",
      H: "true",
      I: "yes",
      J: "",
      K: "12",
      L: "same",
      M: "same",
      N: "2020-01-01",
    });
    assert.deepEqual(read("{A: 1, B: x}", "yaml"), { A: "1", B: "x" });
  });

  test("what can't be read is told by its line", () => {
    const value = "a value must be one text, number, true or false.";
    const cases: [text: string, message: string][] = [
      ["A: 1\nB:\n  C: hush", `Line 2 of the file: ${value}`],
      ["A: 1\nB: [hush]", `Line 2 of the file: ${value}`],
      ["A: null", `Line 1 of the file: ${value}`],
      ["A: *hush", `Line 1 of the file: ${value}`],
      ["A: !!binary aHVzaA==", `Line 1 of the file: ${value}`],
      ["A: !hush x", `Line 1 of the file: ${value}`],
      ["A: 1\n<<: {B: 2}", `Line 2 of the file: ${value}`],
      ["? [hush]\n: x", "Line 1 of the file: a name must be plain text."],
      ["- hush", "Line 1 of the file: expected NAME: value, or NAME=value on every line."],
      ["\nhush", "Line 2 of the file: expected NAME: value, or NAME=value on every line."],
      ["A: 1\nB: 2\nA: 3", "Line 3 of the file: line 1 has that name already."],
    ];
    for (const [text, message] of cases) assert.equal(refusal(text), message, text);
    for (const text of ['A: "hush', "A: 1\n B: hush", "A: hush\n---\nB: 2", "A: hush\n\tB: 2"])
      assert.match(refusal(text), /^Line \d of the file: this is not YAML as expected \([A-Z_]+\)\.$/, text);
  });
});

test("managed names are left out, other wrong names refused", () => {
  const text = "DOPPLER_PROJECT=p\nDOPPLER_CONFIG=c\nDOPPLER_ENVIRONMENT=e\nREKEY_CONFIG=c\nA=1";
  assert.deepEqual(read(text), { A: "1" });
  const rule = "a secret name may only contain uppercase letters, numbers, and underscores, and not start with a number.";
  for (const wrong of [
    "api.key=hush",
    '{"api.key":"hush"}',
    "api.key: hush",
    "1A=x",
    '{"__proto__":"x"}',
    `${"A".repeat(201)}=x`,
  ])
    assert.equal(refusal(wrong), `Line 1 of the file: ${rule}`);
  // The rest of a value that was not quoted looks like a name.
  assert.equal(refusal("KEY=-----BEGIN\nMIIhush=\n"), `Line 2 of the file: ${rule}`);
});

describe("files made to hurt", () => {
  test("too long", () => {
    assert.equal(refusal(`A=${"ü".repeat(512_000)}`), "A file of secrets can't be longer than 1000 KiB.");
  });

  const size = 1_000_000;
  const repeated = (part: string, before = "", after = "") =>
    before + part.repeat((size - before.length - after.length) / part.length) + after;
  const cases: Record<string, string> = {
    "nesting in YAML": repeated("[", "A: "),
    "nesting of maps in YAML": repeated("{a: ", "A: "),
    "nesting of lists in YAML": repeated("- ", "A: "),
    "many pairs in YAML": repeated("A:\n"),
    "many aliases in YAML": repeated("B: *a\n", "A: &a x\n"),
    "many tags in YAML": repeated("!a ", "A: "),
    "nesting in JSON": repeated('{"A":'),
    "many pairs in JSON": repeated('"A":1,', "{"),
    "an open string in JSON": repeated("\\n", '{"A":"'),
    "an open quotation mark in env": repeated("\\", 'A="'),
    "many exports": repeated("export ", "A=1\n"),
  };
  for (const [what, text] of Object.entries(cases)) test(what, () => assert.ok(refusal(text).length < 200));

  test("long values are read", () => {
    for (const part of [" #", "#", "a ", "  "]) assert.ok(parseUpload(repeated(part, "A=x", "\nB=1")).get("B"));
    assert.ok(parseUpload(repeated(" x\n", "A: |\n")).get("A"));
    assert.ok(parseUpload(repeated("\\n", '{"A":"', '"}')).get("A"));
  });

  test("no text breaks a reader, and no refusal holds anything of it", () => {
    const piece = fc.oneof(
      fc.constantFrom(
        "A",
        "=",
        ":",
        '"',
        "'",
        "`",
        "\n",
        " ",
        "#",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\\",
        "&a",
        "*a",
        "!",
        "|",
        "- ",
        "? ",
        "%",
        "---",
        "\t",
      ),
      fc.constant("HUSH"),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), fc.constantFrom(undefined, "env", "json", "yaml"), (pieces, format) => {
        try {
          parseUpload(pieces.join(""), format);
        } catch (error) {
          assert.ok(error instanceof ServiceError, String(error));
          assert.ok(!error.message.includes("HUSH"), error.message);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
