// Declarations of HTTP APIs: their rules, templates, JSON paths and addresses.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RotatorError, ServiceError } from "../../src/core/error.ts";
import { parseHttpApiDeclaration } from "../../src/targets/http-api.ts";
import { refusesAddress } from "../../src/targets/http-api-address.ts";
import { keyId } from "../../src/targets/http-api-answer.ts";
import { at, parseJson, parsePath } from "../../src/targets/http-api-json.ts";
import { fillRequest } from "../../src/targets/http-api-request.ts";
import { fillJson, parseTemplate, render, type TemplateValues } from "../../src/targets/http-api-template.ts";

const good = {
  origin: "https://api.example.com",
  id: "keyId",
  auth: {
    current: { type: "bearer", token: "{{current.apiKey}}" },
    admin: { type: "bearer", token: "{{admin.apiKey}}" },
  },
  create: { method: "POST", path: "/keys", json: { name: "rekey-{{rotationId}}" }, extract: { keyId: "id", apiKey: "key" } },
  test: { method: "GET", path: "/me" },
  delete: { method: "DELETE", path: "/keys/{{id}}" },
};

function problems(json: unknown): string {
  try {
    parseHttpApiDeclaration(json);
    return "";
  } catch (error) {
    assert.ok(error instanceof ServiceError);
    assert.equal(error.code, "InvalidParameterException");
    return error.message;
  }
}

/** A copy with one member set, by its path. */
function withMember(path: string, value: unknown): unknown {
  const copy: Record<string, unknown> = structuredClone(good);
  let holder = copy;
  const names = path.split(".");
  const last = names.pop() ?? "";
  for (const name of names) holder = holder[name] as Record<string, unknown>;
  holder[last] = value;
  return copy;
}

test("a declaration is refused by field and rule", () => {
  assert.equal(problems(good), "");
  const cases: [string, unknown, RegExp][] = [
    ["surplus", 1, /surplus/],
    ["origin", "api.example.com", /origin: must be a URL/],
    ["origin", "https://api.example.com/", /origin: must be scheme, host and port only/],
    ["origin", "https://user@api.example.com", /origin: must be scheme/],
    ["origin", "http://api.example.com", /origin: must begin with https:\/\/, unless allowInsecure/],
    ["origin", "ftp://api.example.com", /origin: must be(gin)? /],
    ["origin", "https://169.254.169.254", /origin: .* metadata/],
    ["origin", "https://[fe80::1]", /origin: .* metadata/],
    ["origin", "https://0.0.0.0", /origin: .* metadata/],
    ["allowAddresses", ["10.0.0.0/99"], /allowAddresses.0: must be an address/],
    ["timeoutSeconds", 9, /timeoutSeconds/],
    ["id", "key id", /id: must be the name of a field/],
    ["id", "other", /create.extract: must give other/],
    ["auth.current.token", "fixed", /auth.current: must name a field/],
    ["auth.current.token", "{{admin.apiKey}}", /auth.current: may not name \{\{admin\}\}/],
    ["auth.admin.token", "{{current.apiKey}}", /auth.admin: may not name \{\{current\}\}/],
    ["auth.current", { type: "header", name: "Host", value: "{{current.apiKey}}" }, /auth.current.name/],
    ["auth.current", { type: "header", name: "a b", value: "{{current.apiKey}}" }, /auth.current.name/],
    ["auth.current", { type: "magic" }, /auth.current/],
    ["create.path", "keys", /create.path/],
    ["create.path", "//evil.example/keys", /create.path/],
    ["create.path", "/a/../keys", /create.path/],
    ["create.path", "/a/%2e%2e/keys", /create.path/],
    ["create.path", "/keys?all=true", /create.path/],
    ["create.path", "/keys#x", /create.path/],
    ["create.path", "/keys\\x", /create.path/],
    ["create.path", "/keys\r\nx", /create.path/],
    ["create.path", "/keys/{{id}}", /create.path: may not name \{\{id\}\}/],
    ["create.path", "/keys/{{current.user", /create.path: has \{\{ without/],
    ["create.path", "/keys/{{process.env}}", /create.path: may not name \{\{process.env\}\}/],
    ["create.path", "/keys/{{current.__proto__.x}}", /create.path: may not name/],
    ["create.path", "/users/{{current.user}}/keys", /create: \{\{current.user\}\} steers the superuser's key/],
    ["create.json", { "{{current.a}}": 1 }, /create.json: names may not hold templates/],
    ["create.form", { a: "b" }, /create.form: stands beside json/],
    ["create.headers", { "Content-Length": "1" }, /create.headers.Content-Length/],
    ["create.headers", { "a\r\nb": "1" }, /create.headers/],
    ["create.method", "GET", /create.method: GET/],
    ["create.extract", { keyId: "id", masterarn: "x" }, /create.extract.masterarn: is not for an API to say/],
    ["create.extract", { keyId: "id[*]" }, /create.extract.keyId: must be a path/],
    ["create.errors", [{ status: 500, outcome: "refused" }], /create.errors.0.outcome: a server that fails says nothing/],
    ["create.errors", [{ status: "5xx", outcome: "denied" }], /create.errors.0.outcome/],
    ["create.errors", [{ status: 200, outcome: "refused" }], /create.errors.0: a success is an error by its body only/],
    ["create.errors", [{ status: 400, path: "a", outcome: "refused" }], /create.errors.0: path and equals go together/],
    ["test.as", "admin", /test.as/],
    ["test.path", "/me/{{admin.apiKey}}", /test.path: may not name \{\{admin\}\}/],
    ["delete.path", "/keys/", /delete: must say which key, by \{\{id\}\}/],
    ["delete.method", "GET", /delete.method: GET deletes nothing/],
    ["list", { method: "GET", path: "/keys", items: "data", id: "id" }, /list.mark/],
    ["account", "{{current.keyId}}", /account: keyId changes with each key/],
    ["account", "{{admin.x}}", /account: may not name \{\{admin\}\}/],
  ];
  for (const [path, value, expected] of cases) assert.match(problems(withMember(path, value)), expected, `${path} ${value}`);
});

test("a repeatable request carries the rotation and nothing random; a list needs its mark", () => {
  const create = { ...good.create, repeatable: true };
  assert.equal(problems({ ...good, create }), "");
  assert.match(problems({ ...good, create: { ...create, json: { name: "x" } } }), /create.repeatable: needs \{\{rotationId\}\}/);
  const random = { ...create, json: { name: "{{rotationId}}{{random.8}}" } };
  assert.match(problems({ ...good, create: random }), /create.repeatable: a repeat must be the same/);
  const list = { method: "GET", path: "/keys", items: "$", id: "id", mark: { path: "name" } };
  assert.equal(problems({ ...good, list }), "");
  assert.match(problems({ ...good, list, create: { ...good.create, json: {} } }), /create: must mark what it makes/);
});

test("a field that steers the superuser's key is part of the account, and proven by the test", () => {
  const create = { ...good.create, path: "/users/{{current.user}}/keys" };
  const account = "{{current.user}}";
  const proven = { ...good.test, expect: { json: { user: "{{current.user}}" } } };
  assert.equal(problems({ ...good, create, account, test: proven }), "");
  for (const change of [{ account }, { test: proven }, { account: "all", test: proven }]) {
    assert.match(problems({ ...good, create, ...change }), /create: \{\{current.user\}\} steers the superuser's key/);
  }
  const half = { ...good.test, expect: { json: { user: "x{{current.user}}" } } };
  assert.match(problems({ ...good, create, account, test: half }), /steers/);
  const own = { ...create, as: "current" };
  assert.equal(problems({ ...good, create: own }), "");
});

test("plain http is for this machine, or for who says so", () => {
  for (const origin of ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"])
    assert.equal(problems({ ...good, origin }), "");
  assert.equal(problems({ ...good, origin: "http://keys.intern", allowInsecure: true }), "");
  assert.equal(problems({ ...good, origin: "https://169.254.169.254", allowAddresses: ["169.254.169.254"] }), "");
});

test("a public name may not lead to this machine or its metadata", () => {
  const refuses = refusesAddress("api.example.com", []);
  for (const address of [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "::ffff:127.0.0.1",
    "169.254.169.254",
    "::ffff:a9fe:a9fe",
    "fd00:ec2::254",
  ]) {
    assert.ok(refuses(address), address);
  }
  for (const address of ["0.0.0.0", "::", "fe80::1", "224.0.0.1", "255.255.255.255", "64:ff9b::a9fe:a9fe", "100.100.100.200"]) {
    assert.ok(refuses(address), address);
  }
  for (const address of ["93.184.216.34", "10.1.2.3", "192.168.1.1", "2606:4700::1111"]) assert.ok(!refuses(address), address);
  assert.ok(!refusesAddress("localhost", [])("127.0.0.1"));
  assert.ok(refusesAddress("localhost", [])("169.254.169.254"));
  assert.ok(!refusesAddress("api.example.com", ["169.254.0.0/16"])("169.254.169.254"));
});

const values: TemplateValues = { current: {}, rotationId: "r", random: (length) => "x".repeat(length) };
const anyText = fc.oneof(
  fc.string({ minLength: 1, unit: "binary" }),
  fc.constantFrom("..", ".", "%2e", "a/b", "\r\n", "{{id}}", "?#", "\ud800"),
);

test("property: a value fills its place in a path, or is refused; it never moves to another", () => {
  const declaration = parseHttpApiDeclaration({
    ...good,
    auth: { current: good.auth.current },
    create: { ...good.create, path: "/users/{{current.user}}/keys" },
  });
  fc.assert(
    fc.property(anyText, (user) => {
      const filled = attempt(() =>
        fillRequest(declaration, "create", declaration.create, { ...values, current: { user, apiKey: "k" } }),
      );
      if (filled === undefined) return;
      assert.equal(filled.url.origin, good.origin);
      assert.equal(filled.url.search + filled.url.hash, "");
      const [, users, segment = "", keys, ...rest] = filled.url.pathname.split("/");
      assert.deepEqual([users, decodeURIComponent(segment), keys, rest], ["users", user, "keys", []]);
    }),
    { numRuns: 2_000 },
  );
});

test("property: a value in a header is on one line; in JSON it is a text, in a query or form one value", () => {
  const { create } = parseHttpApiDeclaration({ ...good, auth: { current: good.auth.current } });
  const auth = { type: "query", name: "key", value: "{{current.note}}" };
  const declaration = parseHttpApiDeclaration({ ...good, auth: { current: auth } });
  const note = "{{current.note}}";
  const fill = (change: object, value: string) =>
    attempt(() => fillRequest(declaration, "create", { ...create, ...change }, { ...values, current: { note: value } }));
  fc.assert(
    fc.property(anyText, (value) => {
      const headers = fill({ headers: { "x-note": `a ${note}` } }, value)?.headers ?? {};
      assert.match(headers["x-note"] ?? "a", /^[\x20-\x7e]+$/);
      const filled = fill({ query: { q: note }, json: { a: `${note}!` } }, value);
      assert.equal(filled === undefined, !value.isWellFormed());
      if (!filled) return;
      assert.deepEqual(JSON.parse(filled.body ?? ""), { a: `${value}!` });
      assert.deepEqual([...filled.url.searchParams].flat(), ["q", value, "key", value]);
      const form = fill({ json: undefined, form: { a: note, b: "x" } }, value);
      assert.deepEqual([...new URLSearchParams(form?.body)].flat(), ["a", value, "b", "x"]);
    }),
    { numRuns: 2_000 },
  );
});

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    assert.ok(error instanceof RotatorError && error.outcome === "invalid", String(error));
    return undefined;
  }
}

test("property: a text without braces is itself; placeholders are filled once", () => {
  fc.assert(
    fc.property(fc.string(), fc.string({ minLength: 1 }), (text, value) => {
      const plain = text.replace(/[{}]/g, "");
      assert.equal(render(plain, values), plain);
      assert.equal(render(`${plain}{{current.a}}${plain}`, { ...values, current: { a: value } }), `${plain}${value}${plain}`);
      assert.equal(fillJson("{{current.a}}", { ...values, current: { a: value } }), value);
    }),
  );
  for (const text of [
    "{{",
    "}}",
    "a{{b",
    "{{}}",
    "{{current}}",
    "{{current.a.b}}",
    "{{random.0}}",
    "{{random.129}}",
    "{{random.x}}",
  ]) {
    assert.equal(typeof parseTemplate(text), "string", text);
  }
});

test("what is missing, empty or no scalar fills no template", () => {
  for (const a of [undefined, "", null, {}, [], Number.NaN, 2 ** 60]) {
    assert.throws(() => render("{{current.a}}", { ...values, current: { a } }), RotatorError);
  }
  const inherited = Object.create({ a: "inherited" }) as Record<string, unknown>;
  assert.throws(() => render("{{current.a}}", { ...values, current: inherited }), RotatorError);
  for (const name of ["__proto__", "constructor", "toString"]) {
    assert.throws(() => render(`{{current.${name}}}`, values), RotatorError, name);
  }
});

test("property: a path finds what stands there, and own properties only", () => {
  const name = fc.string({ unit: fc.constantFrom(..."abc_-@1"), minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(fc.array(fc.oneof(name, fc.nat(5)), { minLength: 1, maxLength: 10 }), fc.jsonValue(), (steps, leaf) => {
      const json = steps.reduceRight<unknown>(
        (inner, step) => (typeof step === "number" ? [...Array<null>(step).fill(null), inner] : { [step]: inner }),
        leaf,
      );
      const path = steps.map((step) => (typeof step === "number" ? `[${step}]` : `.${step}`)).join("");
      assert.deepEqual(parsePath(`$${path}`), steps);
      assert.deepEqual(at(json, `$${path}`), leaf);
      assert.deepEqual(at(json, path.replace(/^\./, "")), leaf);
      assert.equal(at(json, `$${path}.no[0]`), undefined);
    }),
  );
  assert.deepEqual(at([1], "$"), [1]);
  for (const path of ["", ".", "a.", "a..b", "a[", "a[-1]", "a[x]", "a[*]", "$.", "$x y", "a b", "a()", `a${".b".repeat(30)}`]) {
    assert.equal(parsePath(path), undefined, path);
  }
  for (const path of ["__proto__", "constructor.name", "a.length", "a.toString"])
    assert.equal(at({ a: [1] }, path), undefined, path);
  assert.equal(at("text", "length"), undefined);
});

test("JSON that says one name twice, or is none, is none", () => {
  assert.deepEqual(parseJson('{"a": {"a": 1}}'), { a: { a: 1 } });
  for (const text of ["", "<html>", '{"a": 1, "a": 2}', '{"a": 1, "\\u0061": 2}', "{'a': 1}", "[1,]"]) {
    assert.equal(parseJson(text), undefined, text);
  }
});

test("property: an id is one segment of a URL, whatever it is", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const id = keyId(text);
      if (id === undefined) return;
      const { pathname, search, hash } = new URL(`https://host/keys/${encodeURIComponent(id)}`);
      assert.deepEqual([decodeURIComponent(pathname), search, hash], [`/keys/${id}`, "", ""]);
      assert.ok(!/[/\\%?#\s]/.test(id) && !/^\.*$/.test(id));
    }),
    { numRuns: 2_000 },
  );
  assert.equal(keyId(42), "42");
  for (const value of [1.5, 2 ** 60, true, null, {}, ["a"]]) assert.equal(keyId(value), undefined);
});
