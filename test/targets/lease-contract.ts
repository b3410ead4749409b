// One suite for every kind of target that leases users: what the engine relies on when it calls one.
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "node:test";
import { inspect } from "node:util";
import { RotatorError } from "../../src/core/error.ts";
import type { Created, LeasedUser, LeaseFinding, LeaseTarget, LeaseTools } from "../../src/targets/lease-target.ts";

export interface LeaseSubject {
  // biome-ignore lint/suspicious/noExplicitAny: of every kind
  readonly target: LeaseTarget<any, any>;
  /** As an integration's data. */
  readonly connection: Record<string, unknown>;
  /** As a dynamic secret's settings: the usual way without statements. */
  readonly settings: Record<string, unknown>;
  readonly wrongPassword: Record<string, unknown>;
  readonly atStoppedServer: Record<string, unknown>;
  /** Of a managing user that may log in and do nothing more. */
  readonly powerless: Record<string, unknown>;
  /** Accepts, and never says a word. */
  readonly atSilentServer: Record<string, unknown>;
  /** Logs in and uses the rights that the settings give. @throws when refused */
  logIn(fields: Readonly<Record<string, string>>): Promise<void>;
  /** Tries what the settings do not give; true when it could. */
  oversteps(fields: Readonly<Record<string, string>>): Promise<boolean>;
  /**
   * Logs in and stays, in the middle of something where the target has transactions. `ended` comes when the server hangs up.
   * Absent: such a server ends no session.
   */
  stay?(fields: Readonly<Record<string, string>>): Promise<{ readonly ended: Promise<unknown>; close(): Promise<void> }>;
  /** Makes a user of somebody else with this name. */
  plant(name: string): Promise<void>;
  exists(name: string): Promise<boolean>;
  /** Everything that the server has logged, statements included. */
  serverLog?(): string | Promise<string>;
}

export const installation = "abcd1234";

export const leaseTools = (ms = 120_000): LeaseTools => ({
  deadlineAt: Date.now() + ms,
  generatePassword: ({ length = 32 } = {}) => randomBytes(length).toString("hex").slice(0, length),
});

/** The outcome class and the message of a call that must fail, after looking for secret values in all that the error shows. */
export async function leaseFailure(call: Promise<unknown>, ...secrets: string[]): Promise<{ outcome: string; message: string }> {
  const error = await call.then(
    () => assert.fail("the call went well"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof RotatorError, inspect(error));
  const shown = inspect(error, { depth: 10, showHidden: true }) + error.stack;
  for (const secret of secrets) assert.ok(!shown.includes(secret), "an error shows a secret value");
  return { outcome: error.outcome, message: error.message };
}

export interface Leased {
  readonly user: LeasedUser;
  readonly fields: Created["fields"];
  renew(ttlSeconds: number): Promise<void>;
  revoke(ms?: number): Promise<void>;
}

export function newUser(
  { target }: LeaseSubject,
  settings: unknown,
  options: { leaseId?: string; of?: string } = {},
): LeasedUser {
  const mark = { installation: options.of ?? installation, leaseId: options.leaseId ?? randomUUID(), secretName: "Orders DB" };
  return { mark, name: target.name(target.settings.parse(settings), mark), handle: undefined, expiresAt: Date.now() + 1_800_000 };
}

/** A user at the target, as the engine would have it made. */
export async function lease(subject: LeaseSubject, settings: unknown = subject.settings): Promise<Leased> {
  const { target } = subject;
  const connection = target.connection.parse(subject.connection);
  const parsed = target.settings.parse(settings);
  const user = newUser(subject, settings);
  const made = await target.create(connection, parsed, user, leaseTools());
  const held = { ...user, handle: made.handle };
  assert.deepEqual(Object.keys(made.fields).sort(), [...target.fieldNames(parsed)].sort());
  return {
    user: held,
    fields: made.fields,
    renew: (ttlSeconds) =>
      target.renew?.(connection, parsed, { ...held, expiresAt: Date.now() + ttlSeconds * 1_000 }, leaseTools()) ??
      Promise.resolve(),
    revoke: (ms) => target.revoke(connection, parsed, held, leaseTools(ms)),
  };
}

export const problemsOf = (findings: readonly LeaseFinding[]): string =>
  findings.map(({ problem, remedy, warning }) => `${warning ? "warning: " : ""}${problem} -> ${remedy}`).join("\n");

/** `subject` is asked for inside each test, since the servers start in a hook. */
export function leaseContract(subject: () => LeaseSubject, { sessionsEnd = true, logged = true } = {}): void {
  const parsed = (part: "connection" | "wrongPassword" | "atStoppedServer" | "powerless" | "atSilentServer") =>
    subject().target.connection.parse(subject()[part]);
  const settings = () => subject().target.settings.parse(subject().settings);

  test("the managing user is told by name, and a wrong password is refused, else nothing below would prove anything", async () => {
    const { target } = subject();
    const { identity } = await target.verify(parsed("connection"), leaseTools());
    assert.match(identity, /\S/);
    for (const secret of target.secretMembers)
      assert.ok(!identity.includes(String(subject().connection[secret])), "the identity shows a secret");
    const wrong = subject().wrongPassword;
    assert.equal(
      (await leaseFailure(target.verify(parsed("wrongPassword"), leaseTools()), String(wrong.password))).outcome,
      "refused",
    );
    assert.deepEqual(
      (await target.check(parsed("connection"), settings(), leaseTools())).filter(({ warning }) => !warning),
      [],
    );
  });

  test("a user has the rights given and no more, its end may be told twice, and then nobody gets in", async () => {
    const one = await lease(subject());
    await subject().logIn(one.fields);
    assert.equal(await subject().oversteps(one.fields), false);
    await one.renew(7_200);
    await one.renew(7_200);
    await subject().logIn(one.fields);
    assert.ok(await subject().exists(one.user.name));
    for (const _ of ["once", "again, as after a crash before it was recorded"]) await one.revoke();
    assert.equal(await subject().exists(one.user.name), false);
    await assert.rejects(subject().logIn(one.fields));
  });

  if (sessionsEnd) {
    test("sessions end with the user, those in the middle of something too", async () => {
      const one = await lease(subject());
      const sessions = [await subject().stay?.(one.fields), await subject().stay?.(one.fields)];
      await one.revoke();
      for (const session of sessions) {
        assert.ok(session);
        await session.ended;
        await session.close();
      }
      assert.equal(await subject().exists(one.user.name), false);
    });
  }

  test("a user that was never made ends well", async () => {
    const { target } = subject();
    await target.revoke(parsed("connection"), settings(), newUser(subject(), subject().settings), leaseTools());
  });

  test("only users of this installation are listed, and nobody else's is ended", async () => {
    const { target, plant, exists } = subject();
    const mine = await lease(subject());
    const id = "0123456789abcdef";
    const others = [`rk_zzzz9999_a_${id}`, `rkxabcd1234_a_${id}`, `rk_abcd1234_a_${id.slice(1)}`, "rk_abcd1234"];
    for (const name of others) await plant(name);
    const found = (await target.list?.(parsed("connection"), installation, leaseTools())) ?? [];
    assert.deepEqual(
      found.map(({ name }) => name),
      [mine.user.name],
    );
    for (const name of others) {
      const user = { ...mine.user, name };
      assert.equal((await leaseFailure(target.revoke(parsed("connection"), settings(), user, leaseTools()))).outcome, "invalid");
      assert.equal((await leaseFailure(target.create(parsed("connection"), settings(), user, leaseTools()))).outcome, "invalid");
      assert.ok(await exists(name));
    }
    await mine.revoke();
    assert.deepEqual(await target.list?.(parsed("connection"), installation, leaseTools()), []);
  });

  test("names differ by lease, tell the secret, and are of one installation", () => {
    const leaseId = randomUUID();
    const { name } = newUser(subject(), subject().settings, { leaseId });
    assert.equal(name, newUser(subject(), subject().settings, { leaseId }).name);
    assert.notEqual(name, newUser(subject(), subject().settings).name);
    assert.notEqual(name, newUser(subject(), subject().settings, { leaseId, of: "zzzz9999" }).name);
    assert.match(name, /^rk_abcd1234_ord[a-z_]*_[0-9a-f]{16}$/);
  });

  test("a server that is stopped is unreachable, never refused", async () => {
    const { target } = subject();
    const user = newUser(subject(), subject().settings);
    const at = parsed("atStoppedServer");
    for (const call of [
      () => target.verify(at, leaseTools()),
      () => target.check(at, settings(), leaseTools()),
      () => target.create(at, settings(), user, leaseTools()),
      () => target.revoke(at, settings(), user, leaseTools()),
    ]) {
      assert.equal((await leaseFailure(call(), String(subject().connection.password))).outcome, "unreachable");
    }
  });

  test("a password goes over no connection that is to be TLS and is not", async () => {
    const { target, connection } = subject();
    const { ssl: _, ...secure } = connection;
    const call = target.verify(target.connection.parse({ ...secure, ssl: true }), leaseTools(1_500));
    const { outcome } = await leaseFailure(call, String(connection.password));
    assert.ok(["tls", "unreachable", "timeout"].includes(outcome), outcome);
  });

  test("a server that says nothing is given up at the deadline", async () => {
    const { target } = subject();
    const user = newUser(subject(), subject().settings);
    const at = parsed("atSilentServer");
    for (const call of [
      () => target.verify(at, leaseTools(300)),
      () => target.create(at, settings(), user, leaseTools(300)),
      () => target.revoke(at, settings(), user, leaseTools(300)),
      () => target.create(parsed("connection"), settings(), user, leaseTools(-1)),
    ]) {
      assert.equal((await leaseFailure(call())).outcome, "timeout");
    }
    assert.equal(await subject().exists(user.name), false);
  });

  test("a managing user without rights is told so before any lease, and by each", async () => {
    const { target } = subject();
    const findings = await target.check(parsed("powerless"), settings(), leaseTools());
    assert.ok(
      findings.some(({ warning }) => !warning),
      problemsOf(findings),
    );
    const user = newUser(subject(), subject().settings);
    const made = await leaseFailure(target.create(parsed("powerless"), settings(), user, leaseTools()));
    assert.equal(made.outcome, "denied", made.message);
  });

  test("members that nobody knows are refused, in the connection and in the settings", () => {
    const { target, connection, settings: given } = subject();
    assert.equal(target.connection.safeParse({ ...connection, wrong: 1 }).success, false);
    assert.equal(target.settings.safeParse({ ...given, wrong: 1 }).success, false);
    assert.deepEqual(target.connection.parse(target.connection.parse(connection)), target.connection.parse(connection));
    assert.deepEqual(target.settings.parse(target.settings.parse(given)), target.settings.parse(given));
  });

  if (logged) {
    test("passwords are in no log of the server", async () => {
      const one = await lease(subject());
      await subject().logIn(one.fields);
      await one.revoke();
      const log = await subject().serverLog?.();
      assert.ok(log);
      assert.ok(!log.includes(one.fields.PASSWORD ?? "none"));
    });
  }
}
