import { createHash } from "node:crypto";
import type { Sql } from "./sql.ts";

/** Random and long: a plain hash of it cannot be searched. */
function hashRotationToken(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

/** From now on this token, and none before it, shows that a request comes from the rotation. */
export async function setRotationToken(tx: Sql, rotationId: string, token: string): Promise<void> {
  await tx.query("update rotations set token_hash = $2 where id = $1", [rotationId, hashRotationToken(token)]);
}

/** Whether a rotation that is under way for this version of the secret has given out the token. */
export async function isRotationToken(
  sql: Sql,
  { secretId, versionId, token }: Record<"secretId" | "versionId" | "token", string>,
): Promise<boolean> {
  const rows = await sql.query(
    "select 1 as found from rotations where secret_id = $1 and state = 'running' and version_id = $2 and token_hash = $3",
    [secretId, versionId, hashRotationToken(token)],
  );
  return rows.length > 0;
}
