import { rotatedFieldsOf } from "../core/config-rotated.ts";
import type { Plaintext } from "../core/plaintext.ts";
import { currentInForce } from "../core/secret.ts";
import { encryptionContext } from "../core/value-context.ts";
import { loadSecret, loadValue } from "./secrets.ts";
import type { Sql } from "./sql.ts";

/** Names of a config's rotated secrets. */
export async function rotatedNames(sql: Sql, configId: string): Promise<string[]> {
  const rows = await sql.query<{ name: string }>("select name from rotated_secrets where config_id = $1 order by name", [
    configId,
  ]);
  return rows.map(({ name }) => name);
}

/** Opens what was sealed under a context. */
type Open = (
  value: { readonly sealed: Uint8Array; readonly wrappedDataKey: Uint8Array },
  context: Record<string, string>,
) => Plaintext | Promise<Plaintext>;

/** What a config shows of its rotated secrets' AWSCURRENT: `NAME_USERNAME`, `NAME_PASSWORD`, … */
export async function rotatedFields(sql: Sql, configId: string, open: Open): Promise<Map<string, string>> {
  const rows = await sql.query<{ name: string; secret_id: string }>(
    "select name, secret_id from rotated_secrets where config_id = $1 order by name",
    [configId],
  );
  const fields = new Map<string, string>();
  for (const { name, secret_id } of rows) {
    const secret = await loadSecret(sql, secret_id);
    const version = secret && currentInForce(secret);
    const value = version && (await loadValue(sql, secret_id, version.id));
    if (!value) continue;
    const opened = await open(value, encryptionContext(secret.arn, version.id));
    for (const [field, text] of rotatedFieldsOf(name, opened.revealText())) fields.set(field, text);
  }
  return fields;
}
