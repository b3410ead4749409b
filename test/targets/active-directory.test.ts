import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UnfitCredential } from "../../src/core/error.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { activeDirectory } from "../../src/targets/ldap.ts";
import { type DirectoryFake, startDirectoryFake } from "../support/active-directory-fake.ts";
import { hasOpenssl, unlessCi } from "../support/server-process.ts";
import { failure, tools } from "./contract.ts";

describe("Active Directory by a wire fake", { skip: unlessCi(hasOpenssl() ? false : "no openssl to make a certificate") }, () => {
  const [a, b] = ["CN=a,OU=Services,DC=example,DC=com", "CN=b,OU=Services,DC=example,DC=com"];
  const probe = (credential: DatabaseCredential) => activeDirectory.probe(credential, tools());
  async function start(): Promise<{ fake: DirectoryFake; current: DatabaseCredential; admin: DatabaseCredential }> {
    const fake = await startDirectoryFake();
    const place = { engine: "activedirectory", host: fake.host, port: fake.port, sslrootcert: fake.caFile };
    fake.entries.set(a, { password: "first-password-of-a", seeAlso: b });
    fake.entries.set(b, { password: "first-password-of-b", seeAlso: a });
    fake.entries.set("admin@example.com", { password: "password-of-admin", resets: true });
    const current = { ...place, username: a, usernames: [a, b], password: "first-password-of-a" };
    return { fake, current, admin: { ...place, username: "admin@example.com", password: "password-of-admin" } };
  }

  test("a user changes its own password; odd characters keep their form", async () => {
    const { fake, current } = await start();
    await using _ = fake;
    for (const password of ["n'e\\w\" and longer", "pässwörd-\u4e2d\u{1f511}-and-more", undefined]) {
      const made = await activeDirectory.create(current, "single-user", tools());
      const pending = { ...made, password: password ?? made.password };
      const versions = { current, pending, previous: undefined, admin: undefined };
      fake.entries.set(a, { password: current.password, seeAlso: b });
      for (let turn = 0; turn < 2; turn++) await activeDirectory.set(versions, "single-user", tools());
      assert.deepEqual([await probe(pending), await probe(current)], ["ok", "refused"]);
      assert.equal(fake.entries.get(a)?.password, pending.password);
    }
  });

  test("of a pair the superuser resets the other, and ends it later", async () => {
    const { fake, current, admin } = await start();
    await using _ = fake;
    const pending = await activeDirectory.create(current, "alternating-users", tools());
    const set = (who: DatabaseCredential) =>
      activeDirectory.set({ current, pending, previous: undefined, admin: who }, "alternating-users", tools());
    assert.equal(await failure(set({ ...current, usernames: undefined })), "denied");
    await set(admin);
    assert.deepEqual([await probe(pending), await probe(current)], ["ok", "ok"]);
    await activeDirectory.retire?.(current, { current: pending, admin }, "alternating-users", tools());
    assert.deepEqual([await probe(pending), await probe(current)], ["ok", "refused"]);
  });

  test("what it says of a login and of a change is told apart", async () => {
    const { fake, current } = await start();
    await using _ = fake;
    const states = {
      "530": "locked",
      "531": "denied",
      "532": "expired",
      "533": "locked",
      "701": "expired",
      "773": "expired",
      "775": "locked",
    };
    for (const [state, outcome] of Object.entries(states)) {
      fake.entries.set(a, { password: current.password, state });
      assert.equal(await probe(current), outcome, state);
    }
    assert.equal(await probe({ ...current, username: "CN=nobody,DC=example,DC=com" }), "refused");
    fake.entries.set(a, { password: current.password });
    const weak = { current, pending: { ...current, password: "short" }, previous: undefined, admin: undefined };
    assert.equal(await failure(activeDirectory.set(weak, "single-user", tools()), current.password), "invalid");
    await assert.rejects(activeDirectory.set(weak, "single-user", tools()), UnfitCredential, "another one may do");
    assert.equal(await probe(current), "ok");
  });

  test("it is spoken to over TLS only", async () => {
    const { fake, current } = await start();
    await using _ = fake;
    assert.equal(await probe({ ...current, ssl: false }), "invalid");
    assert.equal(await probe({ ...current, sslrootcert: undefined }), "tls");
  });
});
