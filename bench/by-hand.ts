// What Rekey does at a PostgreSQL against the same SQL without any Rekey, in turn.
import { randomBytes } from "node:crypto";
import pg from "pg";
import type { PostgresServer } from "../test/support/postgres-server.ts";
import { atMost, type Figure } from "./figures.ts";
import type { Amount } from "./requests.ts";
import { median } from "./statistics.ts";

export interface Login {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  password: string;
}

export const postgresLogin = ({ host, port, user, password }: PostgresServer): Login => ({
  host,
  port,
  user,
  password,
  database: "postgres",
});

export const newPassword = (): string => randomBytes(24).toString("base64url");

/** Logs in, works, and waits for the end of the session. */
export async function onConnection<T>(login: Login, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ ...login });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

interface Compared {
  /** `rotation` */
  readonly what: string;
  /** Who does it in Rekey. */
  readonly by: string;
  readonly atOnce: number;
  /** Wall time over that of the SQL by hand. */
  readonly goal: number;
  /** Each does it `atOnce` times at once. */
  hand(): Promise<unknown>;
  rekey(): Promise<unknown>;
}

export async function compareWithHand(
  { what, by, atOnce, goal, hand, rekey }: Compared,
  { rounds, quick, say }: Amount,
): Promise<Figure[]> {
  const waves = Math.ceil((quick ? 8 : 24) / Math.sqrt(atOnce));
  const name = `${what}, ${atOnce} at once`;
  const [ofHand, ofRekey]: [number[], number[]] = [[], []];
  for (let round = 0; round <= rounds; round += 1) {
    const handMs = await timeWaves(waves, atOnce, hand);
    const rekeyMs = await timeWaves(waves, atOnce, rekey);
    if (round > 0) {
      ofHand.push(handMs);
      ofRekey.push(rekeyMs);
    }
    say(`${name}, round ${round}: by hand ${handMs.toFixed(1)} ms, ${by} ${rekeyMs.toFixed(1)} ms`);
  }
  const ratios = ofRekey.map((ms, index) => ms / (ofHand[index] ?? Number.NaN));
  return [
    { name: `${name}: SQL by hand`, measured: median(ofHand), unit: "ms", rounds: ofHand },
    { name: `${name}: by ${by}`, measured: median(ofRekey), unit: "ms", rounds: ofRekey },
    { name: `${name}: by ${by}`, measured: median(ofRekey.map((ms) => 1000 / ms)), unit: "/s" },
    { name: `${name}: ${by} over SQL by hand`, measured: median(ratios), unit: "x", goal: atMost(goal), rounds: ratios },
  ];
}

/** Wall time of one, when so many are started together and the next ones when all have ended. */
export async function timeWaves(waves: number, atOnce: number, wave: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  for (let turn = 0; turn < waves; turn += 1) await wave();
  return (performance.now() - startedAt) / (waves * atOnce);
}
