import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import { ConfigError } from "../core/error.ts";

/** Where and how to connect, without a name for anything else; `ssl` false means cleartext. */
export interface PostgresAddress {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string | undefined;
  ssl: false | ConnectionOptions;
}

const shape = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full";
const sslModes = ["disable", "require", "verify-ca", "verify-full", "no-verify"];
const known = ["host", "sslmode", "sslrootcert", "sslcert", "sslkey"];

/**
 * Reads a PostgreSQL URL. `sslmode` is `disable`, `verify-full` (certificate and name checked; `require` means the same),
 * `verify-ca` (certificate only) or `no-verify`; without it, `disable` on this machine and `verify-full` elsewhere.
 * `sslrootcert`, `sslcert` and `sslkey` are paths of PEM files; `host` may be the folder of a Unix socket.
 * @throws ConfigError that tells what is wrong without the URL itself, which holds a password.
 */
export function parsePostgresUrl(url: string): PostgresAddress {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !/^postgres(ql)?:$/.test(parsed.protocol))
    throw new ConfigError([`the PostgreSQL URL is not of the form ${shape}`]);
  const unknown = [...parsed.searchParams.keys()].filter((name) => !known.includes(name));
  if (unknown.length > 0)
    throw new ConfigError([`the PostgreSQL URL has unknown parameters: ${unknown.join(", ")}; known are ${known.join(", ")}`]);
  const host = parsed.searchParams.get("host") ?? (decode(parsed.hostname).replace(/^\[(.*)\]$/, "$1") || "localhost");
  return {
    host,
    port: Number(parsed.port || 5432),
    database: decode(parsed.pathname.slice(1)) || decode(parsed.username) || "postgres",
    user: decode(parsed.username) || "postgres",
    password: parsed.password ? decode(parsed.password) : undefined,
    ssl: sslOptions(host, parsed.searchParams),
  };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new ConfigError(["the PostgreSQL URL has a % that starts no character code: write it as %25"]);
  }
}

const isLocal = (host: string): boolean => host.startsWith("/") || host === "localhost" || host === "::1" || /^127\./.test(host);

function sslOptions(host: string, parameters: URLSearchParams): false | ConnectionOptions {
  const mode = parameters.get("sslmode") ?? (isLocal(host) ? "disable" : "verify-full");
  if (!sslModes.includes(mode)) throw new ConfigError([`sslmode of the PostgreSQL URL must be one of ${sslModes.join(", ")}`]);
  if (mode === "disable") return false;
  const file = (name: string) => readParameterFile(name, parameters.get(name));
  const [ca, cert, key] = [file("sslrootcert"), file("sslcert"), file("sslkey")];
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(isIP(host) ? {} : { servername: host }),
    rejectUnauthorized: mode !== "no-verify",
    checkServerIdentity: (_, certificate) => (mode === "verify-ca" ? undefined : checkServerIdentity(host, certificate)),
  };
}

function readParameterFile(name: string, path: string | null): string | undefined {
  if (path === null) return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigError([`${name} of the PostgreSQL URL: ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`]);
  }
}
