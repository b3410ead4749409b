// Statements that the wire fake understands: read word by word, so that what differs from MySQL's grammar is a syntax error.
import { type Accounts, Refusal, type User } from "./mysql-wire-accounts.ts";

export interface Answer {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number | null)[])[];
}

/** What a statement may use: who sends it, and what the server does with sessions and their locks. */
export interface Caller {
  /** As whom it is logged in. */
  readonly self: User;
  readonly version: string;
  kill(id: number): void;
  sessions(): readonly { readonly id: number; readonly user: string }[];
  holderOf(name: string): number | null;
  getLock(name: string, seconds: number): Promise<boolean>;
}

interface Word {
  readonly kind: "word" | "text" | "name" | "symbol";
  readonly value: string;
}

const pattern = /\s+|(?<text>'(?:[^'\\]|\\.|'')*')|(?<name>`(?:[^`]|``)*`)|(?<word>[\w$]+)|(?<symbol>->|<>|[^\s\w])/gsy;

function wordsOf(text: string): Word[] {
  return [...text.matchAll(pattern)].flatMap(({ groups = {} }): Word[] => {
    if (groups.text !== undefined) return [{ kind: "text", value: unescaped(groups.text.slice(1, -1)) }];
    if (groups.name !== undefined) return [{ kind: "name", value: groups.name.slice(1, -1).replaceAll("``", "`") }];
    if (groups.word !== undefined) return [{ kind: "word", value: groups.word }];
    return groups.symbol === undefined ? [] : [{ kind: "symbol", value: groups.symbol }];
  });
}

const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", 0: "\0", b: "\b", Z: "\x1a" };
const unescaped = (text: string): string =>
  text.replace(/\\(.)|''/gs, (_, character?: string) => (character === undefined ? "'" : (escapes[character] ?? character)));

class Reader {
  readonly #words: readonly Word[];
  #at = 0;

  constructor(text: string) {
    this.#words = wordsOf(text);
  }

  /** Takes these words, in any case, if they come next. */
  try(...words: string[]): boolean {
    const next = this.#words.slice(this.#at, this.#at + words.length);
    if (
      next.length < words.length ||
      next.some(({ kind, value }, index) => kind === "text" || value.toLowerCase() !== words[index])
    )
      return false;
    this.#at += words.length;
    return true;
  }

  expect(...words: string[]): void {
    if (!this.try(...words)) this.fail();
  }

  fail(): never {
    throw new Refusal(1064, `You have an error in your SQL syntax near '${this.#words[this.#at]?.kind ?? "the end"}'`);
  }

  text(): string {
    const word = this.#words[this.#at];
    if (word?.kind !== "text") this.fail();
    this.#at += 1;
    return word.value;
  }

  name(): string {
    const word = this.#words[this.#at];
    if (!word || word.kind === "symbol") this.fail();
    this.#at += 1;
    return word.value;
  }

  account(): { user: string; host: string } {
    const user = this.name();
    return this.try("@") ? { user, host: this.name() } : { user, host: "%" };
  }

  end(): void {
    if (this.#at < this.#words.length) this.fail();
  }

  /** What is left, as words. */
  rest(): string[] {
    return this.#words.slice(this.#at).map(({ kind, value }) => (kind === "name" ? `\`${value.replaceAll("`", "``")}\`` : value));
  }

  get atEnd(): boolean {
    return this.#at === this.#words.length;
  }
}

const nothing = undefined;
/** Of a server that only has what it must: no settings of plugins, no plugins that look at passwords, no TLS in use. */
const noneOf = (...columns: string[]): Answer => ({ columns, rows: [] });
const one = (column: string, value: string | number | null): Answer => ({ columns: [column], rows: [[value]] });

/** Does what a statement says; `undefined` for those without rows. @throws Refusal */
export async function run(text: string, accounts: Accounts, caller: Caller): Promise<Answer | undefined> {
  const read = new Reader(text);
  if (read.try("set", "session")) return nothing;
  if (read.try("set", "default", "role")) return setDefaultRole(read, accounts, caller);
  if (read.try("drop", "user", "if", "exists")) return dropUser(read, accounts, caller);
  if (read.try("select")) return select(read, accounts, caller);
  if (read.try("kill")) return void caller.kill(Number(read.name()));
  if (read.try("show", "grants")) {
    const shown = read.try("for") ? named(read, accounts, caller) : caller.self;
    return { columns: ["Grants"], rows: accounts.showGrants(shown).map((grant) => [grant]) };
  }
  if (read.try("show", "global", "variables", "where", "variable_name", "in")) return noneOf("Variable_name", "Value");
  if (read.try("show", "session", "status", "like")) return noneOf("Variable_name", "Value");
  if (read.try("show", "create", "user")) return one("CREATE USER", accounts.showCreate(named(read, accounts, caller)));
  if (read.try("create", "user")) return createUser(read, accounts, caller);
  if (read.try("alter", "user")) return alterUser(read, accounts, caller);
  if (read.try("grant")) return grant(read, accounts, caller);
  return read.fail();
}

/** Somebody else's account is shown to who may read the tables that it stands in. */
function named(read: Reader, accounts: Accounts, { self }: Caller): User {
  const { user, host } = read.account();
  if ((user !== self.user || host !== self.host) && !accounts.may(self, "SELECT", "`mysql`.*"))
    throw new Refusal(1044, "Access denied");
  const found = accounts.find(user, host);
  if (!found) throw new Refusal(1141, `There is no such grant defined for user '${user}' on host '${host}'`);
  return found;
}

async function select(read: Reader, accounts: Accounts, caller: Caller): Promise<Answer> {
  const { self } = caller;
  if (read.try("version", "(", ")", "as", "version")) return one("version", caller.version);
  if (read.try("plugin_name", "as", "name", "from", "information_schema", ".", "plugins")) return noneOf("name");
  if (read.try("current_user", "(", ")", "as", "account")) return one("account", `${self.user}@${self.host}`);
  if (read.try("is_used_lock", "(")) return one("holder", caller.holderOf(read.text()));
  if (read.try("get_lock", "(")) {
    const name = read.text();
    read.expect(",");
    return one("held", (await caller.getLock(name, Number(read.name()))) ? 1 : 0);
  }
  if (read.try("host", "as", "host", "from", "mysql", ".", "user", "where", "user", "=")) {
    readsUsers(accounts, self);
    const user = read.text();
    const hosts = accounts.all.filter((row) => row.user === user).map(({ host }) => host);
    return { columns: ["host"], rows: hosts.sort().map((host) => [host]) };
  }
  const listed = selectList(read, accounts, caller);
  if (listed) return listed;
  if (read.try("json_contains_path", "(", "user_attributes", ",")) return secondPassword(read, accounts, self);
  read.expect("1");
  if (read.atEnd) return one("1", 1);
  return marks(read, accounts, self);
}

/** What there is of users, roles and sessions. */
function selectList(read: Reader, accounts: Accounts, { self, sessions }: Caller): Answer | undefined {
  if (read.try("concat")) return noneOf("what"); // nobody defines anything
  if (read.try("role_name", "as", "name", "from", "information_schema", ".", "applicable_roles"))
    return { columns: ["name"], rows: self.roles.map((role) => [role]) };
  if (read.try("id", "as", "id", "from", "information_schema", ".", "processlist", "where", "user", "=")) {
    const user = read.text();
    const seen = accounts.may(self, "PROCESS") ? sessions() : [];
    return { columns: ["id"], rows: seen.filter((session) => session.user === user).map(({ id }) => [id]) };
  }
  if (read.try("user", ",", "host", "from", "mysql", ".", "user", "limit", "1")) {
    readsUsers(accounts, self);
    return noneOf("user", "host");
  }
  if (read.try("user", "as", "name", ",", "host", "as", "handle", "from", "mysql", ".", "user", "where", "host", "<>")) {
    readsUsers(accounts, self);
    read.text();
    read.expect("and", "user", "like");
    const beginning = read.text().replace(/%$/, "").replaceAll("\\_", "_");
    const rows = accounts.all.filter(({ user }) => user.startsWith(beginning));
    return { columns: ["name", "handle"], rows: rows.map(({ user, host }) => [user, host]) };
  }
  return undefined;
}

function readsUsers(accounts: Accounts, self: User): void {
  if (!accounts.may(self, "SELECT", "`mysql`.*")) throw new Refusal(1142, "SELECT command denied to user for table 'user'");
}

function secondPassword(read: Reader, accounts: Accounts, self: User): Answer {
  readsUsers(accounts, self);
  const kind = read.text();
  read.expect(",");
  const path = read.text();
  if (kind !== "one" || path !== "$.additional_password") read.fail();
  read.expect(")", "as", "two", "from", "mysql", ".", "user", "where", "user", "=");
  const user = read.text();
  read.expect("and", "host", "=");
  const found = accounts.find(user, read.text());
  return { columns: ["two"], rows: found ? [[found.secondary ? 1 : 0]] : [] };
}

function marks(read: Reader, accounts: Accounts, self: User): Answer {
  read.expect("from", "information_schema", ".", "user_attributes", "where", "user", "in", "(");
  const users = [read.text()];
  while (read.try(",")) users.push(read.text());
  read.expect(")", "and", "attribute", "->");
  const key = read.text().replace(/^\$\./, "");
  read.expect("=", "true");
  const seen = accounts.all.filter((row) => row === self || accounts.may(self, "SELECT", "`mysql`.*"));
  return {
    columns: ["1"],
    rows: seen.filter(({ user, attribute }) => users.includes(user) && attribute[key] === true).map(() => [1]),
  };
}

function requireCreateUser(accounts: Accounts, self: User): void {
  if (!accounts.may(self, "CREATE USER"))
    throw new Refusal(1227, "Access denied; you need the CREATE USER privilege for this operation");
}

function requireRoleAdmin(accounts: Accounts, self: User): void {
  if (!accounts.may(self, "ROLE_ADMIN")) throw new Refusal(1227, "Access denied; you need the ROLE_ADMIN privilege");
}

function createUser(read: Reader, accounts: Accounts, { self }: Caller): undefined {
  requireCreateUser(accounts, self);
  const { user, host } = read.account();
  read.expect("identified", "by");
  const made = accounts.add(user, host, read.text());
  if (read.try("default", "role")) {
    requireRoleAdmin(accounts, self);
    made.defaultRole = read.account().user;
    made.roles.push(made.defaultRole); // the server grants it by itself
  }
  if (read.try("require")) read.expect("none");
  if (read.try("password", "expire")) made.expired = !read.try("default");
  if (read.try("account", "lock")) made.locked = true;
  else read.try("account", "unlock");
  read.try("password", "history", "default");
  read.try("password", "reuse", "interval", "default");
  if (read.try("password", "require", "current")) made.requireCurrent = !read.try("default");
  if (read.try("attribute")) made.attribute = JSON.parse(read.text()) as Record<string, unknown>;
  read.end();
}

function alterUser(read: Reader, accounts: Accounts, { self }: Caller): undefined {
  const byFunction = read.try("user", "(", ")");
  const asked = byFunction ? self : read.account();
  const byItself = asked.user === self.user && asked.host === self.host;
  if (!byItself) requireCreateUser(accounts, self);
  const account = accounts.require(asked.user, asked.host, "ALTER USER");
  if (read.try("attribute")) {
    requireCreateUser(accounts, self);
    account.attribute = { ...account.attribute, ...(JSON.parse(read.text()) as object) };
    read.end();
    return;
  }
  const requireTwo = () => {
    if (byItself && !["APPLICATION_PASSWORD_ADMIN", "CREATE USER"].some((right) => accounts.may(self, right)))
      throw new Refusal(1227, "Access denied; you need the CREATE USER or APPLICATION_PASSWORD_ADMIN privilege");
  };
  if (read.try("discard", "old", "password")) {
    read.end();
    requireTwo();
    account.secondary = undefined;
    account.known = [];
    return;
  }
  if (read.try("account", "lock")) {
    read.end();
    account.locked = true;
    return;
  }
  read.expect("identified", "by");
  const password = read.text();
  const replace = read.try("replace") ? read.text() : undefined;
  const retain = read.try("retain", "current", "password");
  read.end();
  if (retain) requireTwo();
  accounts.setPassword(account, password, { replace, retain, byItself });
}

/** Source: MySQL manual, SET DEFAULT ROLE: it takes CREATE USER, and a role that was granted. */
function setDefaultRole(read: Reader, accounts: Accounts, { self }: Caller): undefined {
  const role = read.account().user;
  read.expect("to");
  const { user, host } = read.account();
  read.end();
  requireCreateUser(accounts, self);
  const account = accounts.require(user, host, "SET DEFAULT ROLE");
  if (!account.roles.includes(role)) throw new Refusal(3530, `${role} is not granted to ${user}`);
  account.defaultRole = role;
}

/** Sessions go on. Source: MySQL manual, DROP USER. */
function dropUser(read: Reader, accounts: Accounts, { self }: Caller): undefined {
  const { user, host } = read.account();
  read.end();
  requireCreateUser(accounts, self);
  const at = accounts.all.findIndex((one) => one.user === user && one.host === host);
  if (at >= 0) accounts.all.splice(at, 1);
}

function grant(read: Reader, accounts: Accounts, { self }: Caller): undefined {
  const words = read.rest();
  const to = words.findLastIndex((word) => word.toUpperCase() === "TO");
  const on = words.slice(0, Math.max(to, 0)).findLastIndex((word) => word.toUpperCase() === "ON");
  if (to < 0) read.fail();
  const target = accounts.require(words[to + 1] ?? "", words[to + 3] ?? "%", "GRANT");
  const option = words.slice(to + 4).join(" ") === "WITH GRANT OPTION";
  if (on < 0) {
    requireRoleAdmin(accounts, self);
    target.roles.push((words[0] ?? "").replace(/^`|`$/g, ""));
    return;
  }
  const right = words.slice(0, on).join(" ").replaceAll("( ", "(").replaceAll(" )", ")");
  const where = words.slice(on + 1, to).join("");
  const held = [...self.grants].some(
    ([grant, may]) =>
      may && (grant === `${right} ON ${where}` || grant === `${right} ON *.*` || grant === "ALL PRIVILEGES ON *.*"),
  );
  if (!held) throw new Refusal(1045, "Access denied: it may not give on what it lacks");
  target.grants.set(`${right} ON ${where}`, option);
}
