// What the wire fake of SQL Server knows: logins, databases, users, roles, permissions; and the statements that it understands.
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

export type Row = Record<string, string | number | null>;

/** An error number of SQL Server. */
export class SqlError extends Error {
  readonly number: number;
  constructor(number: number, message: string) {
    super(message);
    this.number = number;
  }
}

interface Permission {
  readonly state: string;
  readonly permission: string;
  readonly class: string;
  readonly schema?: string;
  readonly object?: string;
  readonly column?: string;
}

interface Grantee {
  readonly roles: Set<string>;
  readonly permissions: Permission[];
}

interface LoginEntry extends Grantee {
  password: string;
  readonly used: string[];
  disabled: boolean;
  mustChange: boolean;
  failures: number;
  readonly database: string;
  readonly policy: boolean;
}

interface UserEntry extends Grantee {
  /** Absent: a user of a contained database, with its own password. */
  readonly login?: string;
  password?: string;
  readonly schema: string;
}

export interface CatalogOptions {
  /** Failed logins until an account is locked. */
  readonly lockAfter?: number;
}

export interface Session {
  run(text: string): Promise<Row[]>;
  end(): void;
}

export interface Catalog {
  readonly logins: Map<string, LoginEntry>;
  readonly databases: Map<string, Map<string, UserEntry>>;
  addLogin(name: string, password: string, options?: Partial<LoginEntry>): LoginEntry;
  logIn(
    login: { username: string; password: string; appName: string; database: string },
    any: boolean,
    close: () => void,
  ): Session;
  /** Statements wait until it is called off. */
  hold(): () => void;
  log(): string;
}

const lit = "N'((?:[^']|'')*)'";
const name = "\\[((?:[^\\]]|\\]\\])*)\\]";
const unquoted = (text = "") => text.replaceAll("''", "'");
const unbracketed = (text = "") => text.replaceAll("]]", "]");
const objectOf = (schema?: string, object?: string, column?: string) => ({
  class: "OBJECT_OR_COLUMN",
  schema: unbracketed(schema),
  object: unbracketed(object),
  ...(column ? { column: unbracketed(column) } : {}),
});
const connect = (permission: string, kind: string): Permission => ({ state: "GRANT", permission, class: kind });

export function createCatalog({ lockAfter = Number.POSITIVE_INFINITY }: CatalogOptions): Catalog {
  const logins = new Map<string, LoginEntry>();
  const databases = new Map<string, Map<string, UserEntry>>([["master", new Map()]]);
  const sessions = new Map<number, { program: string; close: () => void; locks: Set<string> }>();
  const log: string[] = [];
  let lastSession = 50;
  let held: PromiseWithResolvers<void> | undefined;

  function addLogin(login: string, password: string, options: Partial<LoginEntry> = {}): LoginEntry {
    const permissions = [connect("CONNECT SQL", "SERVER")];
    const state = { disabled: false, mustChange: false, failures: 0, database: "master", policy: true };
    const entry = { roles: new Set<string>(), permissions, used: [password], ...state, ...options, password };
    logins.set(login, entry);
    return entry;
  }

  function checkLogin(entry: LoginEntry, password: string): void {
    if (entry.failures >= lockAfter) throw new SqlError(18_486, "the account is currently locked out");
    if (entry.password !== password) {
      entry.failures++;
      throw new SqlError(18_456, "Login failed");
    }
    entry.failures = 0;
    if (entry.disabled) throw new SqlError(18_470, "the account is disabled");
    if (entry.mustChange) throw new SqlError(18_488, "the password must be changed");
  }

  /** Users that keep their own passwords come before logins, as in a contained database. */
  function authenticate({ username, password, database }: { username: string; password: string; database: string }): void {
    const user = databases.get(database)?.get(username);
    if (user?.password !== undefined) {
      if (user.password !== password) throw new SqlError(18_456, "Login failed");
      return;
    }
    const entry = logins.get(username);
    if (!entry) throw new SqlError(18_456, "Login failed");
    checkLogin(entry, password);
  }

  function logIn(...[login, any, close]: Parameters<Catalog["logIn"]>): Session {
    if (!any) authenticate(login);
    const database = login.database || "master";
    if (!databases.has(database)) throw new SqlError(4060, "Cannot open database");
    const id = ++lastSession;
    sessions.set(id, { program: login.appName, close, locks: new Set() });
    const state: State = { id, username: login.username, database };
    return { run: (text) => run(state, text), end: () => sessions.delete(id) };
  }

  interface State {
    readonly id: number;
    readonly username: string;
    database: string;
  }

  const isAdmin = ({ username }: State) => logins.get(username)?.roles.has("sysadmin") ?? false;

  function mayChange(state: State, target: string, old: string | undefined, inForce: string): void {
    if (isAdmin(state)) return;
    if (state.username === target && old === inForce) return;
    throw new SqlError(15_151, "Cannot alter the login, because it does not exist or you do not have permission");
  }

  function mustBeAdmin(state: State): void {
    if (!isAdmin(state)) throw new SqlError(15_247, "User does not have permission to perform this action");
  }

  function checkPolicy(password: string): void {
    if (password.length > 128) throw new SqlError(15_117, "the password is too long");
    if (password.length < 8) throw new SqlError(15_116, "the password is too short");
  }

  function alterLogin(state: State, login: string, password: string, old: string | undefined): void {
    const entry = logins.get(login);
    if (!entry) throw new SqlError(15_151, "Cannot alter the login");
    mayChange(state, login, old, entry.password);
    if (entry.policy) checkPolicy(password);
    if (entry.policy && entry.used.includes(password)) throw new SqlError(15_115, "the password was used before");
    entry.used.push(password);
    Object.assign(entry, { password, failures: 0 });
  }

  function usersOf(database = ""): Map<string, UserEntry> {
    const users = databases.get(database);
    if (!users) throw new SqlError(911, "Database does not exist");
    return users;
  }

  const userOf = (database: string | undefined, user: string): UserEntry | undefined => usersOf(database).get(user);
  const permissionRows = (entry: Grantee | undefined): Row[] =>
    (entry?.permissions ?? []).map((row) => ({ schema: null, object: null, column: null, ...row }));
  const roleRows = (entry: Grantee | undefined): Row[] => [...(entry?.roles ?? [])].map((role) => ({ role }));

  function grant(state: State, match: RegExpExecArray): Row[] {
    const [, verb = "", permission = "", schemaOnly, schema, object, column, to, option] = match;
    mustBeAdmin(state);
    const grantee = userOf(state.database, unbracketed(to)) ?? logins.get(unbracketed(to));
    if (!grantee) throw new SqlError(15_151, "Cannot find the user");
    const given = option ? "GRANT_WITH_GRANT_OPTION" : verb.toUpperCase();
    const whole = { class: /SERVER|ANY|CONNECT SQL/.test(permission) ? "SERVER" : "DATABASE" };
    const on = schemaOnly
      ? { class: "SCHEMA", schema: unbracketed(schemaOnly) }
      : object
        ? objectOf(schema, object, column)
        : whole;
    const entry: Permission = { state: given, permission, ...on };
    if (!grantee.permissions.some((held) => isDeepStrictEqual(held, entry))) grantee.permissions.push(entry);
    return [];
  }

  function createLogin(state: State, [, login, password, database]: RegExpExecArray): Row[] {
    mustBeAdmin(state);
    if (logins.has(unbracketed(login))) throw new SqlError(15_025, "The server principal already exists");
    checkPolicy(unquoted(password));
    addLogin(unbracketed(login), unquoted(password), { database: unbracketed(database) });
    return [];
  }

  function createUser(state: State, user: string, entry: Partial<UserEntry>): Row[] {
    mustBeAdmin(state);
    if (userOf(state.database, user)) throw new SqlError(15_023, "User already exists in current database");
    const permissions = [connect("CONNECT", "DATABASE")];
    usersOf(state.database).set(user, { roles: new Set(), permissions, schema: "dbo", ...entry });
    return [];
  }

  function getLock(state: State, resource: string): Row[] {
    const taken = [...sessions].some(([id, { locks }]) => id !== state.id && locks.has(resource));
    if (!taken) sessions.get(state.id)?.locks.add(resource);
    return [{ held: taken ? -1 : 0 }];
  }

  function end(state: State, id: number): Row[] {
    mustBeAdmin(state);
    sessions.get(id)?.close();
    sessions.delete(id);
    return [];
  }

  /** Each statement as Rekey writes it. Anything else is a syntax error. */
  const statements: readonly (readonly [RegExp, (match: RegExpExecArray, state: State) => Row[]])[] = [
    [/^(set|select 1 as one$)/, () => []],
    [
      new RegExp(`^use ${name}; (.*)$`, "s"),
      ([, database, rest = ""], state) => {
        usersOf(unbracketed(database));
        state.database = unbracketed(database);
        return execute(state, rest);
      },
    ],
    [
      /from sys.dm_exec_sessions where program_name like N'([^%]*)%'/,
      ([, mark = ""], state) =>
        [...sessions]
          .filter(([id, { program }]) => isAdmin(state) && id !== state.id && program.startsWith(mark))
          .map(([id]) => ({ id })),
    ],
    [/^kill (\d+)$/, ([, id], state) => end(state, Number(id))],
    [new RegExp(`sp_getapplock @Resource = ${lit}`), ([, resource = ""], state) => getLock(state, resource)],
    [
      new RegExp(`^select name from sys.database_principals where name = ${lit} and authentication_type = 2$`),
      ([, user], state) => (userOf(state.database, unquoted(user))?.password === undefined ? [] : [{ name: unquoted(user) }]),
    ],
    [
      new RegExp(`from sys.sql_logins where name = ${lit}$`),
      ([, login]) => {
        const entry = logins.get(unquoted(login));
        if (!entry) return [];
        return [
          {
            disabled: Number(entry.disabled),
            database: entry.database,
            language: "us_english",
            policy: Number(entry.policy),
            expiration: 0,
          },
        ];
      },
    ],
    [/^select db_name\(\) as name$/, (_match, { database }) => [{ name: database }]],
    [
      new RegExp(`^select r.name as role from sys.server_role_members .* suser_id\\(${lit}\\)$`, "s"),
      ([, login]) => roleRows(logins.get(unquoted(login))),
    ],
    [
      new RegExp(`from sys.server_permissions where grantee_principal_id = suser_id\\(${lit}\\)$`),
      ([, login]) => permissionRows(logins.get(unquoted(login))),
    ],
    [/^select name from sys.databases\s/, () => [...databases.keys()].map((database) => ({ name: database }))],
    [
      new RegExp(`^select ${lit} as name where exists`),
      (match) =>
        [
          ...match.input.matchAll(
            new RegExp(
              `select ${lit} as name where exists\\s+\\(select \\* from ${name}.sys.database_principals where sid = suser_sid\\(${lit}\\)\\)`,
              "g",
            ),
          ),
        ]
          .filter(([, , database, login]) =>
            [...usersOf(unbracketed(database)).values()].some((user) => user.login === unquoted(login)),
          )
          .map(([, database]) => ({ name: unquoted(database) })),
    ],
    [
      new RegExp(`as \\[schema\\] from ${name}.sys.database_principals where (sid = suser_sid\\(|name = )${lit}\\)?$`),
      ([, database, by = "", of]) =>
        [...usersOf(unbracketed(database))]
          .filter(([user, { login }]) => (by.startsWith("sid") ? login : user) === unquoted(of))
          .map(([user, { schema }]) => ({ name: user, schema })),
    ],
    [
      new RegExp(`from ${name}.sys.database_role_members .* u.name = ${lit}$`, "s"),
      ([, database, user]) => roleRows(userOf(unbracketed(database), unquoted(user))),
    ],
    [
      new RegExp(`from ${name}.sys.database_permissions .* u.name = ${lit}$`, "s"),
      ([, database, user]) => permissionRows(userOf(unbracketed(database), unquoted(user))),
    ],
    [/^select has_perms_by_name/, (_match, state) => [{ may: Number(isAdmin(state)) }]],
    [
      new RegExp(`^alter login ${name} with password = ${lit}(?: old_password = ${lit})?$`),
      ([, login, password, old], state) => {
        alterLogin(state, unbracketed(login), unquoted(password), old === undefined ? undefined : unquoted(old));
        return [];
      },
    ],
    [
      new RegExp(`^alter user ${name} with password = ${lit}(?: old_password = ${lit})?$`),
      ([, user, password, old], state) => {
        const entry = userOf(state.database, unbracketed(user));
        if (entry?.password === undefined) throw new SqlError(15_151, "Cannot alter the user");
        mayChange(state, unbracketed(user), old === undefined ? undefined : unquoted(old), entry.password);
        entry.password = unquoted(password);
        return [];
      },
    ],
    [
      new RegExp(
        `^create login ${name} with password = ${lit}, default_database = ${name}, default_language = ${name},\\s+check_expiration = off, check_policy = on$`,
      ),
      (match, state) => createLogin(state, match),
    ],
    [
      new RegExp(`^create user ${name} for login ${name}(?: with default_schema = ${name})?$`),
      ([, user, login, schema = "dbo"], state) =>
        createUser(state, unbracketed(user), { login: unbracketed(login), schema: unbracketed(schema) }),
    ],
    [
      new RegExp(`^create user ${name} with password = ${lit}$`),
      ([, user, password], state) => createUser(state, unbracketed(user), { password: unquoted(password) }),
    ],
    [
      new RegExp(`^alter (server )?role ${name} add member ${name}$`),
      ([, server, role, to], state) => {
        mustBeAdmin(state);
        const member = server ? logins.get(unbracketed(to)) : userOf(state.database, unbracketed(to));
        if (!member) throw new SqlError(15_151, "Cannot add the principal");
        member.roles.add(unbracketed(role));
        return [];
      },
    ],
    [
      new RegExp(
        `^(grant|deny|revoke) ([A-Z ]+?)(?: on schema::${name}| on object::${name}\\.${name}(?: \\(${name}\\))?)? (?:to|from) ${name}( with grant option)?$`,
      ),
      (match, state) => grant(state, match),
    ],
  ];

  function execute(state: State, text: string): Row[] {
    for (const [pattern, answer] of statements) {
      const match = pattern.exec(text);
      if (match) return answer(match, state);
    }
    throw new SqlError(102, "Incorrect syntax");
  }

  async function run(state: State, text: string): Promise<Row[]> {
    // As the server does: passwords are not in traces.
    log.push(text.replaceAll(new RegExp(`password = ${lit}`, "g"), "password = ***"));
    if (/\bpassword = /.test(text)) while (held) await Promise.race([held.promise, delay(20)]);
    if (!sessions.has(state.id)) throw new SqlError(596, "the session is in the kill state");
    return execute(state, text);
  }

  return {
    logins,
    databases,
    addLogin,
    logIn,
    hold() {
      held = Promise.withResolvers();
      return () => {
        held?.resolve();
        held = undefined;
      };
    },
    log: () => log.join("\n"),
  };
}
