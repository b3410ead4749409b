import { addressTest } from "./address.ts";

/** From where the secrets of a config may be used until somebody says otherwise. */
export const anywhere: readonly string[] = ["0.0.0.0/0", "::/0"];

export const maxTrustedIps = 100;

/** Whether an address lies in one of the ranges. A version 4 address written as version 6 counts as version 4. */
export function isTrusted(ranges: readonly string[], address: string): boolean {
  return ranges.some((range) => addressTest(range)?.(address) ?? false);
}
