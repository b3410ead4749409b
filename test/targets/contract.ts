// One suite for every kind of target: what the engine relies on when it calls a rotator.
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "node:test";
import { inspect } from "node:util";
import { RotatorError } from "../../src/core/error.ts";
import type { Rotator, RotatorTools, Strategy, Versions } from "../../src/targets/target.ts";

export interface Subject<Credential> {
  readonly rotator: Rotator<Credential>;
  /** A new user with this password at the real target. */
  newUser(name: string, password: string): Promise<Credential>;
  readonly admin: Credential;
  /** The same credential at a server that is stopped. */
  atStoppedServer(credential: Credential): Credential;
  /** The same credential at a server that takes any password. */
  atTrustingServer(credential: Credential): Credential;
  withPassword(credential: Credential, password: string): Credential;
  passwordOf(credential: Credential): string;
  /** Everything that the server has logged, statements included. */
  serverLog(): string | Promise<string>;
  /** Beginnings of user names, where the target does not take those of this suite. */
  readonly names?: readonly string[];
  /** Passwords that a careless statement would break, likewise. */
  readonly passwords?: readonly string[];
  /** The longest password that the target takes, where that is shorter than what this suite expects. */
  readonly maxPasswordLength?: number;
}

export function tools(
  generatePassword: RotatorTools["generatePassword"] = ({ length = 32 } = {}) =>
    randomBytes(length).toString("base64url").slice(0, length),
): RotatorTools {
  return { rotationId: randomUUID(), deadlineAt: Date.now() + 120_000, generatePassword };
}

/** The outcome class of a call that must fail, after looking for secret values in all that the error shows. */
export async function failure(call: Promise<unknown>, ...secrets: string[]): Promise<string> {
  const error = await call.then(
    () => assert.fail("the call went well"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof RotatorError, inspect(error));
  const shown = inspect(error, { depth: 10, showHidden: true }) + error.stack;
  for (const secret of secrets) assert.ok(!shown.includes(secret), "an error shows a secret value");
  return error.outcome;
}

const oddNames = ["plain", 'odd "name', "näme with 'quotes'; drop", "back\\slash", "UPPER%s$1"];
const oddPasswords = ["n'e\\w\"", "$1; --", "pass wörd\u00a0x", "x".repeat(200)];

/** `subject` is asked for inside each test, since the servers start in a hook. */
export function rotatorContract<Credential>(subject: () => Subject<Credential>, strategies: readonly Strategy[]): void {
  const versionsOf = async (strategy: Strategy, current: Credential, pending: Credential): Promise<Versions<Credential>> => ({
    current,
    pending,
    previous: undefined,
    admin: strategy === "alternating-users" ? subject().admin : undefined,
  });

  test("a wrong password is refused, else nothing below would prove anything", async () => {
    const { rotator, newUser, withPassword } = subject();
    const current = await newUser(`wrong_${randomUUID().slice(0, 8)}`, "right-password");
    await rotator.test(current, tools());
    assert.equal(await failure(rotator.test(withPassword(current, "canary-wrong-one"), tools()), "canary-wrong-one"), "refused");
    assert.equal(await rotator.probe(withPassword(current, "another"), tools()), "refused");
    assert.equal(await rotator.probe(current, tools()), "ok");
  });

  for (const strategy of strategies) {
    test(`${strategy}: set may run twice, then the new password works`, async () => {
      const { rotator, newUser, withPassword, passwordOf, names = oddNames, passwords = oddPasswords } = subject();
      const { maxPasswordLength = 32 } = subject();
      for (const [index, name] of names.entries()) {
        const current = await newUser(`${name}${randomUUID().slice(0, 8)}`, "old-password");
        const password = passwords[index % passwords.length] ?? "";
        const made = await rotator.create(current, strategy, tools());
        assert.ok(passwordOf(made).length >= Math.min(32, maxPasswordLength));
        const pending = withPassword(made, password);
        const versions = await versionsOf(strategy, current, pending);
        for (const _ of ["once", "again, as after a crash before it was recorded"])
          await rotator.set(versions, strategy, tools());
        await rotator.test(pending, tools());
        const old = await rotator.probe(current, tools());
        assert.equal(old, strategy === "single-user" ? "refused" : "ok", "the old password");
      }
    });

    test(`${strategy}: what logs in early changes nothing before its intent is durable, and nothing at all when it never is`, async (context) => {
      const { rotator, newUser } = subject();
      if (!rotator.logsInEarly) return context.skip("it is called when the intent is durable");
      const current = await newUser(`early_${randomUUID().slice(0, 8)}`, "old-password");
      const pending = await rotator.create(current, strategy, tools());
      const versions = await versionsOf(strategy, current, pending);
      const never = Promise.reject(new Error("the disk is full"));
      never.catch(() => undefined);
      await assert.rejects(rotator.set(versions, strategy, { ...tools(), ready: never }));
      assert.deepEqual([await rotator.probe(current, tools()), await rotator.probe(pending, tools())], ["ok", "refused"]);
      const durable = Promise.withResolvers<void>();
      const setting = rotator.set(versions, strategy, { ...tools(), ready: durable.promise });
      for (const _ of ["while it logs in", "when it has"])
        assert.deepEqual([await rotator.probe(current, tools()), await rotator.probe(pending, tools())], ["ok", "refused"]);
      durable.resolve();
      await setting;
      await rotator.test(pending, tools());
    });

    test(`${strategy}: three rotations in a row, each from the last`, async () => {
      const { rotator, newUser } = subject();
      let current = await newUser(`row_${randomUUID().slice(0, 8)}`, "old-password");
      const account = rotator.account(current, strategy);
      for (let turn = 0; turn < 3; turn++) {
        const pending = await rotator.create(current, strategy, tools());
        assert.equal(rotator.account(pending, strategy), account);
        await rotator.set(await versionsOf(strategy, current, pending), strategy, tools());
        await rotator.test(pending, tools());
        current = pending;
      }
    });

    if (strategy === "dual-slot" || strategy === "alternating-users") {
      test(`${strategy}: an old credential that is retired logs in no more, and the current one does`, async (context) => {
        const { rotator, newUser, atStoppedServer, admin } = subject();
        if (!rotator.retire) return context.skip("it has no retirement");
        const old = await newUser(`old_${randomUUID().slice(0, 8)}`, "old-password");
        const current = await rotator.create(old, strategy, tools());
        const versions = await versionsOf(strategy, old, current);
        await rotator.set(versions, strategy, tools());
        const stopped = { current: atStoppedServer(current), admin: versions.admin && atStoppedServer(admin) };
        assert.equal(await failure(rotator.retire(atStoppedServer(old), stopped, strategy, tools())), "unreachable");
        assert.equal(await rotator.probe(old, tools()), "ok");
        for (const _ of ["once", "again, as after a crash before it was recorded"]) {
          await rotator.retire(old, { current, admin: versions.admin }, strategy, tools());
          assert.ok(["refused", "locked"].includes(await rotator.probe(old, tools())), "the old credential");
          assert.equal(await rotator.probe(current, tools()), "ok");
        }
        const next = await rotator.create(current, strategy, tools());
        await rotator.set({ ...versions, current, pending: next, previous: old }, strategy, tools());
        for (const live of [current, next]) assert.equal(await rotator.probe(live, tools()), "ok");
      });
    }

    test(`${strategy}: a server that is stopped is unreachable, never refused`, async () => {
      const { rotator, newUser, atStoppedServer, admin } = subject();
      const current = atStoppedServer(await newUser(`stopped_${randomUUID().slice(0, 8)}`, "canary-stopped"));
      const pending = await rotator.create(current, strategy, tools());
      const versions = { ...(await versionsOf(strategy, current, pending)), admin: atStoppedServer(admin) };
      assert.equal(await failure(rotator.set(versions, strategy, tools()), "canary-stopped"), "unreachable");
      assert.equal(await rotator.probe(current, tools()), "unreachable");
    });

    test(`${strategy}: a server that takes any password is reported, not rotated`, async () => {
      const { rotator, newUser, atTrustingServer, admin } = subject();
      const current = atTrustingServer(await newUser(`trusted_${randomUUID().slice(0, 8)}`, "canary-trusted"));
      const pending = await rotator.create(current, strategy, tools());
      const versions = { ...(await versionsOf(strategy, current, pending)), admin: atTrustingServer(admin) };
      assert.equal(await failure(rotator.set(versions, strategy, tools()), "canary-trusted"), "invalid");
      assert.equal(await failure(rotator.test(current, tools()), "canary-trusted"), "invalid");
    });

    test(`${strategy}: the password is in no server log and in no error`, async () => {
      const { rotator, newUser, withPassword, serverLog, maxPasswordLength } = subject();
      const canary = `canary-${randomUUID()}`.slice(0, maxPasswordLength);
      const current = await newUser(`canary_${randomUUID().slice(0, 8)}`, "old-password");
      const pending = withPassword(await rotator.create(current, strategy, tools()), canary);
      const versions = await versionsOf(strategy, current, pending);
      await rotator.set(versions, strategy, tools());
      await rotator.test(pending, tools());
      const late = { ...tools(), deadlineAt: Date.now() - 1 };
      await failure(rotator.set(versions, strategy, late), canary, "old-password");
      assert.ok(!(await serverLog()).includes(canary), "the server's log holds the password");
    });
  }
}
