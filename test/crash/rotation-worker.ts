// A process that works on one queued rotation and kills itself at the n-th call of its ports: store, encryption, target.
// Arguments: folder of the store, n, name of the secret, single-user or alternating-users; the root key comes in ROOT_KEY.
import { writeSync } from "node:fs";
import { join } from "node:path";
import { startEngine } from "../../src/engine/loop.ts";
import type { EngineParts } from "../../src/engine/parts.ts";
import { listRotations } from "../../src/store/rotations.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { findByName, openWorld } from "../support/engine-world.ts";
import { killAtStatements, killPoints } from "../support/kill-points.ts";

const [folder = "", killAt = "", name = "", how = ""] = process.argv.slice(2);

const points = killPoints(Number(killAt));
killAtStatements(points);
const sql = openSqlite(join(folder, "rekey.db"));
const world = await openWorld(sql, { rootKey: process.env.ROOT_KEY ?? "" });
const secret = await findByName(sql, name);
if (!secret) throw new Error(`no secret ${name}`);
const rotationId = await world.begin(secret, { function: how === "single-user" ? "SingleUser" : "MultiUser" });

const parts: EngineParts = {
  ...world.parts,
  sql: points.countingSql(sql),
  envelope: points.counting("envelope", world.parts.envelope, ["seal", "open"]),
  async findRotator(kind) {
    const rotator = await world.parts.findRotator(kind);
    return rotator && points.counting("rotator", rotator, ["create", "set", "test", "probe"]);
  },
};
const engine = startEngine(parts);
for (;;) {
  const [rotation] = (await listRotations(sql, { limit: 1_000 })).filter(({ id }) => id === rotationId);
  if (rotation?.state !== "running") break;
  await new Promise((resolve) => setTimeout(resolve, 2));
}
await engine.stop();
await sql.close();
writeSync(1, "not killed\n");
