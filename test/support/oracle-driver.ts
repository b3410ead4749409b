// In place of node-oracledb: an object with its calls, errors and codes as its documentation and Oracle's give them. No protocol
// and no server is behind it: what it finds is how Rekey uses the driver.
import type { OracleConnection, OracleDriver } from "../../src/targets/oracle-session.ts";

type Row = Record<string, string | number | null>;

/** As the driver's errors: a code, and a text that may quote the statement. */
class DriverError extends Error {
  readonly code: string;
  constructor(code: string, quoted: string) {
    super(`${code}: ${quoted}`);
    this.code = code;
  }
}

interface OracleUser {
  /** The youngest first; two during a rollover. */
  passwords: string[];
  readonly used: string[];
  locked: boolean;
  expired: boolean;
  failures: number;
  readonly rolloverDays: number;
  readonly profile: string;
  readonly roles: Map<string, { admin: boolean; byDefault: boolean }>;
  readonly system: Map<string, boolean>;
  readonly objects: {
    owner: string;
    object: string;
    type: string;
    column: string | null;
    privilege: string;
    grantable: boolean;
  }[];
  readonly quotas: Map<string, number>;
}

/** What the next change of a password meets: the connection ends before or after its effect, or no answer comes. */
type Fault = "cut-before" | "cut-after" | "hang";

export interface OracleDouble extends OracleDriver {
  readonly users: Map<string, OracleUser>;
  addUser(name: string, password: string, options?: Partial<OracleUser>): OracleUser;
  fail(fault: Fault): void;
  readonly clientIds: Set<string>;
  log(): string;
}

export interface DoubleOptions {
  readonly port: number;
  /** Another port, where whoever answers does not know the passwords that it accepts. */
  readonly untrustedPort?: number;
  /** Failed logins until an account is locked. */
  readonly lockAfter?: number;
}

const name = '"([^"]*)"';

export function oracleDouble({ port, untrustedPort, lockAfter = Number.POSITIVE_INFINITY }: DoubleOptions): OracleDouble {
  const users = new Map<string, OracleUser>();
  const sessions = new Map<number, { clientId: string; ended: boolean }>();
  const clientIds = new Set<string>();
  const log: string[] = [];
  let fault: Fault | undefined;
  let lastSession = 100;

  function addUser(user: string, password: string, options: Partial<OracleUser> = {}): OracleUser {
    const rights = { roles: new Map(), system: new Map([["CREATE SESSION", false]]), objects: [], quotas: new Map() };
    const state = { locked: false, expired: false, failures: 0, rolloverDays: 0, profile: "DEFAULT" };
    const entry = { passwords: [password], used: [password], ...state, ...rights, ...options };
    users.set(user, entry);
    return entry;
  }

  function logIn(user: string, password: string): OracleUser {
    const entry = users.get(user);
    if (!entry) throw new DriverError("ORA-01017", "invalid credential or not authorized; logon denied");
    if (entry.locked || entry.failures >= lockAfter) throw new DriverError("ORA-28000", "The account is locked.");
    if (!entry.passwords.includes(password)) {
      entry.failures++;
      throw new DriverError("ORA-01017", "invalid credential or not authorized; logon denied");
    }
    entry.failures = 0;
    if (entry.expired) throw new DriverError("ORA-28001", "the account's password has expired");
    if (!entry.system.has("CREATE SESSION") && !entry.roles.has("DBA"))
      throw new DriverError("ORA-01045", "lacks CREATE SESSION");
    return entry;
  }

  async function getConnection(options: Record<string, unknown>): Promise<OracleConnection> {
    const at = Number(/PORT=(\d+)/.exec(String(options.connectString))?.[1]);
    if (at === untrustedPort) throw new DriverError("NJS-173", "invalid server response to login request");
    if (at !== port) throw new DriverError("NJS-503", `connection to host and port ${at} could not be established`);
    const text = String(options.user);
    const user = text.startsWith('"') ? text.slice(1, -1) : text.toUpperCase();
    logIn(user, String(options.password));
    return connection(user);
  }

  function connection(user: string): OracleConnection {
    const id = ++lastSession;
    const session = { clientId: "", ended: false };
    sessions.set(id, session);
    const changing = async (effect: () => void): Promise<void> => {
      const now = fault;
      fault = undefined;
      if (now === "hang") await new Promise(() => undefined);
      if (session.ended || now === "cut-before") throw new DriverError("NJS-500", "connection was closed or broken");
      effect();
      if (now === "cut-after") throw new DriverError("NJS-500", "connection was closed or broken");
    };
    return {
      callTimeout: 0,
      get clientId() {
        return session.clientId;
      },
      set clientId(value: string) {
        session.clientId = value;
        clientIds.add(value);
      },
      async execute(text, binds) {
        log.push(text.replace(/(identified by )"[^"]*"/, "$1***"));
        if (session.ended) throw new DriverError("NJS-500", "connection was closed or broken");
        let rows: Row[] = [];
        const run = () => {
          rows = execute({ id, user }, text.replaceAll(/\n\s*/g, " "), binds);
        };
        if (/^(alter|create) user .* identified by /s.test(text)) await changing(run);
        else run();
        return { rows };
      },
      async changePassword(of, old, password) {
        const target = of.startsWith('"') ? of.slice(1, -1) : of;
        await changing(() => {
          if (!users.get(target)?.passwords.includes(old)) throw new DriverError("ORA-28008", "invalid old password");
          setPassword(target, password);
        });
      },
      async close() {
        sessions.delete(id);
      },
    };
  }

  function setPassword(user: string, password: string): void {
    const entry = users.get(user);
    if (!entry) throw new DriverError("ORA-01918", "user does not exist");
    if (password.length > 30) throw new DriverError("ORA-00972", "identifier is too long");
    if (password.length < 8) throw new DriverError("ORA-28003", "password verification for the specified password failed");
    if (entry.used.includes(password)) throw new DriverError("ORA-28007", "the password cannot be reused");
    entry.used.push(password);
    const oldest = entry.passwords.at(-1) ?? "";
    Object.assign(entry, { passwords: entry.rolloverDays > 0 ? [password, oldest] : [password], failures: 0, expired: false });
  }

  interface Asker {
    readonly id: number;
    readonly user: string;
  }

  const isDba = ({ user }: Asker) => users.get(user)?.roles.has("DBA") ?? false;
  const yes = (value: boolean) => (value ? "YES" : "NO");
  const status = ({ locked, expired }: OracleUser) => (locked ? "LOCKED" : expired ? "EXPIRED" : "OPEN");

  /** What each view shows of a user. */
  const views: readonly (readonly [RegExp, (user: OracleUser) => Row[]])[] = [
    [
      /from dba_users /,
      (user) => [
        { status: status(user), authentication: "PASSWORD", tablespace: "USERS", temporary: "TEMP", profile: user.profile },
      ],
    ],
    [
      /from dba_role_privs .* and default_role = 'NO'/,
      ({ roles }) => [...roles].filter(([, { byDefault }]) => !byDefault).map(([role]) => ({ role })),
    ],
    [/from dba_role_privs /, ({ roles }) => [...roles].map(([role, { admin }]) => ({ role, admin: yes(admin) }))],
    [/from dba_sys_privs /, ({ system }) => [...system].map(([privilege, admin]) => ({ privilege, admin: yes(admin) }))],
    [/from dba_ts_quotas /, ({ quotas }) => [...quotas].map(([tablespace, bytes]) => ({ tablespace, bytes }))],
    [/from dba_tab_privs /, ({ objects }) => objects.map((row) => ({ ...row, grantable: yes(row.grantable) }))],
  ];

  /** Statements that only somebody with rights may run, as Rekey writes them. */
  const statements: readonly (readonly [RegExp, (match: RegExpExecArray) => void])[] = [
    [/^alter system disconnect session '(\d+),/, ([, id]) => end(Number(id))],
    [new RegExp(`^alter user ${name} identified by ${name}$`), ([, user = "", password = ""]) => setPassword(user, password)],
    [
      new RegExp(`^create user ${name} identified by ${name} default tablespace .* profile ${name}$`),
      ([, user = "", password = "", profile = ""]) => {
        if (users.has(user)) throw new DriverError("ORA-01920", "user name conflicts with another user or role name");
        addUser(user, password, { profile, system: new Map() });
      },
    ],
    [new RegExp(`^alter user ${name} default role all except ${name}$`), ([, user = "", role = ""]) => byAsking(user, role)],
    [
      new RegExp(`^alter user ${name} quota (\\S+) on ${name}$`),
      ([, user = "", bytes, tablespace = ""]) => {
        users.get(user)?.quotas.set(tablespace, bytes === "unlimited" ? -1 : Number(bytes));
      },
    ],
    [
      new RegExp(`^grant (\\w+)(?: \\(${name}\\))? on (directory )?(?:${name}\\.)?${name} to ${name}( with grant option)?$`),
      ([, privilege = "", column = null, directory, owner = "SYS", object = "", user = "", option]) => {
        const type = directory ? "DIRECTORY" : "TABLE";
        users.get(user)?.objects.push({ owner, object, type, column, privilege, grantable: option !== undefined });
      },
    ],
    [
      new RegExp(`^grant ${name} to ${name}( with admin option)?$`),
      ([, role = "", user = "", option]) => {
        users.get(user)?.roles.set(role, { admin: option !== undefined, byDefault: true });
      },
    ],
    [
      new RegExp(`^grant ([A-Z ]+) to ${name}( with admin option)?$`),
      ([, privilege = "", user = "", option]) => {
        users.get(user)?.system.set(privilege, option !== undefined);
      },
    ],
  ];

  function byAsking(user: string, role: string): void {
    const held = users.get(user)?.roles.get(role);
    if (held) held.byDefault = false;
  }

  function end(id: number): void {
    const session = sessions.get(id);
    if (session) session.ended = true;
    sessions.delete(id);
  }

  function execute(asker: Asker, text: string, binds: Record<string, unknown>): Row[] {
    const rows = asAnybody(asker, text);
    if (rows) return rows;
    if (!isDba(asker)) throw new DriverError(text.startsWith("select") ? "ORA-00942" : "ORA-01031", text);
    return asDba(asker, text, binds);
  }

  function asAnybody(asker: Asker, text: string): Row[] | undefined {
    if (text === 'select 1 as "one" from dual') return [{ one: 1 }];
    if (/from user_password_limits /.test(text)) return [{ days: String(users.get(asker.user)?.rolloverDays ?? 0) }];
    if (/from session_privs$/.test(text)) return isDba(asker) ? [{ privilege: "CREATE USER" }, { privilege: "ALTER USER" }] : [];
    if (/from all_objects /.test(text)) return [{ objects: 0 }];
    return text === `alter user "${asker.user}" expire password rollover period` ? endRollover(asker.user) : undefined;
  }

  function asDba({ id }: Asker, text: string, binds: Record<string, unknown>): Row[] {
    if (/from v\$session /.test(text)) {
      const mark = String(binds.mark).slice(0, -1);
      const others = [...sessions].filter(([sid, { clientId }]) => sid !== id && clientId.startsWith(mark));
      return others.map(([sid]) => ({ sid, serial: 1 }));
    }
    const view = views.find(([pattern]) => pattern.test(text));
    const shown = users.get(String(binds.name));
    if (view) return shown ? view[1](shown) : [];
    for (const [pattern, run] of statements) {
      const match = pattern.exec(text);
      if (match) {
        run(match);
        return [];
      }
    }
    throw new DriverError("ORA-00900", text);
  }

  function endRollover(user: string): Row[] {
    const entry = users.get(user);
    if (entry) entry.passwords = entry.passwords.slice(0, 1);
    return [];
  }

  return {
    OUT_FORMAT_OBJECT: 4002,
    users,
    clientIds,
    addUser,
    getConnection,
    fail: (next) => {
      fault = next;
    },
    log: () => log.join("\n"),
  };
}
