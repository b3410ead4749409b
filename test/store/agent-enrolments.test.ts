// Enrolment tokens and what they are exchanged for: used once, gone when they are old, and kept by no node.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { ServiceError } from "../../src/core/error.ts";
import { newToken } from "../../src/operations/identity/new-credentials.ts";
import { findEnrolment, insertEnrolment, purgeEnrolments, useEnrolment } from "../../src/store/agent-enrolments.ts";
import { replaceAgentToken, revokeAgent } from "../../src/store/agents.ts";
import { network, newAgent } from "../support/far-agents.ts";
import { identityWorld } from "../support/identity-world.ts";
import { forEachStore } from "../support/stores.ts";

forEachStore((name, open) => {
  describe(`agents' enrolments: ${name}`, () => {
    test("an enrolment is used once, and is removed with its token when it is old", async () => {
      const sql = await open();
      const id = randomUUID();
      const times = { createdAt: 1_000, expiresAt: 2_000 };
      await sql.transaction((tx) => insertEnrolment(tx, { id, network, createdBy: "me", ...times, arn: "a", tokenHash: "h" }));
      assert.equal((await findEnrolment(sql, id))?.usedAt, undefined);
      const uses = await Promise.all([1, 2].map(() => sql.transaction((tx) => useEnrolment(tx, id, 1_500))));
      assert.deepEqual(uses.sort(), [false, true]);
      assert.equal(await purgeEnrolments(sql, 1_999, 10), 0);
      assert.equal(await purgeEnrolments(sql, 2_000, 10), 1);
      assert.equal((await sql.query("select id from tokens where id = $1", [id])).length, 0);
    });

    test("an enrolment token that expired is refused, an agent's token ends with the agent, and no node keeps either", async () => {
      const sql = await open();
      const world = await identityWorld(sql);
      const [other, now] = [world.node(), world.clock.now];
      const [enrolment, agent] = [newToken("agent_enrolment"), await newAgent(sql, now)];
      const rest = { network, createdBy: "me", createdAt: now, expiresAt: now + 60_000, arn: "a", tokenHash: enrolment.hash };
      await sql.transaction((tx) => insertEnrolment(tx, { id: enrolment.id, ...rest }));
      const agents = newToken("agent");
      await sql.transaction((tx) => replaceAgentToken(tx, agent.id, agents.hash));
      for (const node of [world.authenticator, other]) {
        const { principal } = await node.bearer(enrolment.token, "127.0.0.1");
        assert.deepEqual(principal.agent, { id: enrolment.id, network, isEnrolled: false });
        assert.deepEqual((await node.bearer(agents.token, "127.0.0.1")).principal.agent, {
          id: agent.id,
          network,
          isEnrolled: true,
        });
      }
      world.clock.now += 60_000;
      await sql.transaction((tx) => revokeAgent(tx, agent.id, world.clock.now));
      const failing = (code: string) => (error: unknown) => error instanceof ServiceError && error.code === code;
      for (const node of [world.authenticator, other]) {
        await assert.rejects(node.bearer(enrolment.token, "127.0.0.1"), failing("ExpiredTokenException"));
        await assert.rejects(node.bearer(agents.token, "127.0.0.1"), failing("UnrecognizedClientException"));
      }
    });
  });
});
