// Appends to the audit trail of the data folder in argv until it is killed; prints the request id of each record that is durable.
import { writeSync } from "node:fs";
import { join } from "node:path";
import { openAudit } from "../../src/store/audit.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { auditRecord, auditKey as key } from "./audit.ts";

const [dir = "", run = ""] = process.argv.slice(2);
const sql = openSqlite(join(dir, "rekey.db"));
const log = await openAudit({ sql, key, dir, maxSegmentBytes: 100_000 });
const acknowledge = (id: string) => writeSync(1, `${id}\n`);

async function read(appender: number): Promise<void> {
  for (let count = 0; ; count += 1) {
    const id = `${run}-read-${appender}-${count}`;
    await log.append(auditRecord(id, { at: Date.now() }));
    acknowledge(id);
  }
}

async function change(): Promise<void> {
  for (let count = 0; ; count += 1) {
    const id = `${run}-change-${count}`;
    await sql.transaction((tx) => log.inTransaction(tx, auditRecord(id, { at: Date.now() })));
    acknowledge(id);
    if (count % 5 === 0) await log.settle();
    if (count % 20 === 0) await log.ship(100);
  }
}

await Promise.all([change(), ...Array.from({ length: 16 }, (_, appender) => read(appender))]);
