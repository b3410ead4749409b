// Events are read in an order in which none is lost or repeated, whatever order their transactions commit in.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { type EventPosition, eventsAfter, eventsBefore, firstPosition, lastPosition } from "../../src/store/event-list.ts";
import { addEvent } from "../../src/store/events.ts";
import type { Sql } from "../../src/store/sql.ts";
import { forEachStore } from "../support/stores.ts";

const event = (type: string) => ({ at: Date.now(), type, resource: "arn:r", detail: { n: 1 } });

forEachStore((name, open) => {
  describe(`events of ${name}`, () => {
    test("a reader that follows sees every event once, while writers commit in any order", async () => {
      const sql = await open();
      const writers = 6;
      const each = 40;
      let running = writers;
      const write = async (writer: number) => {
        for (let n = 0; n < each; n++) {
          await sql
            .transaction(async (tx) => {
              await addEvent(tx, event(`w${writer}.${n}`));
              // On PostgreSQL another transaction takes a later id and commits sooner.
              if (tx.dialect === "postgres") await tx.query(`select pg_sleep(${Math.random() * 0.02}) is null as slept`);
              await addEvent(tx, event(`w${writer}.${n}b`));
              if (n % 7 === 3) throw new Error("rolled back");
            })
            .catch((error: Error) => assert.equal(error.message, "rolled back"));
        }
        running -= 1;
      };
      const seen: string[] = [];
      const follow = async () => {
        let position: EventPosition = firstPosition;
        let quiet = 0;
        while (quiet < 3) {
          const page = await eventsAfter(sql, position, 7);
          seen.push(...page.map(({ type }) => type));
          position = page.at(-1) ?? position;
          quiet += Number(running === 0 && page.length === 0);
          await sleep(page.length === 0 ? 5 : 0);
        }
      };
      await Promise.all([follow(), ...Array.from({ length: writers }, (_, writer) => write(writer))]);
      const rows = await sql.query<{ type: string }>("select type from events");
      assert.equal(rows.length, writers * (each - 6) * 2);
      assert.equal(new Set(seen).size, seen.length);
      assert.deepEqual(new Set(seen), new Set(rows.map(({ type }) => type)));
      for (let writer = 0; writer < writers; writer++) {
        const own = seen.filter((type) => type.startsWith(`w${writer}.`));
        assert.deepEqual(
          own,
          own.toSorted((a, b) => Number.parseInt(a.slice(3), 10) - Number.parseInt(b.slice(3), 10)),
        );
      }
    });

    test("reading backwards gives what reading onwards gives, from any position", async () => {
      const sql = await open();
      for (let n = 0; n < 12; n++) await sql.transaction((tx) => addEvent(tx, event(`e${n}`)));
      const all = await readAll(sql);
      await fc.assert(
        fc.asyncProperty(fc.nat(11), fc.integer({ min: 1, max: 12 }), async (index, limit) => {
          const position = all[index] ?? firstPosition;
          assert.deepEqual(await eventsAfter(sql, position, limit), all.slice(index + 1, index + 1 + limit));
          assert.deepEqual(await eventsBefore(sql, position, limit), all.slice(0, index).reverse().slice(0, limit));
        }),
        { numRuns: 30 },
      );
      assert.deepEqual(await eventsBefore(sql, lastPosition(sql), 100), all.toReversed());
    });
  });
});

const readAll = (sql: Sql) => eventsAfter(sql, firstPosition, 1_000);
