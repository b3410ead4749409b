// A real OpenLDAP of our own for tests: Debian's binary, with a password policy.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chownSync, closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "ldapts";
import { freePort, hasOpenssl, makeCertificate, serverAccount, startWatcher, unlessCi } from "./server-process.ts";

export interface SlapdOptions {
  /** Offers StartTLS, and LDAPS at `tlsPort`, with a self-signed certificate for localhost and 127.0.0.1. Needs `openssl`. */
  tls?: boolean;
  /** Lines of slapd.conf in place of those that give every entry, and `cn=resetter`, what it needs. */
  access?: readonly string[];
  /** Any password is right for anybody. */
  trusting?: boolean;
}

export interface SlapdServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly tlsPort: number;
  readonly caFile: string | undefined;
  readonly suffix: string;
  readonly rootDn: string;
  readonly rootPassword: string;
  /** All operations as the server logs them. */
  log(): string;
  /** A password policy by its attributes, e.g. `{ pwdMinLength: "12" }`; gives its distinguished name. */
  addPolicy(name: string, rules: Readonly<Record<string, string>>): Promise<string>;
  /** Does something as the superuser. */
  asRoot<T>(work: (client: Client) => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

const server = "/usr/sbin/slapd";
const modules = "/usr/lib/ldap";
export const suffix = "dc=example,dc=com";

/** For `test(…, { skip })`: why there can be no OpenLDAP here, else false; always false under CI, where its lack must fail. */
export const slapdSkip: string | false = unlessCi(
  existsSync(server) && existsSync(join(modules, "ppolicy.so")) ? false : "no OpenLDAP: install Debian's slapd",
);
/** The same for a server with `tls`. */
export const slapdTlsSkip: string | false = slapdSkip || unlessCi(hasOpenssl() ? false : "no openssl to make a certificate");

/** A new OpenLDAP on free ports of 127.0.0.1. It ends with us, however we end; use `await using` so that it ends earlier. */
export async function startSlapd({ tls, trusting, access = ownAccess }: SlapdOptions = {}): Promise<SlapdServer> {
  const account = serverAccount("openldap");
  const home = mkdtempSync(join(tmpdir(), "rekey-slapd-"));
  const watcher = startWatcher(home, { pidFile: "server.pid", signal: "KILL" });
  const own = (path: string) => {
    if (account) chownSync(path, account.uid, account.gid);
  };
  own(home);
  const data = join(home, "data");
  mkdirSync(data);
  own(data);
  const host = "127.0.0.1";
  const port = await freePort();
  const tlsPort = tls ? await freePort() : 0;
  const caFile = tls ? makeCertificate(home) : undefined;
  const keyFile = join(home, "server.key");
  if (caFile) for (const path of [caFile, keyFile]) own(path);
  const rootDn = `cn=admin,${suffix}`;
  const rootPassword = randomBytes(18).toString("base64url");
  const configFile = join(home, "slapd.conf");
  writeFileSync(
    configFile,
    [
      ...["core", "cosine", "inetorgperson"].map((name) => `include /etc/ldap/schema/${name}.schema`),
      `pidfile ${join(home, "server.pid")}`,
      `modulepath ${modules}`,
      ...["back_mdb", "back_null", "ppolicy"].map((name) => `moduleload ${name}`),
      ...(caFile ? [`TLSCertificateFile ${caFile}`, `TLSCertificateKeyFile ${keyFile}`] : []),
      ...(trusting ? ["database null", `suffix "${suffix}"`, "bind on"] : database({ data, rootDn, rootPassword, access })),
      "",
    ].join("\n"),
    { mode: 0o600 },
  );
  own(configFile);

  const logFile = join(home, "server.log");
  const log = openSync(logFile, "a");
  const urls = [`ldap://${host}:${port}/`, ...(tls ? [`ldaps://${host}:${tlsPort}/`] : [])].join(" ");
  const child = spawn(server, ["-f", configFile, "-h", urls, "-d", "stats,args,shell"], {
    ...account,
    cwd: home,
    stdio: ["ignore", log, log],
    detached: true,
  });
  child.unref();
  closeSync(log);
  const asRoot = async <T>(work: (client: Client) => Promise<T>): Promise<T> => {
    const client = new Client({ url: `ldap://${host}:${port}` });
    try {
      await client.bind(rootDn, rootPassword);
      return await work(client);
    } finally {
      await client.unbind();
    }
  };
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`slapd did not start:\n${readFileSync(logFile, "utf8").slice(-3000)}`);
    }
    const failure = await asRoot(async () => undefined).catch((error: unknown) => error);
    if (failure === undefined) break;
    await sleep(20);
  }
  if (!trusting) await asRoot(addBase);
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.ref();
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  return {
    host,
    port,
    tlsPort,
    caFile,
    suffix,
    rootDn,
    rootPassword,
    log: () => readFileSync(logFile, "utf8"),
    asRoot,
    async addPolicy(name, rules) {
      const dn = `cn=${name},ou=policies,${suffix}`;
      const entry = { objectClass: ["device", "pwdPolicy"], cn: name, pwdAttribute: "userPassword", ...rules };
      await asRoot((client) => client.add(dn, entry));
      return dn;
    },
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
      watcher.stdin?.end();
    },
  };
}

const ownAccess: readonly string[] = [
  `access to dn.subtree="ou=fixed,${suffix}" attrs=userPassword by * auth`,
  `access to attrs=userPassword by self write by dn.exact="cn=resetter,${suffix}" write by anonymous auth by * none`,
  `access to * by dn.exact="cn=resetter,${suffix}" read by self read by * none`,
];

interface Database {
  readonly data: string;
  readonly rootDn: string;
  readonly rootPassword: string;
  readonly access: readonly string[];
}

function database({ data, rootDn, rootPassword, access }: Database): string[] {
  return [
    "database mdb",
    `suffix "${suffix}"`,
    `rootdn "${rootDn}"`,
    `rootpw ${rootPassword}`,
    `directory ${data}`,
    "dbnosync",
    ...access,
    "overlay ppolicy",
    "ppolicy_use_lockout",
    "ppolicy_hash_cleartext",
  ];
}

async function addBase(client: Client): Promise<void> {
  await client.add(suffix, { objectClass: ["dcObject", "organization"], dc: "example", o: "example" });
  for (const ou of ["policies", "fixed", "services"])
    await client.add(`ou=${ou},${suffix}`, { objectClass: "organizationalUnit", ou });
}
