// Puts the store in argv under another root key, and kills itself at the n-th call of the database or of a root key.
import { join } from "node:path";
import { openRootKey, type RootKeyProvider } from "../../src/crypto/key-provider.ts";
import { rotateRootKey } from "../../src/crypto/root-secret.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";

const [dir = "", from = "", to = "", killAt = ""] = process.argv.slice(2);
let calls = 0;
/** Before and after each call. */
async function counted<T>(call: () => Promise<T>): Promise<T> {
  point();
  const result = await call();
  point();
  return result;
}
function point(): void {
  calls += 1;
  if (calls === Number(killAt)) process.kill(process.pid, "SIGKILL");
}

const wrapSql = (sql: Sql): Sql => ({
  ...sql,
  query: (text, values) => counted(() => sql.query(text, values)),
  transaction: (work) => counted(() => sql.transaction((tx) => work(wrapSql(tx)))),
});
const wrapKey = (key: RootKeyProvider): RootKeyProvider => ({
  name: key.name,
  wrap: (bytes, context) => counted(() => key.wrap(bytes, context)),
  unwrap: (bytes, context) => counted(() => key.unwrap(bytes, context)),
});

const sql = openSqlite(join(dir, "rekey.db"));
const [oldKey, newKey] = [await openRootKey(from, { env: {} }), await openRootKey(to, { env: {} })];
await rotateRootKey(ringKeyStore(wrapSql(sql)), wrapKey(oldKey), wrapKey(newKey));
await sql.close();
