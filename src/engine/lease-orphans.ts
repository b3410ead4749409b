import { RotatorError } from "../core/error.ts";
import { installationId } from "../store/installation.ts";
import { type Integration, type IntegrationVersion, loadIntegration, newestVersion } from "../store/integrations.ts";
import {
  anyOrphanLookDue,
  anySettings,
  hastenOrphanLook,
  placesOfLeases,
  planOrphanLook,
  queueOrphans,
  takeOrphanLooks,
} from "../store/lease-orphans.ts";
import { callDeadline } from "./clock.ts";
import { openVersion, targetOfKind } from "./lease-connection.ts";
import type { EngineParts } from "./parts.ts";
import { type Limits, noteOutcome, reasonOf } from "./within-limits.ts";

const atOnce = 2;
/** A list may be long. */
const listMs = 30_000;
const busyPauseMs = 5_000;

/** Looks for users at targets that bear our mark and have no lease, and has them ended. */
export class LeaseOrphans {
  readonly #parts: EngineParts;
  readonly #limits: Limits;
  readonly #wake: () => void;
  readonly #running = new Set<Promise<void>>();
  #stopping = false;

  /** `limits` are those of rotations; `wake` is called when a target was looked at. */
  constructor(parts: EngineParts, limits: Limits, wake: () => void) {
    this.#parts = parts;
    this.#limits = limits;
    this.#wake = wake;
  }

  /** Begins what is due, as far as there is room. */
  async begin(): Promise<false> {
    const { sql, now, random } = this.#parts;
    if (this.#stopping || this.#running.size >= atOnce || !(await anyOrphanLookDue(sql, now()))) return false;
    const limit = atOnce - this.#running.size;
    const due = await sql.transaction((tx) => takeOrphanLooks(tx, { nowMs: now(), limit, seed: random() }), { durable: false });
    for (const id of due) this.#start(id);
    return false;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  #start(integrationId: string): void {
    const work = this.#look(integrationId)
      .catch((error: unknown) => {
        const known = error instanceof RotatorError ? { outcome: error.outcome, reason: error.message } : { err: error };
        this.#parts.log.warn({ integrationId, ...known }, "a target could not be looked at for users without a lease");
      })
      .finally(() => {
        this.#running.delete(work);
        this.#wake();
      });
    this.#running.add(work);
  }

  async #look(integrationId: string): Promise<void> {
    const { sql } = this.#parts;
    const integration = await loadIntegration(sql, integrationId);
    const newest = integration && (await newestVersion(sql, integration));
    if (!integration || !newest || integration.deletedAt !== undefined) return;
    const kind = await targetOfKind(this.#parts, integration.type);
    if (!kind.list) return planOrphanLook(sql, integrationId, undefined);
    let failure: unknown;
    for (const version of await placesOfLeases(sql, newest)) {
      await this.#lookAt(integration, version).catch((error: unknown) => {
        failure ??= error; // one network that is silent keeps none of the others from being looked at
      });
    }
    if (failure !== undefined) throw failure;
  }

  async #lookAt(integration: Integration, version: IntegrationVersion): Promise<void> {
    const { sql, now, generatePassword } = this.#parts;
    const { caps, breakers } = this.#limits;
    const integrationId = integration.id;
    const kind = await targetOfKind(this.#parts, integration.type, version.network);
    const away = breakers.silence(version.target);
    if (away) return planOrphanLook(sql, integrationId, away.untilMs + busyPauseMs);
    if (!caps.enter(version.target)) return planOrphanLook(sql, integrationId, now() + busyPauseMs);
    try {
      const connection = await openVersion(this.#parts, kind, version);
      const installation = await installationId(sql);
      const users = await kind.list?.(connection, installation, { deadlineAt: callDeadline(listMs), generatePassword });
      await noteOutcome(this.#parts, breakers, { target: version.target, outcome: "ok" });
      const settings = await anySettings(sql, integrationId);
      const { queued, byHand, young } = await queueOrphans(
        sql,
        this.#parts,
        { integration, version, users: users ?? [], settings },
        now(),
      );
      if (young > 0) await hastenOrphanLook(sql, integrationId, now());
      if (queued.length + byHand.length > 0)
        this.#parts.log.warn({ integrationId, queued: queued.length, byHand }, "users without a lease were found");
    } catch (error) {
      if (error instanceof RotatorError)
        await noteOutcome(this.#parts, breakers, { target: version.target, outcome: error.outcome, reason: reasonOf(error) });
      throw error;
    } finally {
      caps.leave(version.target);
    }
  }
}
