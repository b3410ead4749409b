import { createHmac } from "node:crypto";
import { RotatorError, ServiceError } from "../core/error.ts";
import { webhookArn } from "../core/rekey-arn.ts";
import { authorizationHeader, deliveryWindowMs, nextTryAt, type WebhookSecrets } from "../core/webhook.ts";
import { addEvent } from "../store/events.ts";
import { anyDeliveryDue, claimDeliveries, type Delivery, endDelivery, postponeDelivery } from "../store/webhook-deliveries.ts";
import { loadWebhook, type Webhook } from "../store/webhooks.ts";
import { refusesAddress } from "../targets/http-api-address.ts";
import { send } from "../targets/http-api-send.ts";
import { Caps } from "./caps.ts";
import type { EngineParts } from "./parts.ts";

const atOnce = 16;
/** One that does not answer must not keep the others waiting. */
const atOncePerWebhook = 4;
const timeoutMs = 10_000;
/** Longer than a try, so that nobody sends what is still being sent. */
const claimMs = 20_000;
const busyPauseMs = 1_000;

/** Tells webhooks of changes: each delivery is sent until it was taken, at least once. */
export class Deliveries {
  readonly #parts: EngineParts;
  readonly #wake: () => void;
  readonly #running = new Set<Promise<void>>();
  readonly #caps = new Caps(() => atOncePerWebhook);
  #stopping = false;

  /** `wake` is called when a try has ended. */
  constructor(parts: EngineParts, wake: () => void) {
    this.#parts = parts;
    this.#wake = wake;
  }

  get full(): boolean {
    return this.#running.size >= atOnce;
  }

  /** Begins what is due, as far as there is room. */
  async begin(): Promise<false> {
    const { sql, now, settings } = this.#parts;
    if (this.#stopping || this.full || !(await anyDeliveryDue(sql, now()))) return false;
    const nowMs = now();
    const limit = atOnce - this.#running.size;
    const claim = { node: settings.node, nowMs, untilMs: nowMs + claimMs, limit };
    for (const delivery of await sql.transaction((tx) => claimDeliveries(tx, claim))) this.#start(delivery);
    return false;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  #start(delivery: Delivery): void {
    const work = this.#deliver(delivery)
      .catch((error: unknown) =>
        this.#parts.log.error({ err: error, deliveryId: delivery.id }, "a delivery could not be recorded"),
      )
      .finally(() => {
        this.#running.delete(work);
        this.#wake();
      });
    this.#running.add(work);
  }

  async #deliver(delivery: Delivery): Promise<void> {
    const { sql, now, random } = this.#parts;
    const { webhookId } = delivery;
    const webhook = await loadWebhook(sql, webhookId);
    if (!webhook) return; // its deliveries went with it
    if (!webhook.enabled) {
      await sql.transaction((tx) => endDelivery(tx, delivery, { outcome: "canceled", at: now() }));
      return;
    }
    if (!this.#caps.enter(webhookId)) {
      const rounds = 1 + this.#caps.turnedAway(webhookId) / atOncePerWebhook;
      const runAt = Math.ceil(now() + busyPauseMs * rounds * (1 + random()));
      return postponeDelivery(sql, delivery, { runAt, begun: false });
    }
    try {
      await record(this.#parts, webhook, delivery, await attempt(this.#parts, webhook, delivery));
    } finally {
      this.#caps.leave(webhookId);
    }
  }
}

/** Undefined when it was taken; else why not, without anything that was sent or answered. */
async function attempt(parts: EngineParts, webhook: Webhook, delivery: Delivery): Promise<string | undefined> {
  try {
    const { secret, ...secrets } = await openSecrets(parts, webhook);
    const url = new URL(webhook.url);
    if (refusesAddress(url.hostname, [])(url.hostname)) return special;
    const body = webhook.payload ?? delivery.event;
    const authorization = authorizationHeader(secrets);
    const headers = {
      "content-type": "application/json",
      "user-agent": "Rekey-Webhooks",
      "x-rekey-delivery": delivery.id,
      ...(authorization !== undefined && { authorization }),
      ...(secret !== undefined && { "x-doppler-signature": signature(secret, body) }),
    };
    const options = {
      label: "webhook",
      changing: false,
      timeoutMs,
      ca: undefined,
      allowAddresses: [],
      statusOnly: true,
    } as const;
    const { status } = await send({ method: "POST", url, headers, body }, options);
    return status >= 200 && status < 300 ? undefined : `it answered with status ${status}`;
  } catch (error) {
    if (error instanceof RotatorError) return inWords(error);
    if (error instanceof ServiceError) return error.message;
    throw error;
  }
}

const special = "its address is one of this machine or its metadata";
const words: Readonly<Record<string, string>> = {
  timeout: `it did not answer in ${timeoutMs / 1000} s`,
  tls: "its certificate could not be verified",
  invalid: special,
};

/** What went wrong, with the system's code for it if there is one. */
function inWords({ outcome, message }: RotatorError): string {
  const [, code] = /\(([A-Z_]+)\)$/.exec(message) ?? [];
  return `${words[outcome] ?? "it cannot be reached"}${code === undefined ? "" : ` (${code})`}`;
}

/** As receivers compute it over the body: `sha256=` and hexadecimal digits. */
const signature = (secret: string, body: string): string =>
  `sha256=${createHmac("sha256", secret).update(body, "utf8").digest("hex")}`;

async function openSecrets({ envelope }: EngineParts, { id, sealed }: Webhook): Promise<WebhookSecrets> {
  if (!sealed) return {};
  return JSON.parse((await envelope.open(sealed, { WebhookId: id })).revealText()) as WebhookSecrets;
}

async function record(parts: EngineParts, webhook: Webhook, delivery: Delivery, error: string | undefined): Promise<void> {
  const { sql, now, random } = parts;
  const at = now();
  if (error === undefined) {
    await sql.transaction((tx) => endDelivery(tx, delivery, { outcome: "delivered", at }));
    return;
  }
  const runAt = nextTryAt(delivery.attempt, at, random());
  if (runAt < delivery.createdAt + deliveryWindowMs)
    return postponeDelivery(sql, delivery, { runAt, outcome: "retrying", error, begun: true });
  await sql.transaction(async (tx) => {
    if (!(await endDelivery(tx, delivery, { outcome: "failed", error, at }))) return;
    const resource = webhookArn(parts, webhook.projectId, webhook.id);
    const detail = { deliveryId: delivery.id, attempts: delivery.attempt, reason: error };
    await addEvent(tx, { at, type: "webhook.failed", resource, detail });
  });
}
