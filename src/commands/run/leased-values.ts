/** A lease, as a download tells of it. */
export interface Lease {
  /** Of the dynamic secret. */
  readonly name: string;
  readonly id: string;
  /** By our own clock; epoch milliseconds. */
  readonly expiresAt: number;
  /** How far the clock is ahead that the server tells times by. */
  readonly serverAheadMs: number;
}

const expiration = "_LEASE_EXPIRATION";

/** The leases among leased values. */
export function leasesIn(leased: ReadonlyMap<string, string>, serverAheadMs: number): Lease[] {
  return [...leased].flatMap(([field, value]) => {
    if (!field.endsWith(expiration)) return [];
    const name = field.slice(0, -expiration.length);
    const id = leased.get(`${name}_LEASE_ID`);
    const expiresAt = Date.parse(value) - serverAheadMs;
    return id === undefined || Number.isNaN(expiresAt) ? [] : [{ name, id, expiresAt, serverAheadMs }];
  });
}
