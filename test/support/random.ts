import { createHash } from "node:crypto";

/** Numbers in [0, 1), the same ones for the same seed. */
export function seeded(seed: number | string): () => number {
  let drawn = 0;
  return () => {
    drawn += 1;
    return createHash("sha256").update(`${seed} ${drawn}`).digest().readUIntBE(0, 6) / 2 ** 48;
  };
}
