import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  mysqlDialect,
  postgresDialect,
  renderStatement,
  type SqlDialect,
  statementList,
} from "../../src/targets/lease-statements.ts";

const names = ["username", "usernameText", "expiration", "password"] as const;
const problemsOf = (dialect: SqlDialect, statement: string): string[] =>
  statementList(dialect, names)
    .safeParse([statement])
    .error?.issues.map(({ message }) => message) ?? [];

const values = { username: '"u"', usernameText: "'u'", expiration: "'e'", password: "'p'" };

describe("statements with placeholders", () => {
  test("a placeholder becomes a value with its own quotes, wherever it stands by itself", () => {
    for (const [statement, rendered] of [
      ["create role {{username}} password {{password}}", `create role "u" password 'p'`],
      ["{{username}}", '"u"'],
      ["select f({{usernameText}},{{ expiration }}::timestamptz)", "select f('u','e'::timestamptz)"],
      ["alter role {{username}};-- '", `alter role "u";-- '`],
      ["select '{{', \"{{1,2}}\", '{{1},{2}}'; alter role {{username}}", `select '{{', "{{1,2}}", '{{1},{2}}'; alter role "u"`],
      ["do $$ begin perform 'a'; end $$", "do $$ begin perform 'a'; end $$"],
      ["/* it's */ drop role {{username}} /* \" */", `/* it's */ drop role "u" /* " */`],
      ["select 'it''s', E'\\'' , {{usernameText}}", "select 'it''s', E'\\'' , 'u'"],
    ] as const) {
      assert.deepEqual(problemsOf(postgresDialect, statement), [], statement);
      assert.equal(renderStatement(statement, postgresDialect, values), rendered);
    }
  });

  test("one inside quotes or a comment is refused, in every way of quoting", () => {
    for (const [dialect, statement] of [
      [postgresDialect, "create role x password '{{password}}'"],
      [postgresDialect, `create role "{{username}}"`],
      [postgresDialect, "select E'\\'{{password}}'"],
      [postgresDialect, "select e'a''{{password}}'"],
      [postgresDialect, "do $$ begin execute 'drop role ' || {{username}}; end $$"],
      [postgresDialect, "do $a$ $$ {{username}} $$ $a$"],
      [postgresDialect, "select 1 -- {{password}}"],
      [postgresDialect, "select 1 /* {{password}} */"],
      [postgresDialect, `select U&"{{username}}"`],
      [mysqlDialect, "create user x identified by '{{password}}'"],
      [mysqlDialect, 'create user x identified by "a\\"{{password}}"'],
      [mysqlDialect, "create user `{{username}}`"],
      [mysqlDialect, "select 1 # {{password}}"],
      [mysqlDialect, "select 1 -- {{password}}"],
      [mysqlDialect, "select /*! {{password}} */"],
      [mysqlDialect, "select '\\\\\\'{{password}}'"],
    ] as const) {
      assert.match(problemsOf(dialect, statement).join(), /inside quotes or a comment/, statement);
    }
  });

  test("one that sticks to something is refused: together they would be read as another text", () => {
    for (const statement of [
      "alter role x{{username}}",
      "alter role {{username}}x",
      "select 'a'{{password}}",
      "select {{password}}'a'",
      "select {{password}}{{password}}",
      "select E{{password}}",
      "select U&{{usernameText}}",
      "grant x to {{username}}@localhost",
      "select $a{{username}}",
      "select \\{{username}}",
      "select é{{username}}",
    ]) {
      assert.match(problemsOf(postgresDialect, statement).join(), /must stand by itself/, statement);
    }
  });

  test("unknown ones, open quotes and comments within comments are refused", () => {
    for (const [statement, problem] of [
      ["drop role {{name}}", /has no placeholder \{\{name\}\}; here are \{\{username\}\}/],
      ["drop role {{constructor}}", /has no placeholder/],
      ["drop role {{}}", /begins no placeholder/],
      ["drop role {{ user name }}", /begins no placeholder/],
      ["drop role {{{username}}}", /begins no placeholder/],
      ["drop role {{username", /begins no placeholder/],
      ["select 'open", /without an end/],
      ['select "open', /without an end/],
      ["select $tag$ open $tag2$", /without an end/],
      ["select /* open", /without an end/],
      ["select E'open\\'", /without an end/],
      ["/* /* */ {{username}} */", /comment within a comment/],
      ["a\0b", /NUL/],
    ] as const) {
      assert.match(problemsOf(postgresDialect, statement).join(), problem, statement);
    }
  });

  test("lists are bounded, and name what they must use", () => {
    const list = statementList(postgresDialect, names, ["username", "password"]);
    assert.equal(list.safeParse([]).success, false);
    assert.equal(list.safeParse(["drop role {{username}}"]).success, false);
    assert.equal(list.safeParse(["create role {{username}}", "alter role {{username}} password {{password}}"]).success, true);
    assert.equal(statementList(postgresDialect, names).safeParse(Array(21).fill("select 1")).success, false);
    assert.equal(statementList(postgresDialect, names).safeParse(["x".repeat(8_193)]).success, false);
    assert.equal(statementList(postgresDialect, ["username"]).safeParse(["select {{password}}"]).success, false);
  });

  test("whatever is accepted holds its values where they were put, and nothing else changes", () => {
    const piece = fc.constantFrom(
      ...["'", '"', "`", "$$", "$a$", "--", "#", "/*", "*/", "\\", "\n", " ", "E", "e'", "U&", ";", "a", "1", "(", "{", "}"],
      ...["{{username}}", "{{password}}", "{{", "}}", "''", "\\'"],
    );
    for (const dialect of [postgresDialect, mysqlDialect]) {
      fc.assert(
        fc.property(fc.array(piece, { maxLength: 25 }), (pieces) => {
          const statement = pieces.join("");
          if (statement === "" || problemsOf(dialect, statement).length > 0) return;
          const marks = { username: "\u0001", usernameText: "\u0002", expiration: "\u0003", password: "\u0004" };
          const rendered = renderStatement(statement, dialect, marks);
          assert.equal(rendered.replaceAll("\u0001", "{{username}}").replaceAll("\u0004", "{{password}}"), statement);
          const outside = withoutQuoted(rendered, dialect);
          for (const mark of ["\u0001", "\u0004"]) assert.equal(outside.split(mark).length, rendered.split(mark).length);
        }),
        { numRuns: 3_000 },
      );
    }
  });
});

/** By another way than the one under test: all quoted stretches in one expression, from the left. */
function withoutQuoted(text: string, dialect: SqlDialect): string {
  const stretches =
    dialect === postgresDialect
      ? /(?<![\w$\u0080-\uffff])[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w$\u0080-\uffff])\$(a?)\$[\s\S]*?\$\1\$|--.*|\/\*[\s\S]*?\*\//g
      : /'(?:[^'\\]|\\[\s\S]|'')*'|"(?:[^"\\]|\\[\s\S]|"")*"|`(?:[^`]|``)*`|--(?=\s|$).*|#.*|\/\*[\s\S]*?\*\//g;
  return text.replace(stretches, "");
}
