/** Bits of an address: 32 for version 4, 128 for version 6. A version 4 address written as version 6 counts as version 4. */
interface Address {
  readonly bits: 32 | 128;
  readonly value: bigint;
}

interface Range extends Address {
  readonly prefix: number;
}

/** Whether an address lies in a CIDR range (`10.0.0.0/8`, `2001:db8::/32`, or one address). Undefined when it is neither. */
export function addressTest(range: string): ((address: string) => boolean) | undefined {
  const wanted = parseRange(range);
  if (!wanted) return undefined;
  const shift = BigInt(wanted.bits - wanted.prefix);
  const network = wanted.value >> shift;
  return (text) => {
    const address = parseAddress(text);
    return address !== undefined && address.bits === wanted.bits && address.value >> shift === network;
  };
}

/** Undefined when the text is neither an address nor a CIDR range. */
export function parseRange(text: string): Range | undefined {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (!address || slash < 0) return address && { ...address, prefix: address.bits };
  const written = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(written)) return undefined;
  const mapped = address.bits === 32 && text.includes(":");
  const prefix = Number(written) - (mapped ? 96 : 0);
  return prefix < 0 || prefix > address.bits ? undefined : { ...address, prefix };
}

function parseAddress(text: string): Address | undefined {
  if (text.length > 45) return undefined;
  if (!text.includes(":")) {
    const value = parseVersion4(text);
    return value === undefined ? undefined : { bits: 32, value };
  }
  const value = parseVersion6(text);
  if (value === undefined) return undefined;
  return value >> 32n === 0xffffn ? { bits: 32, value: value & 0xffff_ffffn } : { bits: 128, value };
}

function parseVersion4(text: string): bigint | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)) return undefined;
  return parts.reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

function parseVersion6(text: string): bigint | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map(groups);
  if (!head || (halves.length === 2 && !tail)) return undefined;
  const missing = 8 - head.length - (tail?.length ?? 0);
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  return [...head, ...Array<bigint>(missing).fill(0n), ...(tail ?? [])].reduce((value, group) => (value << 16n) | group, 0n);
}

/** Of `a:b:c`, the last perhaps a version 4 address. Undefined when one is malformed. */
function groups(text: string): bigint[] | undefined {
  if (text === "") return [];
  const values: bigint[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    const embedded = i === parts.length - 1 && part.includes(".") ? parseVersion4(part) : undefined;
    if (embedded !== undefined) values.push(embedded >> 16n, embedded & 0xffffn);
    else if (/^[0-9a-f]{1,4}$/i.test(part)) values.push(BigInt(`0x${part}`));
    else return undefined;
  }
  return values;
}

/** What counts as one address. A whole /64 counts as one IPv6 address, since one customer has at least that many. */
export function networkOf(address: string): string {
  if (!address.includes(":") || address.includes(".")) return address;
  const [head = "", tail] = address.split("::");
  const left = head.split(":").filter(Boolean);
  const right = tail === undefined ? [] : tail.split(":").filter(Boolean);
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => "0");
  return [...left, ...zeros, ...right].slice(0, 4).join(":");
}
