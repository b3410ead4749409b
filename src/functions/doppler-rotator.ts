import { RotatorError } from "../core/error.ts";
import type { FarRotator } from "../targets/far-rotator-verbs.ts";

/**
 * What one of Doppler's published agents can do as the far side of a rotator. Nothing is retired: they need the password that a
 * user has, so it stays until its user's next turn, as Doppler's two-user strategy has it.
 * @param longestMs how long a call may go on at AWS after nobody waits for it
 */
export function dopplerRotator(far: FarRotator, longestMs: number): FarRotator {
  const { retire, prefer, check, compare, ...rest } = far;
  return {
    ...rest,
    strategies: far.strategies.filter((strategy) => strategy === "single-user" || strategy === "alternating-users"),
    callsOutliveMs: longestMs,
    create(current, strategy, tools) {
      if (strategy !== "alternating-users" || Array.isArray(current.usernames)) return far.create(current, strategy, tools);
      throw new RotatorError("invalid", "Doppler's agents make no users: name the two that take turns in the secret's usernames");
    },
  };
}
