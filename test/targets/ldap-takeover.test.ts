// What a process that died had sent to a directory cannot be ended there: the next one waits until it must have taken effect.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { ldap } from "../../src/targets/ldap.ts";
import { openWorld } from "../support/engine-world.ts";
import { newUser } from "../support/ldap-entries.ts";
import { startTap } from "../support/proxy.ts";
import { slapdSkip, startSlapd } from "../support/slapd-server.ts";
import { tools } from "./contract.ts";

const callMs = 700;

test("a directory is asked nothing before the longest call of a dead process is over", { skip: slapdSkip }, async () => {
  await using server = await startSlapd();
  const sql = openSqlite(":memory:");
  await migrate(sql);
  const world = await openWorld(sql, { settings: { callMs } });
  let startedAt = Number.POSITIVE_INFINITY;
  const elapsed = () => performance.now() - startedAt;
  const askedAt: number[] = [];
  const see = (): undefined => void askedAt.push(elapsed());
  await using tap = await startTap(server, see);
  const current = { ...(await newUser(server, "taken", "first-password")), host: tap.host, port: tap.port };
  const secret = await world.newSecret("ldap/taken", current);
  const id = await world.begin(secret, { functionName: "RekeyLDAPRotationSingleUser" });
  const { versionId } = await world.rotationOf(id);
  await world.putPending(await world.reload(secret), { ...current, password: "second-password" }, versionId);
  // As a process leaves it that died after it had stored the value.
  await sql.query("update rotations set step = 'setSecret', fence = 1, claim_node = 'dead', claim_until = $2 where id = $1", [
    id,
    Date.now() + 20_000,
  ]);
  startedAt = performance.now();
  await using engine = startEngine({ ...world.parts, elapsed });
  engine.wake();
  const { state, tries } = await world.ended(id);
  assert.deepEqual({ state, tries }, { state: "succeeded", tries: [] });
  await engine.stop();
  assert.ok(askedAt.length > 0 && askedAt.every((at) => at >= callMs), askedAt.join(" "));
  const credential = await world.credential(secret, "AWSCURRENT");
  assert.equal(credential && (await ldap.probe(credential, tools())), "ok");
  await sql.close();
});
