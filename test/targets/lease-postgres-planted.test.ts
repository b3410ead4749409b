// What a leased role leaves behind must not act with rights that it never had.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { postgresSkip } from "../support/postgres-server.ts";
import { lease } from "./lease-contract.ts";
import { type LeaseWorld, startLeaseWorld } from "./lease-postgres-world.ts";

for (const older of [false, true])
  describe(`what leased roles plant in ${older ? "an older" : "a new"} PostgreSQL`, { skip: postgresSkip }, () => {
    let world: LeaseWorld;
    before(async () => {
      world = await startLeaseWorld({ older });
    });
    after(() => world[Symbol.asyncDispose]());

    for (const manager of ["manager", "boss"])
      for (const roles of [["app_reader", "app_other"], ["app_other"]])
        test(`nothing of it runs as ${manager} when the leased member of ${roles.join(" and ")} is gone`, async () => {
          const subject = { ...world.subject(), connection: { ...world.subject().connection, username: manager } };
          const one = await lease(subject, { roles });
          await world.asUser(one.fields, (client) =>
            client.query(`create function grab() returns text language plpgsql security definer as $$
                begin execute 'create role planted login'; return current_user; end $$;
              create table parent (id int primary key); insert into parent values (1);
              create table child (id int references parent on delete cascade); insert into child values (1);
              create function fire() returns trigger language plpgsql as $$
                begin execute 'create role planted login'; return old; end $$;
              create trigger fire before delete on child for each row execute function fire();
              grant all on parent, child to public`),
          );
          await one.revoke();
          assert.equal(await world.subject().exists(one.user.name), false);
          const next = await lease(subject, { roles: ["app_other"] });
          await world.asUser(next.fields, async (client) => {
            await assert.rejects(client.query("select grab()"), /permission denied/);
            await assert.rejects(client.query("delete from parent"), /permission denied/);
          });
          await next.revoke();
          assert.equal(await world.subject().exists("planted"), false);
          await world.asRoot("drop table child, parent; drop function grab(); drop function fire()", "app");
        });
  });
