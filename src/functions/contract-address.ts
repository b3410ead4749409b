import type { Address } from "./contract-gate.ts";

/** Where the target is, as a secret's value tells it, and how to tell another place instead. */
export interface TargetAddress extends Address {
  /** The value with that other address in it. */
  moved(value: string, to: Address): string;
  /** The value as it was. */
  restored(value: string, from: Address): string;
}

/** Ports that secrets may leave out. */
const usualPorts: Readonly<Record<string, number>> = {
  postgres: 5432,
  postgresql: 5432,
  mysql: 3306,
  mariadb: 3306,
  redis: 6379,
  mongo: 27_017,
  mongodb: 27_017,
  oracle: 1521,
  sqlserver: 1433,
  redshift: 5439,
};

/** From `host` and `port`, or from the first member that is a plain HTTP address; `undefined` when the value has neither. */
export function addressIn(text: string): TargetAddress | undefined {
  const value = objectIn(text);
  if (!value) return undefined;
  const { host, port, engine } = value;
  const number = Number(port ?? usualPorts[String(engine)]);
  if (typeof host === "string" && Number.isInteger(number)) {
    const change = (at: Address, next: object) => (found: Record<string, unknown>) =>
      found.host === at.host && Number(found.port ?? number) === at.port ? { ...found, ...next } : found;
    const own = { host, port: number };
    return {
      ...own,
      moved: (other, to) => edited(other, change(own, to)),
      restored: (other, from) => edited(other, change(from, { host, port })),
    };
  }
  const url = Object.values(value).find((member) => typeof member === "string" && /^http:\/\//.test(member));
  if (typeof url !== "string" || !URL.canParse(url)) return undefined;
  const { hostname, port: written, origin } = new URL(url);
  const urlOf = ({ host: name, port: at }: Address) => `http://${name}:${at}`;
  const replace = (from: string, to: string) => (found: Record<string, unknown>) =>
    Object.fromEntries(
      Object.entries(found).map(([key, member]) => [
        key,
        typeof member === "string" && member.startsWith(from) ? to + member.slice(from.length) : member,
      ]),
    );
  return {
    host: hostname.replace(/^\[|\]$/g, ""),
    port: Number(written || 80),
    moved: (other, to) => edited(other, replace(origin, urlOf(to))),
    restored: (other, from) => edited(other, replace(urlOf(from), origin)),
  };
}

function edited(text: string, edit: (value: Record<string, unknown>) => object): string {
  const value = objectIn(text);
  return value ? JSON.stringify(edit(value)) : text;
}

function objectIn(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
