// Networks: what they are, what uses them, and whole rotations and leases at targets that nobody reaches but through them.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { ServiceError } from "../../src/core/error.ts";
import { startEngine } from "../../src/engine/loop.ts";
import { createTargets } from "../../src/far-routes.ts";
import { insertFunction } from "../../src/store/functions.ts";
import {
  changeNetwork,
  deleteNetwork,
  findNetwork,
  holdNetwork,
  insertNetwork,
  listNetworks,
  noteNetworkOf,
  usesOfNetwork,
} from "../../src/store/networks.ts";
import { openWorld } from "../support/engine-world.ts";
import { type LoopRoute, loopRoute } from "../support/far-route.ts";
import {
  type IssuedLease,
  type LeaseWorld,
  leasedUsers,
  leaseWorld,
  logsIn,
  onServer,
  place,
  root,
  until,
} from "../support/lease-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { forEachStore } from "../support/stores.ts";

const host = "db.internal"; // of no network that this machine knows
const manager = { username: "manager", password: "password-of-the-manager" };
const network = (name: string) => ({ name, functions: {}, createdAt: 1, updatedAt: 1 });

async function refusal(world: LeaseWorld, name: string, input: object): Promise<string> {
  const error: unknown = await world.call(name, input).then(
    () => assert.fail(`${name} went well`),
    (thrown) => thrown,
  );
  assert.ok(error instanceof ServiceError, String(error));
  return `${error.code}: ${error.message}`;
}

/** Whoever may do all but one thing. */
function allBut(action: string) {
  const statement = (Effect: string, Action: string) => ({ Effect, Action, Resource: "*" });
  const document = { Version: "2012-10-17", Statement: [statement("Allow", "*"), statement("Deny", action)] };
  const policies = [{ name: "p", document: JSON.stringify(document) }];
  return { ...root, kind: "user" as const, arn: root.arn.replace(":root", ":user/u"), policies };
}

/** What is done for a lease is said to be of it, under its claim. */
function mustBeOf(routes: readonly LoopRoute[], leases: readonly IssuedLease[]): void {
  const ids = leases.map(({ Lease }) => Lease.Id);
  const calls = routes.flatMap((route) => route.calls.filter(({ verb }) => /create|renew|revoke/.test(verb)));
  assert.ok(calls.length > 0 && calls.every(({ fence, subject }) => fence > 0 && ids.includes(subject)));
}

describe("networks", { skip: postgresSkip }, () => {
  let office: PostgresServer;
  let branch: PostgresServer;
  const folder = mkdtempSync(join(tmpdir(), "rekey-networks-"));
  before(async () => {
    [office, branch] = await Promise.all([startPostgres(), startPostgres()]);
    for (const server of [office, branch])
      await onServer(
        server,
        `create role ${manager.username} superuser login password '${manager.password}'; create role readers`,
      );
  });
  after(async () => {
    for (const server of [office, branch]) await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  /** Both networks, in each of which `db.internal` is another server. */
  function twoWays() {
    const routes: Readonly<Record<string, LoopRoute>> = {
      office: loopRoute(undefined, { [host]: office }),
      branch: loopRoute(undefined, { [host]: branch }),
    };
    const agents = (name: string): LoopRoute => routes[name] ?? assert.fail(`no way into ${name}`);
    return { routes, ways: { agents } };
  }
  const users = async () => [...(await leasedUsers(office)), ...(await leasedUsers(branch))];
  const verbsOf = (route: LoopRoute | undefined) => [...new Set(route?.calls.map(({ verb }) => verb))].sort();

  forEachStore((_dialect, open) => {
    test("networks are kept by name, changed by one at a time, and not deleted while something rests on them", async () => {
      const sql = await open();
      for (const name of ["b", "a", "c"]) await sql.transaction((tx) => insertNetwork(tx, network(name)));
      await assert.rejects(
        sql.transaction((tx) => insertNetwork(tx, network("a"))),
        (error) => error instanceof ServiceError && error.code === "ResourceExistsException",
      );
      assert.deepEqual(
        (await listNetworks(sql, { after: "a", limit: 10 })).map(({ name }) => name),
        ["b", "c"],
      );
      const changed = { description: "x", functions: { postgres: "arn" }, updatedAt: 9 };
      await sql.transaction((tx) => changeNetwork(tx, "a", (one) => ({ ...one, ...changed })));
      assert.deepEqual(await findNetwork(sql, "a"), { ...network("a"), ...changed, made: undefined });
      assert.equal(await sql.transaction((tx) => changeNetwork(tx, "z", (one) => one)), undefined);
      assert.deepEqual(await sql.transaction(async (tx) => [await holdNetwork(tx, "a"), await holdNetwork(tx, "z")]), [
        true,
        false,
      ]);
      const world = await openWorld(sql);
      const secret = await world.newSecret("app/db", {});
      await sql.transaction((tx) => noteNetworkOf(tx, secret.id, "a"));
      await sql.transaction((tx) => noteNetworkOf(tx, secret.id, "b"));
      assert.deepEqual([(await usesOfNetwork(sql, "a")).secrets, (await usesOfNetwork(sql, "b")).secrets], [[], ["app/db"]]);
      await sql.transaction((tx) => noteNetworkOf(tx, secret.id, undefined));
      assert.deepEqual((await usesOfNetwork(sql, "b")).secrets, []);
      assert.deepEqual([await deleteNetwork(sql, "a"), await deleteNetwork(sql, "a")], [true, false]);
    });

    test("whole rotations run where the target is; one host name in two networks is two targets", async () => {
      const sql = await open();
      const { routes, ways } = twoWays();
      const { findRotator } = createTargets(sql, ways);
      const opened = await openWorld(sql);
      const world = { ...opened, parts: { ...opened.parts, findRotator } };
      await using engine = startEngine(world.parts);
      for (const [name, server] of [
        ["office", office],
        ["branch", branch],
      ] as const) {
        await sql.transaction((tx) => insertNetwork(tx, network(name)));
        await onServer(server, "drop role if exists app_clone, app");
        await onServer(server, "create role app login password 'first'");
      }
      const at = { engine: "postgres", host, port: 5432, ssl: false };
      const rotated = await Promise.all(
        (["office", "branch"] as const).map(async (name) => {
          const { user: username, password } = name === "office" ? office : branch;
          const master = await world.newSecret(
            `${name}/admin`,
            { ...at, username, password },
            { rotationPolicy: { network: name } },
          );
          const first = { ...at, username: "app", password: "first", masterarn: master.arn };
          const secret = await world.newSecret(`${name}/app`, first, { rotationPolicy: { network: name } });
          for (const way of ["SingleUser", "MultiUser", "MultiUser"] as const) {
            const id = await world.begin(secret, { function: way });
            engine.wake();
            const { state, error } = await world.ended(id);
            assert.equal(state, "succeeded", `${name} ${way}: ${error}`);
          }
          return world.credential(secret, "AWSCURRENT");
        }),
      );
      const [ofOffice, ofBranch] = rotated;
      assert.notEqual(ofOffice?.password, ofBranch?.password);
      for (const [credential, server] of [
        [ofOffice, office],
        [ofBranch, branch],
      ] as const) {
        assert.equal(credential?.host, host); // as the secret has it, wherever that is
        const client = new pg.Client({
          ...server,
          user: credential?.username,
          password: credential?.password,
          database: "postgres",
        });
        await client.connect();
        await client.end();
      }
      for (const route of Object.values(routes)) {
        assert.deepEqual(verbsOf(route), ["rotator.set", "rotator.test"]);
        assert.ok(route.calls.every(({ fence, subject }) => fence > 0 && /^[0-9a-f-]{36}$/.test(subject)));
      }
      const accounts = await sql.query<{ account: string }>(
        "select distinct target_account as account from rotations where target_account is not null order by 1",
      );
      assert.deepEqual(accounts, []); // none is held when they have ended
    });

    test("whoever moves a secret to a network of his has no superuser sent there", async () => {
      const sql = await open();
      const { routes, ways } = twoWays();
      const opened = await openWorld(sql);
      const world = { ...opened, parts: { ...opened.parts, findRotator: createTargets(sql, ways).findRotator } };
      await using engine = startEngine(world.parts);
      for (const name of ["office", "branch"]) await sql.transaction((tx) => insertNetwork(tx, network(name)));
      const at = { engine: "postgres", host, port: 5432, ssl: false };
      for (const theirs of [undefined, "office"]) {
        const rotationPolicy = theirs === undefined ? undefined : { network: theirs };
        const superuser = { ...at, username: "postgres", password: "of-the-superuser" };
        const { arn: masterarn } = await world.newSecret(`admin-${theirs}`, superuser, { rotationPolicy });
        const first = { ...at, username: "app", password: "first", masterarn };
        const secret = await world.newSecret(`app-${theirs}`, first, { rotationPolicy: { network: "branch" } });
        const id = await world.begin(secret, { function: "MultiUser" });
        engine.wake();
        await until("it has failed", async () => /not in the network of this one/.test((await world.rotationOf(id)).error ?? ""));
      }
      assert.equal(JSON.stringify(routes.branch?.calls).includes("of-the-superuser"), false);
    });

    test("a network that is not there, or has nobody in it, is unreachable or wrong: never the credential", async () => {
      const sql = await open();
      await sql.transaction((tx) => insertNetwork(tx, network("empty")));
      const { findRotator } = createTargets(sql, {});
      const tools = { rotationId: "r", deadlineAt: Date.now() + 1_000, generatePassword: () => "" };
      const empty = await findRotator("postgres", undefined, "empty");
      assert.equal(await empty?.probe({}, tools), "unreachable");
      await assert.rejects(async () => empty?.test({}, tools), {
        outcome: "unreachable",
        message: "network empty has no agent and no function for postgres",
      });
      const gone = await findRotator("postgres", undefined, "gone");
      assert.equal(await gone?.probe({}, tools), "unreachable");
      await assert.rejects(async () => gone?.test({}, tools), { outcome: "invalid", message: /there is no network gone/ });
    });

    test("integrations and leases are made, renewed and ended where their network is, as it was when they were born", async () => {
      const { routes, ways } = twoWays();
      const sql = await open();
      await using world = await leaseWorld(sql, mkdtempSync(join(folder, "w-")), { ways });
      const engine = world.engine();
      for (const Name of ["office", "branch"]) await world.call("CreateNetwork", { Name });
      await world.call("CreateProject", { Name: place.Project });
      const failed = (name: string, input: object) => refusal(world, name, input);
      const made = { Name: "main", Type: "postgres", Data: { host, port: 5432, ...manager, ssl: false } };
      assert.match(await failed("CreateIntegration", { ...made, Network: "nowhere" }), /^ResourceNotFoundException: .*nowhere/);
      assert.match(await failed("CreateIntegration", made), /^InvalidRequestException: .*db\.internal/);
      const created = await world.call("CreateIntegration", { ...made, Network: "office" });
      const { Target, Network } = created.Integration as Record<string, unknown>;
      assert.deepEqual([Target, Network], [`office+postgres://${host}:5432`, "office"]);
      const secret = { ...place, Name: "DB", Integration: "main", Settings: { roles: ["readers"] } };
      await world.call("CreateDynamicSecret", secret);
      const elsewhere = { ...secret, Name: "BR", Network: "branch" };
      // The manager's password goes there, which whoever may change the integration does not get to know by that.
      await assert.rejects(world.call("CreateDynamicSecret", elsewhere, allBut("rekey:UseIntegrationElsewhere")), {
        code: "AccessDeniedException",
      });
      assert.equal(routes.branch?.calls.length, 0);
      await world.call("CreateDynamicSecret", elsewhere);
      const ofOffice = await world.issue({});
      const ofBranch = await world.issue({ DynamicSecret: "BR" });
      assert.equal((await users()).length, 2);
      assert.deepEqual([await logsIn(ofOffice), await logsIn(ofBranch)], [true, true]);
      assert.deepEqual(
        [ofOffice.Fields.PORT, ofBranch.Fields.PORT],
        [office, branch].map(({ port }) => String(port)),
      );
      await world.call("RenewLease", { LeaseId: ofBranch.Lease.Id, TtlSeconds: 3_600 });
      assert.match(await failed("DeleteNetwork", { Name: "branch" }), /used by dynamic secret shop\/dev\/BR/);
      assert.match(await failed("DeleteNetwork", { Name: "office" }), /used by integration main/);
      // What is secret is not taken along to another network.
      assert.match(await failed("UpdateIntegration", { Integration: "main", Network: "branch" }), /Give Data.password again/);
      await world.call("UpdateIntegration", { Integration: "main", Network: "branch", Data: { password: manager.password } });
      const found = await world.call("FindOrphans", { Integration: "main" });
      assert.equal(found.UsersFound, 1);
      for (const { Lease } of [ofOffice, ofBranch]) await world.call("RevokeLease", { LeaseId: Lease.Id });
      engine.wake();
      await until("both are ended where they were made", async () => (await users()).length === 0);
      assert.deepEqual(verbsOf(routes.office), ["lease.check", "lease.create", "lease.revoke", "lease.verify"]);
      assert.deepEqual(verbsOf(routes.branch), [
        "lease.check",
        "lease.create",
        "lease.list",
        "lease.renew",
        "lease.revoke",
        "lease.verify",
      ]);
      mustBeOf(Object.values(routes), [ofOffice, ofBranch]);
      await world.call("DeleteNetwork", { Name: "office" });
    });

    test("whoever moves a secret, an integration or a dynamic secret needs leave to use the network", async () => {
      const { ways } = twoWays();
      await using world = await leaseWorld(await open(), mkdtempSync(join(folder, "w-")), { ways });
      await world.call("CreateNetwork", { Name: "office" });
      await world.call("CreateProject", { Name: place.Project });
      await world.call("CreateSecret", { Name: "app/db", SecretString: "{}", ClientRequestToken: "c".repeat(32) });
      const almost = allBut("rekey:UseNetwork");
      const moves: [string, object][] = [
        ["PutRotationPolicy", { SecretId: "app/db", Network: "office" }],
        ["CreateIntegration", { Name: "i", Type: "postgres", Data: { host, username: "u", password: "p" }, Network: "office" }],
      ];
      for (const [name, input] of moves)
        await assert.rejects(world.call(name, input, almost), { code: "AccessDeniedException" }, name);
      // New passwords are told to whatever has the host name there: as to replicas.
      const blind = allBut("secretsmanager:GetSecretValue");
      await assert.rejects(world.call("PutRotationPolicy", { SecretId: "app/db", Network: "office" }, blind), {
        code: "AccessDeniedException",
      });
      await world.call("PutRotationPolicy", { SecretId: "app/db", Network: "office" });
      await assert.rejects(world.call("PutRotationPolicy", { SecretId: "app/db", Network: "nowhere" }), {
        code: "ResourceNotFoundException",
      });
      const kept = await world.call("GetRotationPolicy", { SecretId: "app/db" });
      assert.deepEqual(kept.RotationPolicy, { Network: "office" });
      await assert.rejects(world.call("DeleteNetwork", { Name: "office" }), /used by secret app\/db/);
      await world.call("PutRotationPolicy", { SecretId: "app/db", Clear: ["network"] });
      await world.call("DeleteNetwork", { Name: "office" });
    });

    test("a function that a network names is pointed elsewhere by those who may change the network", async () => {
      const sql = await open();
      await using world = await leaseWorld(sql, mkdtempSync(join(folder, "w-")), twoWays());
      const at = (name: string) => `arn:aws:lambda:us-east-1:111122223333:function:${name}`;
      const place = { region: "us-east-1", name: "far", arn: "arn:aws:lambda:us-east-1:123456789012:function:far" };
      const settings = { kind: "lambda" as const, lambda: { targetArn: at("theirs"), protocol: "doppler" as const } };
      const usual = { timeoutSeconds: 3, memoryMiB: 128, concurrency: 1, environmentNames: [], createdAt: 1, updatedAt: 1 };
      await sql.transaction((tx) => insertFunction(tx, { ...place, ...settings, ...usual }));
      await world.call("CreateNetwork", { Name: "vpc", Functions: { postgres: place.arn } });
      const change = (Lambda: object, principal: typeof root | ReturnType<typeof allBut>) =>
        world.call("UpdateFunctionConfiguration", { FunctionName: place.arn, Lambda }, principal);
      const denied = { code: "AccessDeniedException" };
      const elsewhere = { FunctionArn: at("mine"), Protocol: "doppler" };
      await assert.rejects(change(elsewhere, allBut("rekey:UpdateNetwork")), denied);
      await assert.rejects(change(elsewhere, root), { code: "InternalServiceError" }); // this world calls no functions
      // Rekey's own rights at AWS put the code there.
      const SignedCode = { Bucket: "of-mine", Key: "code.zip", Sha256: `${"A".repeat(43)}=` };
      for (const Lambda of [{ AutoUpdate: true }, { SignedCode }])
        await assert.rejects(change(Lambda, allBut("lambda:UpdateFunctionCode")), denied);
    });

    test("enrolment tokens end with their network, and are of no use in another of its name", async () => {
      const sql = await open();
      await using world = await leaseWorld(sql, mkdtempSync(join(folder, "w-")), twoWays());
      const tokens = async () =>
        (await sql.query<{ name: string }>("select name from tokens where kind = 'agent_enrolment' order by 1")).map(
          ({ name }) => name,
        );
      for (const Name of ["office", "branch"]) {
        await world.call("CreateNetwork", { Name });
        await world.call("CreateAgentEnrolment", { Network: Name });
      }
      assert.deepEqual(await tokens(), ["branch", "office"]);
      await world.call("DeleteNetwork", { Name: "office" });
      await world.call("CreateNetwork", { Name: "office" });
      assert.deepEqual(await tokens(), ["branch"]);
    });
  });
});
