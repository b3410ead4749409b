import { addressTest } from "../core/address.ts";

const loopback = ["127.0.0.0/8", "::1"];
/** Metadata of cloud machines, and addresses of no single host. Source: IANA special-purpose address registries; the clouds' documents. */
const special = [
  "0.0.0.0/8",
  "169.254.0.0/16",
  "100.100.100.200",
  "168.63.129.16",
  "192.0.0.192",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::",
  "64:ff9b::/96",
  "fd00:ec2::254",
  "fe80::/10",
  "ff00::/8",
];

const tests = (ranges: readonly string[]) => ranges.flatMap((range) => addressTest(range) ?? []);
const inSpecial = tests(special);
const inLoopback = tests(loopback);

/** A host that is this machine, by name or address; keys may go there in clear. */
export function isPlainHost(hostname: string): boolean {
  return hostname === "localhost" || inLoopback.some((test) => test(bare(hostname)));
}

/** Whether an address must not be asked for `hostname`: a public name that leads to this machine or its metadata is a trap. */
export function refusesAddress(hostname: string, allowed: readonly string[]): (address: string) => boolean {
  const inAllowed = tests(allowed);
  const refused = isPlainHost(hostname) ? inSpecial : [...inSpecial, ...inLoopback];
  return (address) => {
    const one = bare(address);
    return refused.some((test) => test(one)) && !inAllowed.some((test) => test(one));
  };
}

const bare = (host: string): string => host.replace(/^\[|\]$/g, "");
