// The accounts of the wire fake: what MySQL 8 keeps of users, and what it answers to statements about them.
import { isPassword, type Plugin, type Stored, store } from "./mysql-wire-auth.ts";

/** An error as the server answers it. Source: MySQL Error Message Reference. */
export class Refusal extends Error {
  readonly number: number;

  constructor(number: number, message: string) {
    super(message);
    this.number = number;
  }
}

export interface User {
  readonly user: string;
  readonly host: string;
  plugin: Plugin;
  primary: Stored;
  secondary: Stored | undefined;
  history: Stored[];
  known: Buffer[];
  locked: boolean;
  expired: boolean;
  attribute: Record<string, unknown>;
  roles: string[];
  defaultRole: string | undefined;
  requireCurrent: boolean;
  /** `SELECT ON *.*`, to whether it may be given on. */
  readonly grants: Map<string, boolean>;
}

export interface Rules {
  readonly plugin: Plugin;
  /** As validate_password's MEDIUM: 8 characters, one of each class. */
  readonly validatePassword: boolean;
  /** How many of the last passwords may not come again. */
  readonly passwordHistory: number;
}

const quoted = (name: string): string => `\`${name.replaceAll("`", "``")}\``;
export const accountText = ({ user, host }: Pick<User, "user" | "host">): string => `${quoted(user)}@${quoted(host)}`;

export class Accounts {
  readonly all: User[] = [];
  readonly #rules: Rules;

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  find(user: string, host: string): User | undefined {
    return this.all.find((one) => one.user === user && one.host === host);
  }

  /** Which account a login is matched to: hosts by name before patterns. */
  match(user: string): User | undefined {
    const order = ["127.0.0.1", "localhost", "%"];
    return this.all
      .filter((one) => one.user === user && order.includes(one.host))
      .sort((a, b) => order.indexOf(a.host) - order.indexOf(b.host))[0];
  }

  require(user: string, host: string, doing: string): User {
    const found = this.find(user, host);
    if (!found) throw new Refusal(1396, `Operation ${doing} failed for '${user}'@'${host}'`);
    return found;
  }

  add(user: string, host: string, password: string, plugin = this.#rules.plugin): User {
    if (user.length > 32) throw new Refusal(1470, `String '${user}' is too long for user name (should be no longer than 32)`);
    if (this.find(user, host)) throw new Refusal(1396, `Operation CREATE USER failed for '${user}'@'${host}'`);
    this.#check(password);
    const primary = store(plugin, password);
    const made: User = {
      user,
      host,
      plugin,
      primary,
      secondary: undefined,
      history: [primary],
      known: [],
      locked: false,
      expired: false,
      attribute: {},
      roles: [],
      defaultRole: undefined,
      requireCurrent: false,
      grants: new Map(),
    };
    this.all.push(made);
    return made;
  }

  #check(password: string): void {
    const medium = [/.{8}/u, /[0-9]/, /[a-z]/, /[A-Z]/, /[^0-9a-zA-Z]/];
    if (this.#rules.validatePassword && !medium.every((rule) => rule.test(password))) {
      throw new Refusal(1819, "Your password does not satisfy the current policy requirements");
    }
  }

  /** In the server's order: the policy, the history, what REPLACE says, what is retained. */
  setPassword(
    one: User,
    password: string,
    { replace, retain, byItself }: { replace?: string | undefined; retain: boolean; byItself: boolean },
  ): void {
    this.#check(password);
    const past = this.#rules.passwordHistory === 0 ? [] : one.history.slice(-this.#rules.passwordHistory);
    if (past.some((old) => isPassword(old, password)))
      throw new Refusal(3638, "Cannot use these credentials: they contradict the password history policy");
    if (replace !== undefined && !byItself)
      throw new Refusal(3893, "Do not specify the current password while changing it for other users");
    if (replace !== undefined && !isPassword(one.primary, replace)) throw new Refusal(3891, "Incorrect current password");
    if (replace === undefined && byItself && one.requireCurrent)
      throw new Refusal(3892, "Current password needs to be specified in the REPLACE clause");
    if (retain) one.secondary = one.primary;
    one.primary = store(one.plugin, password);
    one.history.push(one.primary);
    one.known = [];
    one.expired = false;
  }

  may(one: User, right: string, on = "*.*"): boolean {
    return [...one.grants.keys()].some((grant) => {
      const [, held = "", where = ""] = /^(.*) ON (.*)$/.exec(grant) ?? [];
      return (held === right || held === "ALL PRIVILEGES") && (where === "*.*" || where === on);
    });
  }

  showGrants(one: User): string[] {
    const to = ` TO ${accountText(one)}`;
    const onAll = [...one.grants].filter(([grant]) => grant.endsWith(" ON *.*"));
    const global = onAll.length === 0 ? [`GRANT USAGE ON *.*${to}`] : [];
    const held = [...one.grants].map(([grant, option]) => `GRANT ${grant}${to}${option ? " WITH GRANT OPTION" : ""}`);
    return [...global, ...held, ...one.roles.map((role) => `GRANT ${quoted(role)}@\`%\`${to}`)];
  }

  showCreate(one: User): string {
    const secret = `IDENTIFIED WITH '${one.plugin}' AS 0x${one.primary.digest.toString("hex").toUpperCase()}`;
    const role = one.defaultRole === undefined ? "" : ` DEFAULT ROLE ${quoted(one.defaultRole)}@\`%\``;
    const state = `PASSWORD EXPIRE${one.expired ? "" : " DEFAULT"} ACCOUNT ${one.locked ? "LOCK" : "UNLOCK"}`;
    const rules = "PASSWORD HISTORY DEFAULT PASSWORD REUSE INTERVAL DEFAULT PASSWORD REQUIRE CURRENT DEFAULT";
    const notes =
      Object.keys(one.attribute).length === 0 ? "" : ` ATTRIBUTE '${JSON.stringify(one.attribute).replaceAll(/[\\']/g, "\\$&")}'`;
    return `CREATE USER ${accountText(one)} ${secret}${role} REQUIRE NONE ${state} ${rules}${notes}`;
  }
}
