import { migration as first } from "./0001-first.ts";
import type { Migration } from "./migration.ts";

/** All migrations in order. One that was ever published is never changed: what it lacks, the next one brings. */
export const migrations: readonly Migration[] = [first];
