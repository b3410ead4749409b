import { isIPv6 } from "node:net";
import { z } from "zod";
import { addressTest, parseRange } from "../core/address.ts";
import { RotatorError, ServiceError } from "../core/error.ts";
import { allNodes, nodeList } from "./redis-nodes.ts";

/** Where a verb would connect to. */
export interface Address {
  readonly kind: string;
  /** A name, an address, or the path of a local socket. */
  readonly host: string;
  readonly port: number;
}

/** What one rule of an allow-list lets through. */
export interface AllowRule {
  readonly text: string;
  readonly kind: string;
  allows(address: Address): boolean;
}

/** Of kinds whose credentials name host and port. */
const ports: Readonly<Record<string, number>> = {
  activedirectory: 636,
  ldap: 636,
  mongodb: 27_017,
  mysql: 3306,
  oracle: 1521,
  postgres: 5432,
  redis: 6379,
  redshift: 5439,
  sqlserver: 1433,
};
const awsKinds: readonly string[] = ["aws-iam", "aws-sts"];
/** They reach nothing. */
const silentKinds: readonly string[] = ["key-pair", "random"];

/** Kinds of targets that a rule may name. */
export const addressedKinds: readonly string[] = [...Object.keys(ports), ...awsKinds, "http-api"].sort();

const hostAndPort = (port: number) =>
  z.looseObject({ host: z.string().min(1), port: z.coerce.number().int().min(1).max(65_535).default(port) });
const awsPlace = z.looseObject({
  region: z.string().optional(),
  endpoint: z.string().optional(),
  stsEndpoint: z.string().optional(),
});
const origin = z.looseObject({ origin: z.string() });

/**
 * Every address that a verb would connect to with this input, as its rotator or lease target reads it: of all versions, the
 * superuser, and all nodes. What a replica set or a listener that was reached names as its own is not among them.
 * @throws RotatorError `invalid` for what cannot be read, and for kinds that are not known
 */
export function addressesOf(kind: string, input: object, declaration?: unknown): Address[] {
  if (silentKinds.includes(kind)) return [];
  if (kind === "http-api" && !("connection" in input)) return urlAddress(kind, read(origin, declaration, kind).origin);
  const found = valuesIn(input).flatMap((value) => ofValue(kind, value));
  if (found.length > 0) return found;
  throw new RotatorError("invalid", `${kind}: the request does not say where to connect to`);
}

/** For messages, e.g. `postgres://db.internal:5432`. */
export function addressText({ kind, host, port }: Address): string {
  return `${kind}://${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/** Members of an input that hold credentials and connections. */
const holders = ["connection", "credential", "old", "current", "pending", "previous", "admin"];

function valuesIn(input: object): object[] {
  return Object.entries(input).flatMap(([name, value]) => {
    if (typeof value !== "object" || value === null) return [];
    if (name === "access" || name === "versions") return valuesIn(value);
    return holders.includes(name) ? [value] : [];
  });
}

function ofValue(kind: string, value: object): Address[] {
  if (kind === "http-api") return urlAddress(kind, read(origin, value, kind).origin);
  if (awsKinds.includes(kind)) return awsAddresses(kind, value);
  const port = Object.hasOwn(ports, kind) ? ports[kind] : undefined;
  if (port === undefined) throw new RotatorError("invalid", `${kind}: it is not known what it connects to`);
  const first = read(hostAndPort(port), value, kind);
  if (kind !== "redis") return [{ kind, host: first.host, port: first.port }];
  const { nodes } = read(z.looseObject({ nodes: nodeList }), value, kind);
  // A login at one node is one at that node: `at` takes the others away.
  return allNodes(first, nodes).map(({ host, port: at }) => ({ kind, host, port: at }));
}

function read<T>(shape: z.ZodType<T>, value: unknown, kind: string): T {
  const { data, error } = shape.safeParse(value);
  if (data !== undefined) return data;
  const problems = error?.issues.map(({ path, message }) => `${path.join(".")} ${message}`) ?? [];
  throw new RotatorError("invalid", `${kind}: ${problems.join("; ")}`);
}

function urlAddress(kind: string, text: string): Address[] {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw new RotatorError("invalid", `${kind}: an endpoint is no URL of a web server`);
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return [{ kind, host, port: Number(url.port) || (url.protocol === "https:" ? 443 : 80) }];
}

/** IAM and STS as the SDK finds them; where an endpoint is given, it stands for STS too. Source: AWS General Reference, IAM and STS endpoints. */
function awsAddresses(kind: string, value: object): Address[] {
  const { region, endpoint, stsEndpoint } = read(awsPlace, value, kind);
  const named = /^https:\/\/sts\.([a-z0-9-]+)\.amazonaws\.com/.exec(stsEndpoint ?? "")?.[1];
  const own = awsHosts(region ?? named ?? "us-east-1", kind);
  return [
    ...(endpoint === undefined ? [{ kind, host: own.iam, port: 443 }] : urlAddress(kind, endpoint)),
    ...((stsEndpoint ?? endpoint) === undefined
      ? [{ kind, host: own.sts, port: 443 }]
      : urlAddress(kind, stsEndpoint ?? endpoint ?? "")),
  ];
}

function awsHosts(region: string, kind: string): { iam: string; sts: string } {
  if (/^cn-[a-z]+-\d$/.test(region)) {
    return { iam: "iam.cn-north-1.amazonaws.com.cn", sts: `sts.${region}.amazonaws.com.cn` };
  }
  if (/^us-gov-[a-z]+-\d$/.test(region)) return { iam: "iam.us-gov.amazonaws.com", sts: `sts.${region}.amazonaws.com` };
  if (/^[a-z]{2}-[a-z]+-\d$/.test(region)) return { iam: "iam.amazonaws.com", sts: `sts.${region}.amazonaws.com` };
  throw new RotatorError("invalid", `${kind}: the addresses of AWS in ${region} are not known`);
}

const ruleShape = /^([a-z][a-z-]*):\/\/(\[[^\]\s,]+\]|[^:[\]\s,]+)(?::(\d{1,5}|\*))?$/;
const dnsName = /^(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/;

/**
 * Reads `postgres://db.internal:5432`, `postgres://*.db.internal:*`, `redis://10.0.0.0/8:6379`, `mysql://[2001:db8::/32]:3306`
 * or `postgres:///run/postgresql` (the socket of this machine). A range holds addresses alone, never names that lead there.
 * @throws ServiceError InvalidParameterException, which names the rule
 */
export function parseAllowRule(text: string): AllowRule {
  const refuse = (why: string): never => {
    throw new ServiceError("InvalidParameterException", `The allow rule ${JSON.stringify(text.slice(0, 300))} ${why}`);
  };
  const [, kind = "", written = "", at] = ruleShape.exec(text) ?? refuse("is not one of KIND://HOST:PORT.");
  if (!addressedKinds.includes(kind)) return refuse(`names no kind of target; there are ${addressedKinds.join(", ")}.`);
  if (written.startsWith("/")) {
    const ofSocket = (address: Address) => address.kind === kind && address.host === written;
    return at === undefined || at === "*" ? { text, kind, allows: ofSocket } : refuse("is a path, which has no port.");
  }
  if (at === undefined) return refuse("has no port: write one, or * for all.");
  const port = Number(at);
  if (at !== "*" && !(port >= 1 && port <= 65_535)) return refuse("has no port between 1 and 65535.");
  const host = hostTest(written.replace(/^\[(.*)\]$/, "$1")) ?? refuse("has no host name, *.NAME, address, range or *.");
  return {
    text,
    kind,
    allows: (address) => address.kind === kind && (at === "*" || address.port === port) && host(address.host),
  };
}

/** `undefined` for what is none. */
function hostTest(written: string): ((host: string) => boolean) | undefined {
  if (written === "*") return (host) => !host.startsWith("/");
  if (parseRange(written)) return addressTest(written);
  const name = plain(written);
  const below = name.startsWith("*.") ? name.slice(1) : undefined;
  if (!dnsName.test(below?.slice(1) ?? name) || isNumeric(name)) return undefined;
  return (host) => {
    const asked = plain(host);
    if (!dnsName.test(asked)) return false;
    return below === undefined ? asked === name : asked.endsWith(below) && asked.length > below.length;
  };
}

/** As names are compared; one full stop at the end says only that the name is whole. */
const plain = (host: string): string => host.toLowerCase().replace(/\.$/, "");

/** Names that resolvers read as an address, such as `127.1` and `0x7f000001`. */
const isNumeric = (name: string): boolean => /(^|\.)(\d+|0x[0-9a-f]*)$/.test(name);

/** Whether one of the rules lets it through; without rules, nothing is. */
export function isAllowed(rules: readonly AllowRule[], address: Address): boolean {
  return rules.some((rule) => rule.allows(address));
}
