// A process that issues, renews and revokes leases, and kills itself at the n-th call of its ports: store, encryption, target.
// Arguments: folder of the store, n; the root key comes in ROOT_KEY. Says `issued NAME`, `renewed NAME MS` and `revoked NAME`.
import { writeSync } from "node:fs";
import { join } from "node:path";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import type { LeaseTarget } from "../../src/targets/lease-target.ts";
import { killAtStatements, killPoints } from "../support/kill-points.ts";
import { leaseWorld } from "../support/lease-world.ts";

const [folder = "", killAt = ""] = process.argv.slice(2);
let counting = false;

const say = (text: string) => writeSync(1, `${text}\n`);

const points = killPoints(Number(killAt), () => counting);
killAtStatements(points);
const verbs: readonly (keyof LeaseTarget)[] = ["create", "renew", "revoke"];
const rootKey = await openRootKey("env:ROOT_KEY", { env: process.env });
const sql = points.countingSql(openSqlite(join(folder, "rekey.db")), (text) => text.includes("leases"));
const world = await leaseWorld(sql, folder, { rootKey, wrap: (target) => points.counting("target", target, verbs) });
const engine = world.engine({ envelope: points.counting("envelope", world.parts.envelope, ["seal", "open"]) });
counting = true;

const { Lease: first } = await world.issue({ TtlSeconds: 600 });
say(`issued ${first.User}`);
const { Lease: second } = await world.issue({ TtlSeconds: 600 });
say(`issued ${second.User}`);
const { Lease: renewed } = (await world.call("RenewLease", { LeaseId: first.Id, TtlSeconds: 1_200 })) as {
  Lease: { ExpiresAt: Date };
};
say(`renewed ${first.User} ${renewed.ExpiresAt.getTime()}`);
await world.call("RevokeLease", { LeaseId: second.Id });
say(`revoked ${second.User}`);
counting = false;
await engine.stop();
await world[Symbol.asyncDispose]();
await sql.close();
say("not killed");
