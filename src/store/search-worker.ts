// The thread of `search-thread.ts`: runs the searches that are sent to it on a read-only connection of its own.
import { parentPort, workerData } from "node:worker_threads";
import type { AuditQuery } from "../core/audit.ts";
import { type AuditTail, searchRecords } from "./audit-search.ts";
import type { SearchAnswer, SearchTask } from "./search-thread.ts";
import { type ScanState, type SearchRequest, scanSecrets } from "./secret-search.ts";
import { openSqlite } from "./sqlite.ts";

const sql = openSqlite(String(workerData), { readOnly: true });

const searches: Record<string, (...args: never[]) => Promise<unknown>> = {
  secrets: (request: SearchRequest, state: ScanState) => scanSecrets(sql, request, state),
  audit: (query: AuditQuery, tail: AuditTail | undefined) => searchRecords(sql, query, tail),
};

async function answer({ id, name, args }: SearchTask): Promise<SearchAnswer> {
  try {
    const search = searches[name];
    if (!search) throw new Error(`there is no search ${name}`);
    return { id, result: await search(...(args as never[])) };
  } catch (error) {
    return { id, error: error instanceof Error ? error.message : String(error) };
  }
}

parentPort?.on("message", async (task: SearchTask | undefined) => {
  if (task) {
    parentPort?.postMessage(await answer(task));
    return;
  }
  await sql.close();
  parentPort?.close();
  process.exit(); // ends this thread only, searches under way with it
});
