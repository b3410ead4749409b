import { AsyncLocalStorage } from "node:async_hooks";
import type { Row, Sql, SqlValue } from "./sql.ts";

export type Execute = (text: string, values: readonly SqlValue[]) => Row[] | Promise<Row[]>;

const scopes = new AsyncLocalStorage<{ open: boolean }>();

/**
 * Called by whatever leaves the transaction's own connection: inside a `work` it would wait for itself, or miss its changes.
 * @throws Error when the caller runs inside the `work` of a transaction.
 */
export function refuseInsideWork(): void {
  if (scopes.getStore()?.open)
    throw new Error("inside a transaction only its `tx` may be used, and transactions may not be nested");
}

/**
 * Runs one `work` with a `tx` that behaves alike on both databases: after a statement failed no other runs and the
 * transaction fails with that error even when `work` caught it (as PostgreSQL has it), and a `tx` kept past its work is
 * refused. With `maxMs`, a work that waits longer for something else fails, and its `tx` is closed.
 */
export async function runInScope<T>(
  { dialect, execute, maxMs }: { dialect: Sql["dialect"]; execute: Execute; maxMs?: number },
  work: (tx: Sql) => Promise<T>,
): Promise<T> {
  const scope = { open: true };
  let failure: { error: unknown } | undefined;
  const tx: Sql = {
    dialect,
    async query<R extends object = Row>(text: string, values: readonly SqlValue[] = []): Promise<R[]> {
      if (!scope.open) throw new Error("this transaction has ended: its `tx` was used after its work");
      if (failure) throw new Error("an earlier statement of this transaction failed", { cause: failure.error });
      try {
        return (await execute(text, values)) as R[];
      } catch (error) {
        failure ??= { error };
        throw error;
      }
    },
    transaction: async () => Promise.reject(new Error("transactions may not be nested: use the `tx` at hand")),
    close: async () => Promise.reject(new Error("a `tx` ends with its work, it is not closed")),
  };
  try {
    const running = scopes.run(scope, async () => work(tx));
    const result = await (maxMs === undefined ? running : withDeadline(running, maxMs));
    if (failure) throw failure.error;
    return result;
  } finally {
    scope.open = false;
  }
}

async function withDeadline<T>(running: Promise<T>, maxMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the work of a transaction took more than ${maxMs} ms`)), maxMs);
  });
  try {
    return await Promise.race([running, expiry]);
  } finally {
    clearTimeout(timer);
  }
}
