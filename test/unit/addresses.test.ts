// Where verbs connect to, and which of it an allow-list lets through: whoever writes the credentials is not trusted.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RotatorError, ServiceError } from "../../src/core/error.ts";
import { addressedKinds, addressesOf, addressText, isAllowed, parseAllowRule } from "../../src/targets/addresses.ts";
import { findRotator } from "../../src/targets/index.ts";
import { findLeaseTarget } from "../../src/targets/lease-targets.ts";

const texts = (kind: string, input: object, declaration?: unknown) => addressesOf(kind, input, declaration).map(addressText);
const at = (host: unknown, more: object = {}) => ({ host, username: "app", password: "p", ...more });
const allowed = (rule: string, host: string, port = 5432, kind = "postgres") =>
  isAllowed([parseAllowRule(rule)], { kind, host, port });

test("every address counts, whichever version, user or node it hides in", () => {
  assert.deepEqual(texts("postgres", { credential: at("a") }), ["postgres://a:5432"]);
  const versions = { current: at("a"), pending: at("b", { port: "1" }), previous: at("c"), admin: at("d", { port: 4 }) };
  assert.deepEqual(texts("postgres", { versions, strategy: "single-user" }), [
    "postgres://a:5432",
    "postgres://b:1",
    "postgres://c:5432",
    "postgres://d:4",
  ]);
  assert.deepEqual(texts("mysql", { old: at("o"), access: { current: at("a") } }), ["mysql://o:3306", "mysql://a:3306"]);
  assert.deepEqual(texts("redis", { credential: at("A", { nodes: ["b:1", "[::1]:2", "c"] }) }), [
    "redis://A:6379",
    "redis://b:1",
    "redis://[::1]:2",
    "redis://c:6379",
  ]);
  assert.deepEqual(texts("random", { credential: {} }), []);
});

test("an HTTP API is where its declaration says, and a lease's where its connection says", () => {
  const origin = "https://API.example.com";
  assert.deepEqual(texts("http-api", { credential: {} }, { origin }), ["http-api://api.example.com:443"]);
  assert.deepEqual(texts("http-api", { connection: { origin: "http://[::1]:8080" } }), ["http-api://[::1]:8080"]);
  // A declaration beside a connection steers nothing.
  assert.deepEqual(texts("http-api", { connection: { origin: "https://evil.example" } }, { origin }), [
    "http-api://evil.example:443",
  ]);
  // What stands before an @ is no host.
  assert.deepEqual(texts("http-api", { connection: { origin: "https://db.internal@evil.example" } }), [
    "http-api://evil.example:443",
  ]);
  for (const bad of ["ftp://a", "db.internal", "file:///etc/passwd"])
    assert.throws(() => addressesOf("http-api", { connection: { origin: bad } }), RotatorError);
});

test("AWS is asked at IAM and STS of the region, or where both endpoints say", () => {
  const keys = { username: "u" };
  assert.deepEqual(texts("aws-iam", { credential: { ...keys, region: "eu-west-1" } }), [
    "aws-iam://iam.amazonaws.com:443",
    "aws-iam://sts.eu-west-1.amazonaws.com:443",
  ]);
  assert.deepEqual(texts("aws-sts", { connection: { endpoint: "https://a.example", stsEndpoint: "https://b.example:8443" } }), [
    "aws-sts://a.example:443",
    "aws-sts://b.example:8443",
  ]);
  assert.deepEqual(texts("aws-iam", { credential: { endpoint: "http://127.0.0.1:1" } }), [
    "aws-iam://127.0.0.1:1",
    "aws-iam://127.0.0.1:1",
  ]);
  assert.throws(() => addressesOf("aws-iam", { credential: { region: "us-isob-east-1" } }), RotatorError);
});

test("AWS's own client asks at these very hosts", async () => {
  const { STSClient } = await import("@aws-sdk/client-sts");
  const { IAMClient } = await import("@aws-sdk/client-iam");
  for (const region of ["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"]) {
    const [iam, sts] = addressesOf("aws-iam", { credential: { region } });
    for (const [Client, found] of [
      [IAMClient, iam],
      [STSClient, sts],
    ] as const) {
      const { endpointProvider } = new Client({ region }).config;
      const endpoint = endpointProvider({
        Region: region,
        UseFIPS: false,
        UseDualStack: false,
        UseGlobalEndpoint: false,
      } as never);
      assert.equal(endpoint.url.hostname, found?.host, region);
    }
  }
});

test("kinds, ports and what is no host are as the rotators have them", async () => {
  for (const kind of addressedKinds.filter((one) => !/^(aws|http)/.test(one))) {
    const rotator = await findRotator(kind);
    const value = { ...at("Db.Internal"), username: "cn=app,dc=example", dbname: "x" };
    const account = rotator?.account(value, "single-user") ?? "";
    const [address] = addressesOf(kind, { credential: value });
    assert.equal(new URL(account).host, `db.internal:${address?.port}`, kind);
    const lease = await findLeaseTarget(kind);
    if (!lease) continue;
    const more = kind === "ldap" ? { baseDn: "dc=example" } : {};
    const connection = lease.connection.parse({ host: "h", username: value.username, password: "p", ...more }) as {
      port: number;
    };
    assert.equal(connection.port, address?.port, `leases of ${kind}`);
  }
  for (const host of [undefined, "", 7, null, ["a", "b"], { a: 1 }])
    assert.throws(() => addressesOf("postgres", { credential: at(host) }), RotatorError);
  for (const port of [0, 65_536, "x", -1, 1.5])
    assert.throws(() => addressesOf("postgres", { credential: at("a", { port }) }), RotatorError);
  assert.throws(() => addressesOf("postgres", {}), RotatorError);
  assert.throws(() => addressesOf("toString", { credential: at("a") }), RotatorError);
});

test("a rule lets through what it names and nothing that looks like it", () => {
  const name = "postgres://db.internal:5432";
  for (const host of ["db.internal", "DB.Internal", "db.internal."]) assert.ok(allowed(name, host), host);
  for (const host of [
    "xdb.internal",
    "db.internal.evil.example",
    "db.internal..",
    ".db.internal",
    "db.internal\0.evil",
    "evil@db.internal",
    "db.internal/evil",
    "db.internal:5432",
    "db.internal,evil.example",
    "mongodb+srv://db.internal",
    "(HOST=db.internal)(HOST=evil)",
    "db.internal\\instance",
    "ｄｂ.internal",
    "db。internal",
    "db.internal ",
    "",
  ])
    assert.equal(allowed(name, host), false, JSON.stringify(host));
  assert.equal(allowed(name, "db.internal", 5433), false);
  assert.equal(allowed(name, "db.internal", 5432, "mysql"), false);
});

test("names below a name, ranges, addresses and sockets", () => {
  const below = "postgres://*.db.internal:*";
  for (const host of ["a.db.internal", "B.A.db.internal."]) assert.ok(allowed(below, host, 1), host);
  for (const host of ["db.internal", ".db.internal", "adb.internal", "a.db.internal.evil", "a/.db.internal", "evil#.db.internal"])
    assert.equal(allowed(below, host), false, host);
  const range = "postgres://10.0.0.0/8:5432";
  for (const host of ["10.1.2.3", "::ffff:10.1.2.3"]) assert.ok(allowed(range, host), host);
  // What a resolver may read as such an address, and names that lead there, are none.
  for (const host of ["11.0.0.1", "167772161", "0xa000001", "10.1", "012.0.0.1", "10.0.0.1.nip.io", "10.0.0.1 "])
    assert.equal(allowed(range, host), false, host);
  const v6 = "postgres://[2001:db8::/32]:5432";
  for (const host of ["2001:db8::1", "2001:0DB8:0:0::1"]) assert.ok(allowed(v6, host), host);
  for (const host of ["2001:db9::1", "[2001:db8::1]", "2001:db8::1%eth0"]) assert.equal(allowed(v6, host), false, host);
  assert.ok(allowed("postgres://[::1]:5432", "0:0:0:0:0:0:0:1"));
  assert.ok(allowed("postgres://127.0.0.1:5432", "127.0.0.1"));
  for (const host of ["localhost", "127.1", "0", "2130706433"])
    assert.equal(allowed("postgres://127.0.0.1:5432", host), false, host);
  assert.ok(allowed("postgres:///run/postgresql", "/run/postgresql"));
  for (const host of ["/run/postgresql/../x", "/run/postgresql/", "run/postgresql"])
    assert.equal(allowed("postgres:///run/postgresql", host), false, host);
  assert.ok(allowed("postgres://*:*", "anything.example", 1));
  assert.equal(allowed("postgres://*:*", "/run/postgresql"), false);
});

test("a rule that cannot be read is refused by name", () => {
  for (const [text, why] of [
    ["", /not one of/],
    ["db.internal:5432", /not one of/],
    ["postgres://", /not one of/],
    ["postgres://a b:1", /not one of/],
    ["postgres://a,b:1", /not one of/],
    ["postgres://db.internal", /no port/],
    ["postgres://db.internal:0", /port between/],
    ["postgres://db.internal:70000", /port between/],
    ["Postgres://db.internal:1", /not one of/],
    ["oracledb://db.internal:1", /no kind of target/],
    ["random://db.internal:1", /no kind of target/],
    ["postgres://*x.internal:1", /no host name/],
    ["postgres://a.*.internal:1", /no host name/],
    ["postgres://user@db.internal:1", /no host name/],
    ["postgres://127.1:1", /no host name/],
    ["postgres://2130706433:1", /no host name/],
    ["postgres://0x7f.1:1", /no host name/],
    ["postgres://10.0.0.0/99:1", /no host name/],
    ["postgres:///run/x:5432", /a path, which has no port/],
  ] as const) {
    assert.throws(
      () => parseAllowRule(text),
      (error) => error instanceof ServiceError && why.test(error.message) && error.message.includes(JSON.stringify(text)),
      text,
    );
  }
  assert.equal(isAllowed([], { kind: "postgres", host: "a", port: 1 }), false);
});

test("property: a rule for one name lets through no other host", () => {
  const [name, range] = [parseAllowRule("postgres://db.internal:5432"), parseAllowRule("postgres://10.0.0.0/8:5432")];
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.domain(), fc.ipV4(), fc.ipV6(), fc.webUrl()), (host) => {
      const address = { kind: "postgres", host, port: 5432 };
      if (name.allows(address)) assert.equal(host.toLowerCase().replace(/\.$/, ""), "db.internal");
      if (range.allows(address)) assert.match(host, /^10\.|:/);
    }),
  );
});
