import assert from "node:assert/strict";
import { test } from "node:test";
import {
  createUser,
  deleteUser,
  findUser,
  listUsers,
  loadPrincipal,
  tagPrincipal,
  untagPrincipal,
} from "../../src/store/identity.ts";
import { createIdentityVersion } from "../../src/store/identity-version.ts";
import { createOidcProvider, deleteOidcProvider, findOidcProvider } from "../../src/store/oidc-providers.ts";
import {
  attachPolicy,
  createPolicy,
  createPolicyVersion,
  deletePolicy,
  deletePolicyVersion,
  detachPolicy,
  findPolicy,
  policyVersions,
  setDefaultVersion,
} from "../../src/store/policies.ts";
import type { Sql } from "../../src/store/sql.ts";
import { forEachStore } from "../support/stores.ts";

const account = "123456789012";
const limit = { code: "LimitExceededException" };
const taken = { code: "ResourceExistsException" };

forEachStore((_name, open) => {
  const newUser = (sql: Sql, name: string) =>
    sql.transaction((tx) => createUser(tx, account, { id: `AIDA${name}`, name, createdAt: 1 }));
  const newPolicy = (sql: Sql, name: string, document = name) =>
    sql.transaction((tx) => createPolicy(tx, account, { name, document, description: undefined, createdAt: 1 }));

  test("names are unique without regard to case, also when asked for at the same time", async () => {
    const sql = await open();
    const made = await Promise.allSettled(["App", "app", "APP"].map((name) => newUser(sql, name)));
    assert.equal(made.filter(({ status }) => status === "fulfilled").length, 1);
    await assert.rejects(newUser(sql, "aPP"), taken);
    await newPolicy(sql, "Reader");
    await assert.rejects(newPolicy(sql, "reader"), taken);
  });

  test("users are listed page by page, and found by their exact name", async () => {
    const sql = await open();
    for (const name of ["b", "a", "c"]) await newUser(sql, name);
    assert.deepEqual(
      (await listUsers(sql, { after: "a", limit: 1 })).map(({ name }) => name),
      ["b"],
    );
    assert.equal(await findUser(sql, "B"), undefined);
    const person = { kind: "person", role: null, createdAt: 1 };
    assert.deepEqual(await findUser(sql, "b"), { id: "AIDAb", name: "b", arn: `arn:aws:iam::${account}:user/b`, ...person });
  });

  test("a principal is what its rows say at the moment", async () => {
    const sql = await open();
    const { arn } = await newUser(sql, "app");
    const policy = await newPolicy(sql, "reader", "first");
    await sql.transaction(async (tx) => {
      await tagPrincipal(tx, arn, { Team: "red", tier: "1" });
      await attachPolicy(tx, arn, policy.arn);
      await attachPolicy(tx, arn, policy.arn);
    });
    const expected = { kind: "user", arn, accountId: account, userId: "AIDAapp", userName: "app" };
    const policies = [{ name: "reader", document: "first" }];
    assert.deepEqual(await loadPrincipal(sql, account, arn), { ...expected, tags: { Team: "red", tier: "1" }, policies });
    await sql.transaction(async (tx) => {
      await tagPrincipal(tx, arn, { team: "blue" });
      await untagPrincipal(tx, arn, ["TIER"]);
      await createPolicyVersion(tx, policy.arn, { document: "second", setAsDefault: true, createdAt: 2 });
    });
    const changed = [{ name: "reader", document: "second" }];
    assert.deepEqual(await loadPrincipal(sql, account, arn), { ...expected, tags: { team: "blue" }, policies: changed });
    const [user] = await listUsers(sql, { after: "", limit: 1 });
    await sql.transaction((tx) => (user ? deleteUser(tx, user) : Promise.resolve(false)));
    assert.equal(await loadPrincipal(sql, account, arn), undefined);
    await newUser(sql, "app");
    assert.deepEqual((await loadPrincipal(sql, account, arn))?.policies, []);
    assert.deepEqual((await loadPrincipal(sql, account, arn))?.tags, {});
  });

  test("five versions of a policy, never one number twice; the default one stays", async () => {
    const sql = await open();
    const policy = await newPolicy(sql, "reader");
    const add = () =>
      sql.transaction((tx) => createPolicyVersion(tx, policy.arn, { document: "x", setAsDefault: false, createdAt: 2 }));
    for (let i = 0; i < 4; i++) await add();
    await assert.rejects(add(), limit);
    const remove = (version: number) => sql.transaction((tx) => deletePolicyVersion(tx, policy, version));
    await assert.rejects(remove(1), { code: "InvalidRequestException" });
    assert.equal(await remove(5), true);
    assert.equal(await remove(5), false);
    assert.equal((await add()).version, 6);
    assert.deepEqual(
      (await policyVersions(sql, policy.arn)).map(({ version }) => version),
      [1, 2, 3, 4, 6],
    );
    assert.equal(await sql.transaction((tx) => setDefaultVersion(tx, policy.arn, 5)), false);
    assert.equal(await sql.transaction((tx) => setDefaultVersion(tx, policy.arn, 6)), true);
    assert.equal((await findPolicy(sql, policy.arn))?.defaultVersion, 6);
  });

  test("ten policies a principal, and none is deleted while attached", async () => {
    const sql = await open();
    const { arn } = await newUser(sql, "app");
    const policies = [];
    for (let i = 0; i < 11; i++) policies.push(await newPolicy(sql, `p${i}`));
    const attach = (policyArn: string) => sql.transaction((tx) => attachPolicy(tx, arn, policyArn));
    const [first, ...others] = policies.map((policy) => policy.arn);
    assert.ok(first);
    for (const other of others) await attach(other);
    await assert.rejects(attach(first), limit);
    const [attached = ""] = others;
    await assert.rejects(
      sql.transaction((tx) => deletePolicy(tx, attached)),
      { code: "InvalidRequestException" },
    );
    assert.equal(await sql.transaction((tx) => detachPolicy(tx, arn, attached)), true);
    assert.equal(await sql.transaction((tx) => detachPolicy(tx, arn, attached)), false);
    assert.equal(await sql.transaction((tx) => deletePolicy(tx, attached)), true);
    await attach(first);
  });

  test("fifty tags a principal", async () => {
    const sql = await open();
    const { arn } = await newUser(sql, "app");
    const tags = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, ""]));
    await sql.transaction((tx) => tagPrincipal(tx, arn, tags(50)));
    await assert.rejects(
      sql.transaction((tx) => tagPrincipal(tx, arn, tags(51))),
      limit,
    );
  });

  test("an issuer is found by the exact text of its tokens", async () => {
    const sql = await open();
    const provider = { url: "https://issuer.example/a", clientIds: ["one", "two"], createdAt: 1 };
    const create = (url: string) => sql.transaction((tx) => createOidcProvider(tx, account, { ...provider, url }));
    const { arn } = await create(provider.url);
    assert.equal(arn, `arn:aws:iam::${account}:oidc-provider/issuer.example/a`);
    await assert.rejects(create(`${provider.url}/`), taken);
    assert.deepEqual(await findOidcProvider(sql, provider.url), { arn, ...provider });
    assert.equal(await findOidcProvider(sql, `${provider.url}/`), undefined);
    assert.equal(await sql.transaction((tx) => deleteOidcProvider(tx, arn)), true);
    assert.equal(await findOidcProvider(sql, provider.url), undefined);
  });

  test("the version of identities is another one after every change of them, and no other change", async () => {
    const sql = await open();
    const [here, there] = [createIdentityVersion(sql), createIdentityVersion(sql)];
    const first = await here.current();
    assert.equal(await there.current(), first);
    await sql.transaction((tx) => tx.query("insert into meta (key, value) values ('other', '1')"));
    assert.equal(await here.current(), first);
    await newUser(sql, "app");
    const second = await here.current();
    assert.notEqual(second, first);
    assert.equal(await there.current(), second);
    await assert.rejects(newUser(sql, "app"), taken);
    assert.equal(await here.current(), second, "what was rolled back changed nothing");
  });
});
