import type { Sql } from "./sql.ts";

/** A table of the texts in a JSON list that is given as `$n`: `where id in ${listed(dialect, 1)}`. At most 1,000 are given at once. */
export function listed(dialect: Sql["dialect"], n: number): string {
  return dialect === "sqlite" ? `(select value from json_each($${n}))` : `(select json_array_elements_text($${n}::json))`;
}
