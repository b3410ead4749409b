// Windows that go by while a rotation runs are on record, though the engine had no time to look: on both stores.
import assert from "node:assert/strict";
import { test } from "node:test";
import { planRotation } from "../../src/core/rotation-schedule.ts";
import { Breakers } from "../../src/engine/breaker.ts";
import { Caps } from "../../src/engine/caps.ts";
import { rotate } from "../../src/engine/rotate.ts";
import { claimDue } from "../../src/store/rotation-claims.ts";
import { changeSecret } from "../../src/store/secrets.ts";
import { openWorld } from "../support/engine-world.ts";
import { forEachStore } from "../support/stores.ts";

const dayMs = 86_400_000;

forEachStore((_name, open) => {
  test("windows that go by while a rotation runs are recorded as missed when it ends, and the next one is planned", async () => {
    const sql = await open();
    const world = await openWorld(sql);
    const secret = await world.newSecret("s", { type: "random", charset: "hex", value: "first" });
    await world.begin(secret, { functionName: "RekeyRandomRotation", rules: { scheduleExpression: "rate(1 days)" } });
    await sql.transaction((tx) => changeSecret(tx, secret.id, (before) => planRotation(before, Date.now(), 0)));
    const firstEnds = ((await world.reload(secret)).nextRotationAt ?? 0) + 1_000;
    const nowMs = Date.now();
    const claimed = await sql.transaction((tx) => claimDue(tx, { node: "test", nowMs, untilMs: nowMs + 4 * dayMs, limit: 1 }));
    const [claim] = claimed;
    assert.ok(claim);
    // Its end comes two windows later: the one that was planned, and the one after it, have gone by.
    const laterMs = firstEnds + dayMs + 1;
    const parts = { ...world.parts, now: () => laterMs };
    await rotate(parts, claim, { caps: new Caps(() => 10), breakers: new Breakers(() => laterMs) });
    const events = await sql.query<{ type: string; detail: string }>("select type, detail from events order by id");
    const missed = events.filter(({ type }) => type === "rotation.missed").map(({ detail }) => JSON.parse(detail));
    assert.deepEqual(missed, [{ windowEndsAt: firstEnds, windows: 2, reason: "the rotation before had not ended" }]);
    assert.ok(events.some(({ type }) => type === "rotation.succeeded"));
    assert.ok(((await world.reload(secret)).nextRotationAt ?? 0) > laterMs);
  });
});
