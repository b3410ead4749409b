import { leaseWork } from "../core/lease.ts";
import {
  claimLease,
  type DueLease,
  dueLeasesOf,
  dueTargets,
  firstLeaseDueAt,
  type LeaseClaim,
  recordRevoking,
  releaseLeaseClaims,
  wantedLeases,
} from "../store/lease-claims.ts";
import { hastenOrphanLook } from "../store/lease-orphans.ts";
import type { Sql } from "../store/sql.ts";
import { Breakers } from "./breaker.ts";
import { HeldLease } from "./held-lease.ts";
import { Superseded } from "./held-rotation.ts";
import { create, renew, revoke } from "./lease-work.ts";
import type { EngineParts } from "./parts.ts";
import { type Limits, noteOutcome } from "./within-limits.ts";

/** At once on this node: somebody waits for those that are made and renewed; the others must not keep them waiting. */
const wantedAtOnce = 24;
const othersAtOnce = 24;
/** What ends by itself leaves that much of a target's room to rotations and to what somebody waits for. */
const shareOfOthers = 0.7;
const wantedLook = 200;
/** While other nodes fill a target. */
const fullPauseMs = 100;
const marginMs = 2_000;

/** Makes, renews and ends leases, found in the store; nothing is kept in memory of those that are not due. */
export class Leases {
  readonly #parts: EngineParts;
  readonly #limits: Limits;
  readonly #wake: () => void;
  readonly #running = new Map<string, Promise<void>>();
  #wanted = 0;
  #others = 0;
  #released: boolean;
  #stopping = false;
  /** Where the last look at targets ended: all get their turn. */
  #lastTarget = "";
  #nextAt = Number.POSITIVE_INFINITY;

  /** `limits` are those of rotations; `wake` is called when one was looked at. */
  constructor(parts: EngineParts, limits: Limits, wake: () => void) {
    this.#parts = parts;
    this.#limits = limits;
    this.#wake = wake;
    this.#released = !parts.settings.ownsStore;
  }

  /** When it is worth to look again, unless `wake` was called before. */
  get nextAt(): number {
    return this.#nextAt;
  }

  /** Begins what is due, as far as there is room. `isSettled`: the clock may be trusted, so that what it says is over is ended. */
  async begin(isSettled: boolean): Promise<false> {
    const { sql, now } = this.#parts;
    const nowMs = now(); // not later: it may jump meanwhile
    this.#nextAt = Number.POSITIVE_INFINITY;
    if (!this.#released) await releaseLeaseClaims(sql);
    this.#released = true;
    if (this.#stopping) return false;
    const firstAt = await firstLeaseDueAt(sql);
    if (firstAt === undefined || firstAt > nowMs) {
      this.#nextAt = firstAt ?? Number.POSITIVE_INFINITY;
      return false;
    }
    const look = { nowMs, isSettled };
    if (this.#wanted < wantedAtOnce) await this.#beginWanted(look);
    if (this.#others < othersAtOnce) await this.#beginOthers(look);
    return false;
  }

  /** Begins no more, and resolves when what is under way has been recorded. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running.values());
  }

  /** At one target. */
  get #mostOfOthers(): number {
    return Math.max(1, Math.floor(this.#limits.caps.most() * shareOfOthers));
  }

  async #beginWanted(look: Look): Promise<void> {
    const { caps, breakers } = this.#limits;
    for (const due of await wantedLeases(this.#parts.sql, look.nowMs, wantedLook)) {
      if (this.#wanted >= wantedAtOnce || this.#stopping) return;
      if (this.#running.has(due.id)) continue;
      // Nothing is tried at a silent target: that is said at once to whoever waits.
      const isAway = (breakers.silence(due.target)?.untilMs ?? 0) > look.nowMs;
      if (isAway || caps.enter(due.target)) this.#start(due, { ...look, isWanted: true, entered: !isAway });
    }
  }

  async #beginOthers(look: Look): Promise<void> {
    const targets = (await dueTargets(this.#parts.sql)).filter(({ target, dueAt }) => {
      const at = Math.max(dueAt, this.#limits.breakers.silence(target)?.untilMs ?? 0);
      if (at > look.nowMs) this.#nextAt = Math.min(this.#nextAt, at);
      return at <= look.nowMs;
    });
    const from = Math.max(
      0,
      targets.findIndex(({ target }) => target > this.#lastTarget),
    );
    for (const { target } of [...targets.slice(from), ...targets.slice(0, from)]) {
      if (this.#others >= othersAtOnce || this.#stopping) return;
      this.#lastTarget = target;
      await this.#beginAt(target, look);
    }
  }

  async #beginAt(target: string, look: Look): Promise<void> {
    const { caps, breakers } = this.#limits;
    const most = this.#mostOfOthers;
    const room = Math.min(othersAtOnce - this.#others, breakers.silence(target) ? 1 : most - caps.inside(target));
    if (room <= 0) return;
    for (const due of await dueLeasesOf(this.#parts.sql, target, {
      nowMs: look.nowMs,
      limit: room,
      begunOnly: !look.isSettled,
    })) {
      if (this.#running.has(due.id) || !caps.enter(target, most)) continue;
      this.#start(due, { ...look, isWanted: false, entered: true });
    }
  }

  #start(due: DueLease, how: How): void {
    const count = (by: number) => {
      if (how.isWanted) this.#wanted += by;
      else this.#others += by;
    };
    count(1);
    const job = this.#do(due, how)
      .catch((error: unknown) => {
        if (!(error instanceof Superseded))
          this.#parts.log.error({ err: error, leaseId: due.id }, "what became of a lease could not be recorded");
      })
      .finally(() => {
        if (how.entered) this.#limits.caps.leave(due.target);
        count(-1);
        this.#running.delete(due.id);
        this.#wake();
      });
    this.#running.set(due.id, job);
  }

  async #do(due: DueLease, how: How): Promise<void> {
    const { breakers } = this.#limits;
    const claimed = await this.#claim(due, how);
    if (!claimed) return;
    const { held, kind } = claimed;
    const away = how.entered ? breakers.away(due.target) : breakers.silence(due.target);
    if (away) return turnAway(held, kind, Breakers.words(away, due.type, due.target));
    if (!how.entered) return held.later(how.nowMs); // it answers again since
    const outcome = await { create, renew, revoke }[kind](held);
    if (outcome !== undefined) await noteOutcome(this.#parts, breakers, { target: due.target, outcome });
  }

  /** Takes it, and does what needs no target. `undefined` when nothing is to be done there now. */
  async #claim(due: DueLease, how: How): Promise<{ readonly held: HeldLease; readonly kind: Kind } | undefined> {
    const { sql, settings } = this.#parts;
    const { nowMs } = how;
    const createMs = due.state === "creating" ? ((await this.#parts.findLeaseTarget(due.type))?.createMs ?? 0) : 0;
    const untilMs = nowMs + Math.max(settings.claimMs, createMs + 2 * marginMs);
    const most = settings.ownsStore ? undefined : how.isWanted ? this.#limits.caps.most() : this.#mostOfOthers;
    const claimed = await sql.transaction(async (tx) => {
      const claim = await claimLease(tx, { id: due.id, node: settings.node, nowMs, untilMs, most });
      return claim === undefined || claim === "full" ? claim : decide(tx, claim, how);
    });
    if (claimed === "full") this.#nextAt = Math.min(this.#nextAt, nowMs + fullPauseMs);
    if (claimed === undefined || claimed === "full") return undefined;
    const held = new HeldLease(this.#parts, claimed.claim);
    const { kind } = claimed;
    if (kind === "create" || kind === "renew" || kind === "revoke") return { held, kind };
    await (kind === "later" ? held.later(claimed.at) : held.ended(claimed.claim.lease.reason ?? "revoked"));
    return undefined;
  }
}

type Kind = "create" | "renew" | "revoke";

/** When was looked for what is due. */
interface Look {
  readonly nowMs: number;
  /** What the clock says may be believed. */
  readonly isSettled: boolean;
}

interface How extends Look {
  readonly isWanted: boolean;
  /** It has a place among those that work at the target. */
  readonly entered: boolean;
}

const unsettledPauseMs = 1_000;

async function decide(tx: Sql, claim: LeaseClaim, { nowMs, isSettled }: Look) {
  const { lease, takenOver, begun } = claim;
  const work = leaseWork(lease, { nowMs, takenOver, begun });
  switch (work.kind) {
    case "reset":
      return { claim, kind: "later", at: lease.expiresAt } as const;
    case "drop":
      return { claim: { ...claim, lease: { ...lease, reason: work.reason } }, kind: "drop" } as const;
    case "begin-revoking": {
      if (!isSettled && !takenOver) return { claim, kind: "later", at: nowMs + unsettledPauseMs } as const;
      const { reason } = work;
      await recordRevoking(tx, claim, { reason, nowMs, keep: true });
      if (takenOver) await hastenOrphanLook(tx, lease.integrationId, nowMs); // the one before may still come to its end
      return { claim: { ...claim, lease: { ...lease, state: "revoking", reason } as const }, kind: "revoke" } as const;
    }
    default:
      return { claim, kind: work.kind } as const;
  }
}

/** Nothing is tried at a silent target; whoever waits is told. */
async function turnAway(held: HeldLease, kind: Kind, error: string): Promise<void> {
  const failure = { outcome: "unreachable", error } as const;
  if (kind === "create") await held.ended("failed", failure);
  else if (kind === "renew") await held.notRenewed(failure);
  else await held.later(held.lease.dueAt ?? held.parts.now());
}
