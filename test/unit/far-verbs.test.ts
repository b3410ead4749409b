// Verbs that cross to a far side: what they carry survives the crossing, what comes back is not trusted, and none stays near.
import assert from "node:assert/strict";
import { test } from "node:test";
import { RotatorError, UnfitCredential } from "../../src/core/error.ts";
import type { FarCall, FarRoute } from "../../src/targets/far.ts";
import { farLeaseTarget } from "../../src/targets/far-lease.ts";
import { farRotator } from "../../src/targets/far-rotator.ts";
import { type FarTools, farVerbs, runFarVerb } from "../../src/targets/far-verbs.ts";
import { type AnyCredential, findRotator } from "../../src/targets/index.ts";
import type { LeasedUser, LeaseTarget } from "../../src/targets/lease-target.ts";
import { findLeaseTarget, leaseTargetKinds } from "../../src/targets/lease-targets.ts";
import type { Rotator, RotatorTools } from "../../src/targets/target.ts";
import { declarationAt } from "../support/http-api-world.ts";

const kinds = ["activedirectory", "aws-iam", "http-api", "key-pair", "ldap", "mongodb", "mysql", "oracle", "postgres"];
const allKinds = [...kinds, "random", "redis", "redshift", "sqlserver"];
const declaration = declarationAt("https://api.example.com");
const rotatorOf = async (kind: string): Promise<Rotator<AnyCredential>> => {
  const found = await findRotator(kind, kind === "http-api" ? declaration : undefined);
  assert.ok(found, kind);
  return found;
};
const leaseOf = async (kind: string): Promise<LeaseTarget> => {
  const found = await findLeaseTarget(kind);
  assert.ok(found, kind);
  return found;
};
const crossed = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** A way that keeps what is called, and answers as it is told. */
function wayThat(answer: (call: FarCall) => unknown): FarRoute & { readonly calls: FarCall[] } {
  const calls: FarCall[] = [];
  return {
    calls,
    async call(call) {
      calls.push(call);
      return answer(call);
    },
  };
}
const silent = () =>
  wayThat(() => {
    throw new RotatorError("unreachable", "nobody is there");
  });
const tools: RotatorTools = { rotationId: "r-1", fence: 7, deadlineAt: 1, generatePassword: () => "p".repeat(32) };

/** What is not asked of the target, for each kind that has it. */
const pure = ["account", "create", "at"];
const pureOfLeases = ["fieldNames", "target", "name"];

test("every verb of every rotator crosses, but for what is pure: none stays near by accident", async () => {
  for (const kind of allKinds) {
    const local = await rotatorOf(kind);
    const way = silent();
    const far = farRotator(local, way, { network: "office" });
    if (kind === "random" || kind === "key-pair") {
      assert.equal(far, local);
      continue;
    }
    const asks = Object.entries(far).filter(([name, member]) => typeof member === "function" && !pure.includes(name));
    const issuer = Object.entries(far.issuer ?? {}).filter(([name, member]) => typeof member === "function" && name !== "id");
    for (const [name, ask] of [...asks, ...issuer]) {
      const before = way.calls.length;
      const access = { current: {}, admin: undefined };
      const versions = { ...access, pending: {}, previous: undefined };
      const args: Readonly<Record<string, readonly unknown[]>> = {
        set: [versions, "single-user"],
        test: [{}],
        probe: [{}],
        retire: [{}, access, "single-user"],
        prefer: [access, "single-user"],
        check: [access, "single-user"],
        compare: [access],
        list: [access],
        issue: [access],
        delete: ["id", access],
      };
      assert.ok(args[name], `${kind}.${name} is a verb that this test does not know: does it cross?`);
      const result = await (ask as (...given: unknown[]) => Promise<unknown>)(...(args[name] ?? []), tools).catch(
        (error) => error,
      );
      assert.equal(way.calls.length, before + 1, `${kind}.${name} stays near`);
      if (name === "probe") assert.equal(result, "unreachable");
      else assert.ok(result instanceof RotatorError && result.outcome === "unreachable", `${kind}.${name}`);
    }
    for (const { subject, fence, deadlineAt } of way.calls)
      assert.deepEqual({ subject, fence, deadlineAt }, { subject: "r-1", fence: 7, deadlineAt: 1 });
    assert.equal(local.account === far.account, false);
  }
});

test("every verb of every lease target crosses likewise", async () => {
  for (const kind of leaseTargetKinds()) {
    const way = silent();
    const far = farLeaseTarget(await leaseOf(kind), way, "office");
    const user = {} as LeasedUser;
    const calls: [string, Promise<unknown> | undefined][] = [
      ["verify", far.verify({}, { ...tools, subject: "l" })],
      ["check", far.check({}, {}, { ...tools, subject: "l" })],
      ["create", far.create({}, {}, user, { ...tools, subject: "l" })],
      ["revoke", far.revoke({}, {}, user, { ...tools, subject: "l" })],
      ["renew", far.renew?.({}, {}, user, { ...tools, subject: "l" })],
      ["list", far.list?.({}, "abcd1234", { ...tools, subject: "l" })],
    ];
    for (const [name, call] of calls)
      await assert.rejects(async () => call ?? Promise.reject(new RotatorError("unknown", name)), RotatorError);
    const known = [...calls.map(([name]) => name), ...pureOfLeases];
    for (const [name, member] of Object.entries(far))
      if (typeof member === "function") assert.ok(known.includes(name), `${kind}.${name} is not known here: does it cross?`);
    assert.equal(way.calls.length, calls.filter(([, call]) => call).length);
    assert.deepEqual(
      way.calls.filter(({ repeatable }) => !repeatable).map(({ verb }) => verb),
      ["lease.create"],
    );
  }
});

test("only what makes something anew may not be repeated", () => {
  const once = Object.entries(farVerbs).filter(([, { repeatable }]) => !repeatable);
  assert.deepEqual(once.map(([name]) => name).sort(), ["lease.create", "rotator.issuer.issue"]);
});

test("a way that fails is never the target's word on a credential", async () => {
  const local = await rotatorOf("postgres");
  for (const outcome of [
    "refused",
    "locked",
    "expired",
    "denied",
    "invalid",
    "unreachable",
    "timeout",
    "tls",
    "unknown",
  ] as const) {
    const far = farRotator(
      local,
      wayThat(() => {
        throw new RotatorError(outcome, "the way says so");
      }),
    );
    assert.ok(["unreachable", "timeout", "tls", "unknown"].includes(await far.probe({}, tools)), outcome);
  }
  const answered = farRotator(
    local,
    wayThat(() => ({ answer: "refused" })),
  );
  assert.equal(await answered.probe({}, tools), "refused");
  const broken = farRotator(
    local,
    wayThat(() => {
      throw new TypeError("a bug");
    }),
  );
  await assert.rejects(broken.probe({}, tools), TypeError);
});

test("answers that are none are unknown, and nothing of them is believed", async () => {
  const postgres = await rotatorOf("postgres");
  const iam = await rotatorOf("aws-iam");
  const access = { current: {}, admin: undefined };
  for (const answer of [undefined, null, "ok", 7, {}, { answer: "ok" }, { answer: null, more: 1 }, { unfit: true }, []]) {
    const way = wayThat(() => answer);
    await assert.rejects(farRotator(postgres, way).test({}, tools), { outcome: "unknown" }, JSON.stringify(answer));
    await assert.rejects(async () => farRotator(postgres, way).compare?.(access, tools), { outcome: "unknown" });
  }
  for (const answer of ["okay", "OK", ["ok"], { ok: true }, 1, null])
    assert.equal(
      await farRotator(
        postgres,
        wayThat(() => ({ answer })),
      ).probe({}, tools),
      "unknown",
    );
  // A credential that does not have its kind's shape is none, and neither is one more id.
  await assert.rejects(
    async () =>
      farRotator(
        iam,
        wayThat(() => ({ answer: { a: 1 } })),
      ).issuer?.issue(access, tools),
    {
      outcome: "unknown",
    },
  );
  await assert.rejects(
    async () =>
      farRotator(
        iam,
        wayThat(() => ({ answer: [{ id: "x", evil: 1 }] })),
      ).issuer?.list(access, tools),
    {
      outcome: "unknown",
    },
  );
  assert.equal(
    await farRotator(
      iam,
      wayThat(() => ({ answer: null })),
    ).issuer?.list(access, tools),
    undefined,
  );
});

test("what a far side issues is for the same account, at the same place, with the same superuser", async () => {
  const iam = await rotatorOf("aws-iam");
  const current = {
    engine: "aws-iam",
    username: "app",
    accessKeyId: "AKIA0000000000000000",
    secretAccessKey: "s0",
    masterarn: "arn:admin",
  };
  const made = { ...current, accessKeyId: "AKIA1111111111111111", secretAccessKey: "s1" };
  const issue = (answer: object) => {
    const way = wayThat(() => ({ answer }));
    return farRotator(iam, way, { network: "office" }).issuer?.issue({ current, admin: undefined }, tools);
  };
  assert.deepEqual(await issue(made), made);
  const others = [
    { username: "root" },
    { masterarn: "arn:other" },
    { endpoint: "https://iam.evil.example" },
    { account: "1".repeat(12) },
  ];
  for (const other of others) await assert.rejects(async () => issue({ ...made, ...other }), { outcome: "unknown" });
});

test("that the target's rules refuse this very credential is told as such", async () => {
  const local = await rotatorOf("ldap");
  const unfit = farRotator(
    local,
    wayThat(() => ({ unfit: { outcome: "invalid", message: "too simple" } })),
  );
  const error = await unfit
    .set({ current: {}, pending: {}, previous: undefined, admin: undefined }, "single-user", tools)
    .catch((e) => e);
  assert.ok(error instanceof UnfitCredential);
  assert.equal(error.message, "too simple");
  const far = await runFarVerb(
    { kind: "postgres", input: { credential: { host: "h", username: "u", password: "p" } } },
    farTools("rotator.test", {
      ...(await rotatorOf("postgres")),
      test: async () => {
        throw new UnfitCredential("invalid", "used before");
      },
    }),
  );
  assert.deepEqual(far, { unfit: { outcome: "invalid", message: "used before" } });
});

const farTools = (verb: string, rotator?: Rotator<AnyCredential>): FarTools => ({
  verb,
  subject: "s",
  deadlineAt: Date.now() + 1_000,
  generatePassword: () => "p".repeat(32),
  findRotator: rotator ? async () => rotator : findRotator,
  findLeaseTarget,
});

test("a far side refuses what it does not know, and tells no more of a failure than its class", async () => {
  const credential = { host: "db.internal", username: "u", password: "canary-of-the-secret" };
  const refused: [unknown, string][] = [
    [undefined, "rotator.test"],
    [{ kind: "postgres" }, "rotator.test"],
    [{ kind: "postgres", input: { credential }, verb: "rotator.test" }, "rotator.test"],
    [{ kind: "nothing", input: { credential } }, "rotator.test"],
    [{ kind: "constructor", input: { credential } }, "rotator.test"],
    [{ kind: "postgres", input: { credential } }, "rotator.toString"],
    [{ kind: "postgres", input: { credential } }, "rotator.constructor"],
    [{ kind: "postgres", input: { credential } }, "rotator.account"],
    [{ kind: "postgres", input: { credential } }, "rotator.create"],
    [{ kind: "postgres", input: { credential } }, "rotator.prefer"],
    [{ kind: "postgres", input: { credential } }, "test"],
    [{ kind: "postgres", input: { credential } }, "lease.test"],
    [{ kind: "postgres", input: { credential, evil: 1 } }, "rotator.test"],
    [{ kind: "postgres", input: { credential: { ...credential, host: ["a"] } } }, "rotator.test"],
    [{ kind: "postgres", input: { credential, password: { length: "x" } } }, "rotator.test"],
    [{ kind: "postgres", input: { connection: { ...credential, evil: 1 } } }, "lease.verify"],
    [{ kind: "postgres", input: { connection: credential }, declaration: {} }, "lease.verify"],
    [{ kind: "http-api", input: { credential }, declaration: { origin: 1 } }, "rotator.test"],
  ];
  for (const [body, verb] of refused) {
    const error = await runFarVerb(body, farTools(verb)).catch((thrown) => thrown);
    assert.ok(error instanceof RotatorError && error.outcome === "invalid", `${verb} ${JSON.stringify(body)}: ${error}`);
    assert.ok(!error.message.includes("canary"));
  }
  const broken = { ...(await rotatorOf("postgres")), test: async () => Promise.reject(new TypeError("canary-of-a-bug")) };
  const error = await runFarVerb({ kind: "postgres", input: { credential } }, farTools("rotator.test", broken)).catch((e) => e);
  assert.ok(error instanceof RotatorError && error.outcome === "unknown" && !error.message.includes("canary"));
});

test("no connection is made to what the allow-list does not name, whichever version names it", async () => {
  let asked = 0;
  const counting = {
    ...(await rotatorOf("postgres")),
    set: async () => {
      asked += 1;
    },
  };
  const at = (host: string) => ({ host, username: "u", password: "canary-of-the-secret" });
  const allow = ({ host }: { host: string }) => host === "good";
  for (const place of ["current", "pending", "previous", "admin"]) {
    const versions = { current: at("good"), pending: at("good"), previous: at("good"), admin: at("good"), [place]: at("evil") };
    const body = { kind: "postgres", input: { versions, strategy: "single-user" } };
    const error = await runFarVerb(body, { ...farTools("rotator.set", counting), allow }).catch((e) => e);
    assert.ok(error instanceof RotatorError && error.outcome === "denied", place);
    assert.match(error.message, /^postgres:\/\/evil:5432 is not on the allow-list/);
  }
  assert.equal(asked, 0);
  const versions = { current: at("good"), pending: at("good") };
  await runFarVerb(
    { kind: "postgres", input: { versions, strategy: "single-user" } },
    { ...farTools("rotator.set", counting), allow },
  );
  assert.equal(asked, 1);
});

test("what passwords look like crosses, so that those made there keep to it", async () => {
  const made: object[] = [];
  const rotator = {
    ...(await rotatorOf("postgres")),
    test: async (_: unknown, given: RotatorTools) => void given.generatePassword({ length: 20 }),
  };
  const far = farRotator(rotator, {
    async call({ kind, input, verb }) {
      return runFarVerb(crossed({ kind, input }), {
        ...farTools(verb, rotator),
        generatePassword: (asked) => {
          made.push({ ...asked });
          return "";
        },
      });
    },
  });
  await far.test({ host: "h", username: "u", password: "p" }, { ...tools, password: { length: 40, exclude: "xyz" } });
  assert.deepEqual(made, [{ length: 40, exclude: "xyz" }]);
});

test("accounts and targets of a network are its own", async () => {
  const local = await rotatorOf("postgres");
  const value = { host: "Db", username: "app", password: "p" };
  assert.equal(local.account(value, "single-user"), "postgres://db:5432/app");
  assert.equal(farRotator(local, silent(), { network: "office" }).account(value, "single-user"), "office+postgres://db:5432/app");
  const lease = await leaseOf("postgres");
  const connection = lease.connection.parse(value);
  assert.equal(farLeaseTarget(lease, silent(), "office").target(connection), "office+postgres://db:5432");
});
