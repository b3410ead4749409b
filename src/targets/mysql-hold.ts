import { createHash } from "node:crypto";
import { RotatorError } from "../core/error.ts";
import type { Session } from "./mysql-session.ts";

/**
 * A call whose caller died may still change what `key` names, and holds its lock until its session ends: end that session where
 * that is allowed, and wait for it. `who`: for people.
 */
export async function hold(db: Session, key: string, who: string, deadlineAt: number): Promise<void> {
  const lock = `'rekey ${createHash("sha256").update(key).digest("hex").slice(0, 40)}'`;
  const [used] = await db.read<{ holder: number | null }>(`select is_used_lock(${lock}) as holder`);
  if (used?.holder) await db.read(`kill ${Number(used.holder)}`).catch(ignoreRefusal);
  const seconds = Math.max(0, Math.floor((deadlineAt - Date.now()) / 1000) - 1);
  const [got] = await db.read<{ held: number | null }>(`select get_lock(${lock}, ${seconds}) as held`);
  if (got?.held !== 1) throw new RotatorError("timeout", `an earlier call for user ${who} has not ended yet`);
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof RotatorError && (error.outcome === "denied" || error.outcome === "unknown"))) throw error;
}
