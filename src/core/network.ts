/** A named place that is reached only through what runs in it: its agents, or functions of AWS Lambda. */
export interface Network {
  readonly name: string;
  readonly description?: string | undefined;
  /** ARNs of the registered functions that run verbs there, by kind of target; the other kinds are its agents'. */
  readonly functions: Readonly<Record<string, string>>;
  /** It came with an integration, and goes with the last one that uses it; `functionArn`: registered with it, and goes with it. */
  readonly made?: { readonly functionArn?: string | undefined } | undefined;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export const networkNamePattern = /^[a-z0-9][a-z0-9-]{0,63}$/;

/**
 * A target or an account as one of a network, e.g. `office+postgres://db.internal:5432/app`: the same host names elsewhere are
 * other hosts. `undefined`: reached from here.
 */
export function keyIn(network: string | undefined, key: string): string {
  return network === undefined ? key : `${network}+${key}`;
}

/** Whether a key is one of this network. Names of networks have no `+`. */
export const isIn = (network: string, key: string): boolean => key.startsWith(keyIn(network, ""));

/** The same key in another network. */
export function keyMoved(key: string, from: string | undefined, to: string | undefined): string {
  return keyIn(to, from === undefined ? key : key.slice(from.length + 1));
}
