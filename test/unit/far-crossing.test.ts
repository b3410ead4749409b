// What verbs carry to a far side is the same there: parsed, written as JSON, and parsed again.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { findRotator } from "../../src/targets/index.ts";
import { findLeaseTarget, leaseTargetKinds } from "../../src/targets/lease-targets.ts";
import { declarationAt } from "../support/http-api-world.ts";

const declaration = declarationAt("https://api.example.com");
const crossed = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

const word = fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" }).filter((text) => !text.includes("\0"));
const port = fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.integer({ min: 1, max: 65_535 }).map(String));
const dn = fc.stringMatching(/^cn=[a-z]{1,10},dc=[a-z]{1,10}$/);
const more = fc.dictionary(fc.stringMatching(/^x[a-z]{1,8}$/), fc.jsonValue(), { maxKeys: 3 });
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const login = {
  host: word,
  port,
  username: word,
  password: word,
  ssl: optional(fc.constantFrom(true, false, "true", "false")),
  sslrootcert: optional(word),
};
const oneLine = fc.stringMatching(/^[!-~]{1,60}$/);
const key = { accessKeyId: fc.stringMatching(/^[A-Z0-9]{20}$/), secretAccessKey: oneLine };
const aws = {
  ...key,
  region: optional(fc.constantFrom("eu-west-1", "us-east-1")),
  endpoint: optional(fc.constant("https://iam.example")),
};
const nodes = optional(fc.array(fc.constantFrom("b", "c:1", "[::1]:2")));
const ssh = { type: fc.constantFrom("ed25519", "ssh-rsa"), privateKey: optional(word), publicKey: optional(word) };

const credentials: Readonly<Record<string, fc.Arbitrary<object>>> = {
  activedirectory: fc.record({ ...login, username: dn }),
  "aws-iam": fc.record({ ...aws, username: fc.constant("deploy"), account: optional(fc.constant("123456789012")) }),
  "http-api": fc.record({ keyId: fc.uuid(), apiKey: word, user: word }),
  "key-pair": fc.record(ssh),
  ldap: fc.record({ ...login, username: dn, usernames: optional(fc.constant(["cn=a,dc=x", "cn=b,dc=x"])) }),
  mongodb: fc.record({ ...login, dbname: optional(word), replicaSet: optional(word) }),
  mysql: fc.record({ ...login, dbname: optional(word) }),
  oracle: fc.record({ ...login, dbname: word }),
  postgres: fc.record({ ...login, engine: optional(fc.constant("postgres")) }),
  random: fc.record({ type: optional(fc.constant("random")), value: optional(word), length: optional(fc.constant(20)) }),
  redis: fc.record({ ...login, username: oneLine, nodes, persist: optional(fc.constantFrom(true, "false")) }),
  redshift: fc.record(login),
  sqlserver: fc.record(login),
};

test("property: a credential of every kind is the same at the far side, and so is a superuser's", async () => {
  for (const [kind, shape] of Object.entries(credentials)) {
    const rotator = await findRotator(kind, kind === "http-api" ? declaration : undefined);
    assert.ok(rotator, kind);
    const { credential, admin = credential } = rotator;
    let good = 0;
    const runs = fc.property(fc.tuple(shape, more), ([named, further]) => {
      const written = { ...further, ...named };
      for (const schema of [credential, admin]) {
        const near = schema.safeParse(written);
        if (!near.success) continue;
        good += 1;
        assert.deepEqual(crossed(schema.parse(crossed(near.data))), crossed(near.data), kind);
      }
    });
    fc.assert(runs, { numRuns: 40 });
    assert.ok(good > 5, `${kind}: ${good} were credentials`);
  }
});

const requests = {
  verify: { method: "GET", path: "/me" },
  create: { method: "POST", path: "/keys", json: { name: "{{lease.name}}" }, id: "id", extract: { KEY: "key" } },
  delete: { method: "DELETE", path: "/keys/{{id}}" },
};
const api = { origin: "https://api.example.com", auth: { type: "bearer", token: "{{integration.k}}" }, ...requests };
const policy = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "s3:GetObject", Resource: "*" }] };
const role = fc.constant("arn:aws:iam::123456789012:role/r");
const leases: Readonly<Record<string, readonly [connection: fc.Arbitrary<object>, settings: fc.Arbitrary<object>]>> = {
  "aws-iam": [
    fc.record(aws),
    fc.record({ policy: fc.constantFrom(policy, JSON.stringify(policy)), groups: optional(fc.constant(["g"])) }),
  ],
  "aws-sts": [fc.record(aws), fc.record({ roleArn: role, policy: optional(fc.constant(policy)) })],
  "http-api": [
    fc.record({ k: word }).map(({ k }) => ({ ...api, key: { k } })),
    fc.record({ values: optional(fc.constant({ a: "b", n: 1 })) }),
  ],
  ldap: [fc.record({ ...login, username: dn, baseDn: dn }), fc.record({ groups: optional(fc.constant([{ dn: "cn=g,dc=x" }])) })],
  mongodb: [fc.record({ ...login }), fc.constant({ roles: [{ role: "read", db: "app" }] })],
  mysql: [fc.record({ ...login, dbname: optional(word) }), fc.constant({ grants: ["select on app.*"] })],
  postgres: [fc.record({ ...login, dbname: optional(word) }), fc.constant({ roles: ["reader"] })],
  redis: [fc.record({ ...login, nodes }), fc.constant({ keys: ["a:*"], commands: ["+get"] })],
};

test("property: a connection and settings of every kind of lease are the same at the far side", async () => {
  assert.deepEqual(Object.keys(leases).sort(), [...leaseTargetKinds()].sort());
  for (const [kind, [connections, settings]] of Object.entries(leases)) {
    const target = await findLeaseTarget(kind);
    assert.ok(target, kind);
    let good = 0;
    const runs = fc.property(connections, settings, (connection, asked) => {
      for (const [schema, written] of [
        [target.connection, connection],
        [target.settings, asked],
      ] as const) {
        const near = schema.safeParse(crossed(written));
        if (!near.success) continue;
        good += 1;
        assert.deepEqual(schema.parse(crossed(near.data)), near.data, kind);
      }
    });
    fc.assert(runs, { numRuns: 30 });
    assert.ok(good > 10, `${kind}: ${good} fitted`);
  }
});
