import { randomInt } from "node:crypto";
import type { Sql } from "./sql.ts";

const key = "installation_id";
const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";

/** What this deployment's users at targets are marked with: 8 lower-case letters and digits, made once. */
export async function installationId(sql: Sql): Promise<string> {
  const known = await read(sql);
  if (known !== undefined) return known;
  const made = Array.from({ length: 8 }, () => alphabet[randomInt(alphabet.length)]).join("");
  await sql.query("insert into meta (key, value) values ($1, $2) on conflict (key) do nothing", [key, made]);
  return (await read(sql)) ?? made;
}

async function read(sql: Sql): Promise<string | undefined> {
  const [row] = await sql.query<{ value: string }>("select value from meta where key = $1", [key]);
  return row?.value;
}
