// Downloads: six formats, seven name transformers, and the readers that meet them.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { parseEnv } from "node:util";
import fc from "fast-check";
import { parse as parseYaml } from "yaml";
import { configFormats, renderSecrets } from "../../src/core/config-formats.ts";
import { isManagedName } from "../../src/core/config-names.ts";
import { nameTransformers, transformNames } from "../../src/core/config-transformers.ts";
import { parseUpload } from "../../src/core/config-upload.ts";
import { ServiceError } from "../../src/core/error.ts";

const refuses = (act: () => unknown, message: RegExp) =>
  assert.throws(
    act,
    (error) => error instanceof ServiceError && error.code === "ValidationException" && message.test(error.message),
  );

const some = new Map([
  ["B_KEY", 'say "hi" \\ $HOME'],
  ["A", "two\nlines\r"],
  ["NO", ""],
]);

describe("formats", () => {
  const bodies: Record<(typeof configFormats)[number], string> = {
    json: '{"A":"two\\nlines\\r","B_KEY":"say \\"hi\\" \\\\ $HOME","NO":""}',
    "dotnet-json": '{"A":"two\\nlines\\r","BKey":"say \\"hi\\" \\\\ $HOME","No":""}',
    env: 'A="two\\nlines\\r"\nB_KEY="say \\"hi\\" \\\\ $HOME"\nNO=""\n',
    "env-no-quotes": 'A=two\\nlines\\r\nB_KEY=say "hi" \\ $HOME\nNO=\n',
    docker: 'A=two\\nlines\\r\nB_KEY=say "hi" \\ $HOME\nNO=\n',
    yaml: 'A: "two\\nlines\\r"\nB_KEY: "say \\"hi\\" \\\\ $HOME"\n"NO": ""\n',
  };
  for (const format of configFormats)
    test(format, () => {
      const { body, contentType } = renderSecrets(some, { format });
      assert.equal(body, bodies[format]);
      assert.equal(contentType, format.endsWith("json") ? "application/json; charset=utf-8" : "text/plain; charset=utf-8");
    });

  test("nothing is an empty file, or an empty object", () => {
    for (const format of configFormats)
      assert.equal(renderSecrets(new Map(), { format }).body, format.endsWith("json") ? "{}" : "");
  });

  test("names that look like numbers after their transformer stay in order", () => {
    const { body } = renderSecrets(
      new Map([
        ["_9", "x"],
        ["_10", "y"],
        ["A", "z"],
      ]),
      { format: "json", transformer: "camel" },
    );
    assert.equal(body, '{"10":"y","9":"x","a":"z"}');
  });

  test("a NUL is refused where no environment could hold it, by name alone", () => {
    const nul = new Map([["KEY", "hush\0hush"]]);
    for (const format of ["env", "env-no-quotes", "docker"] as const)
      refuses(
        () => renderSecrets(nul, { format }),
        /^The value of KEY holds a NUL, which no environment can: download it as json or yaml\.$/,
      );
    assert.equal(parseYaml(renderSecrets(nul, { format: "yaml" }).body).KEY, "hush\0hush");
    assert.equal(JSON.parse(renderSecrets(nul, { format: "json" }).body).KEY, "hush\0hush");
  });
});

describe("name transformers", () => {
  const cases: Record<string, Record<string, string>> = {
    camel: { API_KEY: "apiKey", A__B: "aB", _PRIVATE: "private", S3_KEY2: "s3Key2", _: "_" },
    "upper-camel": { API_KEY: "ApiKey", A__B: "AB", _PRIVATE: "Private", _: "_" },
    "lower-snake": { API_KEY: "api_key", A__B: "a__b" },
    "lower-kebab": { API_KEY: "api-key" },
    "tf-var": { API_KEY: "TF_VAR_api_key" },
    dotnet: { API_KEY: "ApiKey", SMTP__USER_NAME: "Smtp:UserName", A__B__C: "A:B:C" },
    "dotnet-env": { API_KEY: "ApiKey", SMTP__USER_NAME: "Smtp__UserName" },
  };
  for (const transformer of nameTransformers)
    test(transformer, () => {
      for (const [name, after] of Object.entries(cases[transformer] ?? {}))
        assert.equal(transformNames([name], transformer).get(name), after);
    });

  test("two names that would become one are refused, both named", () => {
    refuses(
      () =>
        renderSecrets(
          new Map([
            ["A_B", ""],
            ["A__B", ""],
          ]),
          { format: "json", transformer: "camel" },
        ),
      /makes aB of both A_B and A__B/,
    );
    refuses(
      () =>
        renderSecrets(
          new Map([
            ["A_B", ""],
            ["_A_B", ""],
          ]),
          { format: "dotnet-json" },
        ),
      /^Name transformer dotnet makes/i,
    );
  });

  test("dotnet-json has names of its own", () => {
    refuses(() => renderSecrets(some, { format: "dotnet-json", transformer: "camel" }), /leave name transformer camel out/);
    assert.equal(
      renderSecrets(some, { format: "dotnet-json", transformer: "dotnet" }).body,
      renderSecrets(some, { format: "dotnet-json" }).body,
    );
  });
});

const name = fc.stringMatching(/^[A-Z_][A-Z0-9_]{0,12}$/).filter((text) => !isManagedName(text));
const awkward = fc.constantFrom(
  "\n",
  "\r",
  '"',
  "'",
  "\\",
  "$",
  "`",
  "#",
  " ",
  "=",
  ":",
  "\\n",
  "\u0085",
  "\u2028",
  "\ufeff",
  "\x7f",
  "ü",
  "💥",
  "- ",
  `\${A}`,
);
const value = fc
  .array(fc.oneof(awkward, fc.string({ unit: "binary" })), { maxLength: 8 })
  .map((parts) => parts.join(""))
  .filter((text) => text.isWellFormed() && !text.includes("\0"));
const secrets = fc.array(fc.tuple(name, value), { maxLength: 12 }).map((pairs) => new Map(pairs));
const sorted = (map: ReadonlyMap<string, string>) => [...map].sort(([one], [other]) => (one < other ? -1 : 1));

describe("what is written is read again", () => {
  for (const format of ["env", "json", "yaml"] as const)
    test(`${format}, by upload`, () => {
      fc.assert(
        fc.property(secrets, (written) => {
          const { body } = renderSecrets(written, { format });
          assert.deepEqual([...parseUpload(body, format)], sorted(written));
          // The format is told by the text alone, except where there is none.
          if (written.size > 0) assert.deepEqual([...parseUpload(body)], sorted(written));
        }),
      );
    });

  test("yaml, by readers of YAML 1.1 too", () => {
    const words = ["Y", "N", "YES", "NO", "ON", "OFF", "TRUE", "FALSE", "NULL", "_", "A"];
    const body = renderSecrets(new Map(words.map((word) => [word, word])), { format: "yaml" }).body;
    for (const version of ["1.1", "1.2"] as const)
      assert.deepEqual(parseYaml(body, { version }), Object.fromEntries(words.map((word) => [word, word])));
  });

  test("env, by Node.js, where a value has neither quotation marks nor backslashes", () => {
    const simple = secrets.map((map) => new Map([...map].map(([key, text]) => [key, text.replace(/["\\\r]/g, "")])));
    fc.assert(
      fc.property(simple, (written) => {
        assert.deepEqual({ ...parseEnv(renderSecrets(written, { format: "env" }).body) }, Object.fromEntries(written));
      }),
    );
  });

  test("env and docker hold one secret a line, whatever a value says", () => {
    fc.assert(
      fc.property(secrets, (written) => {
        for (const format of ["env", "env-no-quotes", "docker"] as const) {
          const lines = renderSecrets(written, { format })
            .body.split(/\r\n|\r|\n/)
            .slice(0, -1);
          assert.deepEqual(
            lines.map((line) => line.slice(0, line.indexOf("="))),
            [...written.keys()].sort(),
          );
        }
      }),
    );
  });

  /** What a shell has in the variables after it sourced the text. */
  function sourced(body: string, names: readonly string[]): Record<string, string> {
    const script = `${body}\nprintf '%s\\0' ${names.map((each) => `"$${each}"`).join(" ")}`;
    const { stdout, status, stderr } = spawnSync("sh", ["-s"], {
      input: script,
      env: { PATH: process.env.PATH },
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    const values = stdout.split("\0");
    return Object.fromEntries(names.map((each, index) => [each, values[index] ?? ""]));
  }

  test("env, by a shell, where a value has neither `$` nor backticks nor line breaks", () => {
    const quiet = fc.array(
      value.map((text) => text.replace(/[$`\r\n]/g, "")),
      { minLength: 50, maxLength: 50 },
    );
    fc.assert(
      fc.property(quiet, (values) => {
        const written = new Map(values.map((text, index) => [`V${index}`, text]));
        assert.deepEqual(
          sourced(renderSecrets(written, { format: "env" }).body, [...written.keys()]),
          Object.fromEntries(written),
        );
      }),
      { numRuns: 20 },
    );
  });

  test("env, by a shell: `$` is left to it, as the format promises", () => {
    assert.equal(
      sourced(
        renderSecrets(
          new Map([
            ["A", "x"],
            ["B", "$A"],
          ]),
          { format: "env" },
        ).body,
        ["B"],
      ).B,
      "x",
    );
  });
});
