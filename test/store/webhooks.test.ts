import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Plaintext } from "../../src/core/plaintext.ts";
import { nextTryAt, type WebhookSecrets } from "../../src/core/webhook.ts";
import { Deliveries } from "../../src/engine/deliver.ts";
import type { EngineParts } from "../../src/engine/parts.ts";
import type { Sql } from "../../src/store/sql.ts";
import { claimDeliveries, endDelivery, listDeliveries, queueWebhooks } from "../../src/store/webhook-deliveries.ts";
import { deleteWebhook, insertWebhook, type Webhook } from "../../src/store/webhooks.ts";
import { newConfig } from "../support/config-rows.ts";
import { openWorld } from "../support/engine-world.ts";
import { identityWorld } from "../support/identity-world.ts";
import { region } from "../support/keys.ts";
import { hasOpenssl, makeCertificate, unlessCi } from "../support/server-process.ts";
import { forEachStore } from "../support/stores.ts";
import { startReceiver } from "../support/webhook-receiver.ts";

const refused = (code: string) => ({ name: "ServiceError", code });

/** An engine's part that delivers, driven by hand, with a clock of its own. */
async function delivering(sql: Sql) {
  const world = await openWorld(sql);
  const clock = { now: Date.now() };
  const parts: EngineParts = { ...world.parts, now: () => clock.now, random: () => 1 };
  const configId = await newConfig(sql, "shop", "dev", "dev");
  const add = async (url: string, secrets: WebhookSecrets = {}, more: Partial<Webhook> = {}): Promise<string> => {
    const id = randomUUID();
    const key = await parts.keys.resolve(undefined, region);
    const text = new Plaintext(JSON.stringify(secrets));
    const sealed = Object.keys(secrets).length === 0 ? undefined : await parts.envelope.seal(text, { WebhookId: id }, key.id);
    const webhook: Webhook = {
      id,
      projectId: "shop",
      name: undefined,
      url,
      enabled: true,
      configIds: undefined,
      payload: undefined,
      sealed,
      createdAt: 1,
      ...more,
    };
    await sql.transaction((tx) => insertWebhook(tx, webhook));
    return id;
  };
  const change = (updated = ["A"], of = configId) =>
    sql.transaction((tx) => {
      const diff = { added: [], removed: [], updated };
      return queueWebhooks(tx, { projectId: "shop", configId: of, type: "config.secrets.update", diff, at: clock.now });
    });
  /** Begins what is due, and waits until it has ended. */
  const round = async (): Promise<void> => {
    const deliveries = new Deliveries(parts, () => undefined);
    await deliveries.begin();
    await deliveries.stop();
  };
  const state = async (webhookId: string) => listDeliveries(sql, { webhookId, limit: 100 });
  return { world, clock, parts, configId, add, change, round, state };
}

forEachStore((_name, open) => {
  test("a change is told with names only, signed over the very body", async () => {
    const w = await delivering(await open());
    await using receiver = await startReceiver();
    const id = await w.add(receiver.url, { secret: "s3cret", authentication: { type: "Bearer", token: "t0ken" } });
    assert.equal(await w.change(["DATABASE_URL"]), 1);
    await w.round();
    const [told] = receiver.received;
    assert.ok(told);
    const body = JSON.parse(told.body);
    assert.deepEqual([body.type, body.config.name, body.project.id], ["config.secrets.update", "dev", "shop"]);
    assert.deepEqual(body.diff, { added: [], removed: [], updated: ["DATABASE_URL"] });
    const expected = createHmac("sha256", "s3cret").update(told.body).digest("hex");
    assert.equal(told.headers["x-doppler-signature"], `sha256=${expected}`);
    assert.equal(told.headers.authorization, "Bearer t0ken");
    const [delivery] = await w.state(id);
    assert.deepEqual([delivery?.outcome, delivery?.attempt, told.headers["x-rekey-delivery"]], ["delivered", 1, delivery?.id]);
    await w.round();
    assert.equal(receiver.received.length, 1);
  });

  test("only webhooks that are enabled, and for the config, are told; a payload of one's own is sent as it is", async () => {
    const sql = await open();
    const w = await delivering(sql);
    const other = await newConfig(sql, "shop", "prd", "prd");
    await using receiver = await startReceiver();
    await w.add(`${receiver.url}/off`, {}, { enabled: false });
    await w.add(`${receiver.url}/prd`, {}, { configIds: [other] });
    await w.add(`${receiver.url}/none`, {}, { configIds: [] });
    await w.add(`${receiver.url}/own`, { secret: "k" }, { payload: '{"ref":"main"}', configIds: [w.configId] });
    assert.equal(await w.change(), 1);
    assert.equal(await w.change(["A"], other), 1);
    await w.round();
    const own = receiver.received.find(({ path }) => path.endsWith("/own"));
    assert.deepEqual(receiver.received.map(({ path }) => path).sort(), ["/hook/own", "/hook/prd"]);
    assert.equal(own?.body, '{"ref":"main"}');
    const expected = createHmac("sha256", "k")
      .update(own?.body ?? "")
      .digest("hex");
    assert.equal(own?.headers["x-doppler-signature"], `sha256=${expected}`);
  });

  test("a server that is down, or refuses, is told when it is back; a redirect is not followed", async () => {
    const w = await delivering(await open());
    const port = await (async () => {
      await using gone = await startReceiver();
      return gone.port;
    })();
    const id = await w.add(`http://127.0.0.1:${port}/hook`, { secret: "s3cret" });
    await w.change();
    await w.round();
    const [down] = await w.state(id);
    assert.deepEqual([down?.endedAt, down?.attempt, down?.outcome], [undefined, 1, "retrying"]);
    assert.match(down?.error ?? "", /cannot be reached/);
    await w.round();
    assert.equal((await w.state(id))[0]?.attempt, 1, "not before its time");
    await using receiver = await startReceiver(port);
    await using trap = await startReceiver();
    receiver.answer = (_received, response) => response.writeHead(307, { location: trap.url }).end();
    w.clock.now += 2_000;
    await w.round();
    assert.equal(trap.received.length, 0);
    assert.match((await w.state(id))[0]?.error ?? "", /status 307/);
    receiver.answer = (_received, response) => response.writeHead(500).end("s3cret details");
    w.clock.now += 3_000;
    await w.round();
    assert.equal(JSON.stringify(await w.state(id)).includes("details"), false);
    receiver.answer = (_received, response) => response.writeHead(200).end("ok");
    w.clock.now += 5_000;
    await w.round();
    const [done] = await w.state(id);
    assert.deepEqual([done?.outcome, done?.attempt], ["delivered", 4]);
    assert.equal(receiver.received.length, 3);
  });

  test("after a day without success a delivery is given up, and an event tells of it", async () => {
    const sql = await open();
    const w = await delivering(sql);
    await using receiver = await startReceiver();
    receiver.answer = (_received, response) => response.writeHead(503).end();
    const id = await w.add(receiver.url);
    await w.change();
    let tries = 0;
    for (; (await w.state(id))[0]?.endedAt === undefined && tries < 100; tries += 1) {
      await w.round();
      w.clock.now = Math.max(w.clock.now, (await w.state(id))[0]?.runAt ?? 0);
    }
    const [given] = await w.state(id);
    assert.equal(given?.outcome, "failed");
    assert.ok(tries > 20 && tries < 60, `${tries} tries`);
    const events = await sql.query<{ type: string; detail: string }>("select type, detail from events");
    assert.deepEqual(
      events.map(({ type }) => type),
      ["webhook.failed"],
    );
    assert.match(events[0]?.detail ?? "", /status 503/);
  });

  test("one whose sender died before it could record is sent again, and nobody else's claim is touched", async () => {
    const sql = await open();
    const w = await delivering(sql);
    await using receiver = await startReceiver();
    const id = await w.add(receiver.url);
    await w.change();
    const nowMs = w.clock.now;
    const claim = { node: "dead", nowMs, untilMs: nowMs + 20_000, limit: 10 };
    const [taken] = await sql.transaction((tx) => claimDeliveries(tx, claim));
    assert.ok(taken);
    await w.round();
    assert.equal(receiver.received.length, 0, "it is claimed");
    w.clock.now += 20_000;
    await w.round();
    assert.equal(receiver.received.length, 1);
    assert.equal(await sql.transaction((tx) => endDelivery(tx, taken, { outcome: "failed", at: 1 })), false);
    assert.equal((await w.state(id))[0]?.outcome, "delivered");
  });

  test("a webhook that hangs does not keep the others waiting, and one that was disabled or deleted is not told", async () => {
    const sql = await open();
    const w = await delivering(sql);
    await using receiver = await startReceiver();
    const open_: (() => void)[] = [];
    receiver.answer = ({ path }, response) => {
      if (path.endsWith("/slow")) open_.push(() => response.writeHead(204).end());
      else response.writeHead(204).end();
    };
    const slow = await w.add(`${receiver.url}/slow`);
    for (let i = 0; i < 12; i += 1) await w.change();
    const quick = await w.add(`${receiver.url}/quick`, {}, { configIds: [w.configId] });
    await w.change();
    const deliveries = new Deliveries(w.parts, () => undefined);
    await deliveries.begin();
    await receiver.told(5);
    assert.equal(open_.length, 4);
    while ((await w.state(quick))[0]?.outcome !== "delivered") await sleep(5);
    while ((await w.state(slow)).filter(({ attempt }) => attempt === 0).length < 9) await sleep(5);
    for (const end of open_) end();
    await deliveries.stop();
    const left = (await w.state(slow)).filter(({ endedAt }) => endedAt === undefined);
    assert.deepEqual(new Set(left.map(({ attempt }) => attempt)), new Set([0]), "no try was counted");
    await sql.query("update webhooks set enabled = 0 where id = $1", [slow]);
    w.clock.now += 60_000;
    await w.round();
    assert.equal(receiver.received.length, 5);
    assert.deepEqual(new Set((await w.state(slow)).map(({ outcome }) => outcome)), new Set(["delivered", "canceled"]));
    await w.change();
    await sql.transaction((tx) => deleteWebhook(tx, "shop", quick));
    await w.round();
    assert.equal(receiver.received.length, 5);
  });

  test("addresses of metadata and of no single host are not asked", async () => {
    const w = await delivering(await open());
    const ids: string[] = [];
    for (const host of ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "100.100.100.200", "0.0.0.0", "2852039166"])
      ids.push(await w.add(`https://${host}/hook`));
    await w.change();
    await w.round();
    for (const id of ids) {
      const [delivery] = await w.state(id);
      assert.match(delivery?.error ?? "", /address/, JSON.stringify(delivery));
    }
  });

  test("a certificate that nobody vouches for is not spoken to, and what is answered is not read", {
    skip: unlessCi(!hasOpenssl() && "openssl is not installed"),
  }, async () => {
    const w = await delivering(await open());
    const home = mkdtempSync(join(tmpdir(), "rekey-webhooks-"));
    const cert = readFileSync(makeCertificate(home));
    let asked = 0;
    const server = createServer({ key: readFileSync(join(home, "server.key")), cert }, () => {
      asked += 1;
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const id = await w.add(`https://localhost:${(server.address() as AddressInfo).port}/`, { secret: "s3cret" });
    await using receiver = await startReceiver();
    receiver.answer = (_received, response) => response.writeHead(200, { "content-encoding": "gzip" }).end("x".repeat(2_000_000));
    const talkative = await w.add(receiver.url);
    await w.change();
    await w.round();
    server.close();
    rmSync(home, { recursive: true });
    assert.match((await w.state(id))[0]?.error ?? "", /certificate could not be verified \(/);
    assert.equal(asked, 0);
    assert.equal((await w.state(talkative))[0]?.outcome, "delivered");
  });

  test("webhooks are made, changed and listed without their secrets", async () => {
    const sql = await open();
    const w = await identityWorld(sql);
    await newConfig(sql, "shop", "dev", "dev");
    await newConfig(sql, "shop", "prd", "prd");
    const Authentication = { Type: "Basic", Username: "ci", Password: "p4ssword" };
    const input = { Project: "shop", Url: "https://ci.example/hook", Secret: "s3cret", Authentication, EnableConfigs: ["prd"] };
    const { Webhook } = await w.call("webhooks create", input);
    const { Id, CreatedAt: _, ...made } = Webhook as { Id: string; CreatedAt: Date };
    assert.deepEqual(made, {
      Url: "https://ci.example/hook",
      Enabled: true,
      Project: "shop",
      AllConfigs: false,
      EnabledConfigs: ["prd"],
      HasSecret: true,
      Authentication: { Type: "Basic", Username: "ci" },
    });
    const of = { Project: "shop", Id };
    const change = async (more: object) =>
      (await w.call("webhooks update", { ...of, ...more })).Webhook as Record<string, unknown>;
    assert.deepEqual((await change({ EnableConfigs: ["dev"], DisableConfigs: ["prd"] })).EnabledConfigs, ["dev"]);
    assert.equal((await change({ AllConfigs: true })).AllConfigs, true);
    assert.deepEqual((await change({ DisableConfigs: ["dev"] })).EnabledConfigs, ["prd"]);
    await assert.rejects(
      change({ Url: "https://elsewhere.example/", Authentication: { Type: "None" } }),
      refused("ValidationException"),
      "it would be told what its secret signs",
    );
    assert.equal((await change({ Secret: "" })).HasSecret, false);
    assert.deepEqual((await change({ Payload: '{"a":1}' })).Payload, '{"a":1}');
    await assert.rejects(
      change({ Url: "https://elsewhere.example/" }),
      refused("ValidationException"),
      "its password would go there",
    );
    await assert.rejects(change({ EnableConfigs: ["none"] }), refused("ResourceNotFoundException"));
    assert.equal(((await w.call("webhooks disable", of)).Webhook as { Enabled: boolean }).Enabled, false);
    assert.equal(((await w.call("webhooks enable", of)).Webhook as { Enabled: boolean }).Enabled, true);
    assert.deepEqual((await w.call("webhooks list-deliveries", of)).Deliveries, []);
    const all = JSON.stringify([await w.call("webhooks list", { Project: "shop" }), await w.call("webhooks get", of), w.records]);
    for (const secret of ["s3cret", "p4ssword"]) assert.equal(all.includes(secret), false);
    for (const Url of [
      "http://ci.example/",
      "ftp://ci.example/",
      "https://a:b@ci.example/",
      "https://169.254.169.254/latest/meta-data",
      "https://[::ffff:a9fe:a9fe]/",
      "nonsense",
    ])
      await assert.rejects(w.call("webhooks create", { Project: "shop", Url }), refused("ValidationException"), Url);
    await assert.rejects(change({ Payload: "[1]" }), refused("ValidationException"));
    await w.newUser("bob");
    const bob = String((await w.call("tokens create", { UserName: "bob", Name: "x" })).Token);
    for (const verb of ["get", "update", "disable", "delete", "list-deliveries"])
      await assert.rejects(w.bearer(bob, `webhooks ${verb}`, of), refused("AccessDeniedException"), verb);
    await w.call("webhooks delete", of);
    await assert.rejects(w.call("webhooks get", of), refused("ResourceNotFoundException"));
  });
});

test("pauses double from a second to an hour, of which a random part is waited", () => {
  assert.deepEqual(
    [1, 2, 3, 12, 13, 400].map((attempt) => nextTryAt(attempt, 0, 1)),
    [1e3, 2e3, 4e3, 2_048e3, 3.6e6, 3.6e6],
  );
  assert.equal(nextTryAt(5, 7, 0), 7);
});
