import { isIP, connect as openSocket, type Socket } from "node:net";
import { type ConnectionOptions, connect as openTls } from "node:tls";
import { Attribute, BerWriter, Change, Client, PasswordPolicyControl, ResultCodeError, SubstringFilter } from "ldapts";
import { RotatorError, UnfitCredential } from "../core/error.ts";
import { readAuthorities } from "./authorities.ts";
import { explain, explainPolicy, isUnfit } from "./ldap-errors.ts";

export interface LdapLogin {
  readonly host: string;
  readonly port: number;
  /** A distinguished name; Active Directory takes `user@domain` as well. */
  readonly username: string;
  /** Never empty: without a password it would be nobody's login, which succeeds. */
  readonly password: string;
  /** `implicit` from the first byte, or by StartTLS. */
  readonly tls: "implicit" | "starttls" | "none";
  /** A file or PEM text; absent: the system's authorities. */
  readonly sslrootcert: string | undefined;
}

/** Values by the attribute's name. */
export type Attributes = Readonly<Record<string, readonly string[]>>;

interface Modification {
  readonly operation: "add" | "delete" | "replace";
  readonly attribute: string;
  readonly values: readonly string[];
}

interface Query {
  readonly base: string;
  readonly scope: "base" | "sub";
  /** What the attribute's value begins with. */
  readonly beginning?: { readonly attribute: string; readonly value: string };
  readonly attributes: readonly string[];
}

interface Entry {
  readonly dn: string;
  /** Of those asked for, as the entry has them. */
  values(attribute: string): readonly string[];
}

export interface Session {
  add(dn: string, attributes: Attributes): Promise<void>;
  modify(dn: string, modifications: readonly Modification[]): Promise<void>;
  remove(dn: string): Promise<void>;
  /** In pages, so that the server's limit of one answer does not cut it. */
  search(query: Query): Promise<readonly Entry[]>;
  /** Whether an entry has a value of an attribute, by the attribute's own rule of equality. */
  compare(dn: string, attribute: string, value: string): Promise<boolean>;
  /** Of the server itself: OIDs of the extended operations that it knows. */
  extensions(): Promise<readonly string[]>;
  /** RFC 3062; without `old` it takes the right to set anybody's. */
  modifyPassword(dn: string, password: string, old?: string): Promise<void>;
  /** Active Directory's way; without `old` it takes the right to reset. */
  modifyUnicodePwd(dn: string, password: string, old?: string): Promise<void>;
}

/** Of all answers of a session. */
const maxAnswerBytes = 1024 * 1024;

export const passwordModifyOid = "1.3.6.1.4.1.4203.1.11.1";

/**
 * Logs in, works, hangs up. A password that nobody has must be refused in between, and the right one accepted again, so that
 * the refused one does not stay in the account's count of failures.
 * @throws RotatorError of the class that the failure means; `invalid` when the server takes any password.
 */
export async function withSession<T>(login: LdapLogin, deadlineAt: number, work: (session: Session) => Promise<T>): Promise<T> {
  const tls = login.tls === "none" ? undefined : await tlsOptions(login);
  await using connection = await connect(login, tls, deadlineAt);
  await connection.bind(login.password);
  const wrong = await connection.bind(`not-the-password-${crypto.randomUUID()}`).then(
    () => undefined,
    (error: unknown) => (error instanceof RotatorError ? error : Promise.reject(error)),
  );
  if (!wrong) throw new RotatorError("invalid", `${login.host}:${login.port} accepts any password for ${login.username}`);
  if (wrong.outcome === "locked") {
    throw new RotatorError("locked", `${login.username}: one wrong password locks it: let its policy forgive a few`);
  }
  if (wrong.outcome !== "refused") throw wrong;
  await connection.bind(login.password);
  return await work(connection);
}

/** The same without that proof, for work on other entries. @throws RotatorError */
export async function withUnprovenSession<T>(
  login: LdapLogin,
  deadlineAt: number,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const tls = login.tls === "none" ? undefined : await tlsOptions(login);
  await using connection = await connect(login, tls, deadlineAt);
  await connection.bind(login.password);
  return await work(connection);
}

interface Connection extends Session, AsyncDisposable {
  bind(password: string): Promise<void>;
}

async function connect(login: LdapLogin, tls: ConnectionOptions | undefined, deadlineAt: number): Promise<Connection> {
  const { host, port, username } = login;
  if (deadlineAt <= Date.now())
    throw new RotatorError("timeout", `${username} at ${host}:${port}: the time was over before it began`);
  let changing = false;
  let late = false;
  let socket: Socket | undefined;
  // The client would connect anew by itself, and go on as nobody.
  const once = <S extends Socket>(opened: () => S): S => {
    if (socket) throw new Error("the connection has ended");
    const made = bounded(opened());
    socket = made;
    return made;
  };
  const client = new Client({
    url: login.tls === "implicit" ? "ldaps://target" : "ldap://target",
    createConnection: () => once(() => openSocket({ host, port })),
    createSecureConnection: ((options: ConnectionOptions) =>
      login.tls === "implicit" ? once(() => openTls({ ...tls, host, port })) : bounded(openTls(options))) as typeof openTls,
  });
  const interrupted = Promise.withResolvers<never>();
  interrupted.promise.catch(() => undefined);
  const timer = setTimeout(
    () => {
      late = true;
      interrupted.reject(new Error("deadline"));
      socket?.destroy();
    },
    Math.max(0, deadlineAt - Date.now()),
  );
  const close = async (): Promise<void> => {
    clearTimeout(timer);
    client.unbind().catch(() => undefined);
    socket?.destroySoon();
  };
  const answered = async <R>(call: () => Promise<R>, control?: PasswordPolicyControl): Promise<R> => {
    try {
      const answer = call();
      answer.catch(() => undefined);
      return await Promise.race([answer, interrupted.promise]);
    } catch (error) {
      const { outcome, text } = explain(error, { changing, late, policy: control?.value?.error });
      const kind = changing && isUnfit(error, control?.value?.error) ? UnfitCredential : RotatorError;
      throw new kind(outcome, `${username} at ${host}:${port}: ${text}`, { cause: withoutText(error) });
    }
  };
  const change = async (call: (control: PasswordPolicyControl) => Promise<unknown>): Promise<void> => {
    changing = true;
    const control = new PasswordPolicyControl();
    await answered(() => call(control), control);
  };
  try {
    if (tls && login.tls === "starttls") await answered(() => client.startTLS({ ...tls, host }).catch(noStartTls));
    return {
      async bind(password) {
        const control = new PasswordPolicyControl();
        await answered(() => client.bind(username, password, control), control);
        const objection = explainPolicy(control.value?.error);
        if (objection) throw new RotatorError(objection.outcome, `${username} at ${host}:${port}: ${objection.text}`);
      },
      add: (dn, attributes) => change((control) => client.add(dn, attributesOf(attributes), control)),
      modify: (dn, modifications) => change((control) => client.modify(dn, modifications.map(changeOf), control)),
      remove: (dn) => change((control) => client.del(dn, control)),
      async search({ base, scope, beginning, attributes }) {
        const filter = beginning && new SubstringFilter({ attribute: beginning.attribute, initial: beginning.value });
        const options = { scope, paged: { pageSize: 500 }, attributes: [...attributes], ...(filter && { filter }) };
        const found = await answered(() => client.search(base, options));
        return found.searchEntries.map((entry) => ({
          dn: entry.dn,
          values: (name) => [entry[name] ?? []].flat().map(String),
        }));
      },
      compare: (dn, attribute, value) => answered(() => client.compare(dn, attribute, value)),
      async extensions() {
        const found = await answered(() => client.search("", { scope: "base", attributes: ["supportedExtension"] }));
        return [found.searchEntries[0]?.supportedExtension ?? []].flat().map(String);
      },
      modifyPassword: (dn, password, old) =>
        change((control) => client.exop(passwordModifyOid, passwordModifyValue(dn, password, old), control)),
      modifyUnicodePwd: (dn, password, old) => change((control) => client.modify(dn, unicodePwdChanges(password, old), control)),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

const attributesOf = (attributes: Attributes): Attribute[] =>
  Object.entries(attributes).map(([type, values]) => new Attribute({ type, values: [...values] }));

const changeOf = ({ operation, attribute, values }: Modification): Change =>
  new Change({ operation, modification: new Attribute({ type: attribute, values: [...values] }) });

/** Whoever writes a secret chooses the server: what it says is not kept without end. */
function bounded<S extends Socket>(socket: S): S {
  return socket.on("data", () => {
    if (socket.bytesRead > maxAnswerBytes) socket.destroy(new Error("the server says too much"));
  });
}

/** Source: RFC 3062, section 2, `PasswdModifyRequestValue`. */
function passwordModifyValue(dn: string, password: string, old: string | undefined): Buffer {
  const writer = new BerWriter();
  writer.startSequence();
  writer.writeString(dn, 0x80);
  if (old !== undefined) writer.writeString(old, 0x81);
  writer.writeString(password, 0x82);
  writer.endSequence();
  return writer.buffer;
}

/** A change by the user deletes the old value and adds the new one; a reset replaces it. Source: MS-ADTS, section 3.1.1.3.1.5.1. */
function unicodePwdChanges(password: string, old: string | undefined): Change[] {
  const one = (operation: "add" | "delete" | "replace", value: string) =>
    new Change({
      operation,
      modification: new Attribute({ type: "unicodePwd", values: [Buffer.from(`"${value}"`, "utf16le")] }),
    });
  return old === undefined ? [one("replace", password)] : [one("delete", old), one("add", password)];
}

async function tlsOptions({ host, sslrootcert }: LdapLogin): Promise<ConnectionOptions> {
  const verified = { rejectUnauthorized: true, ...(isIP(host) ? {} : { servername: host }) };
  return sslrootcert === undefined ? verified : { ...verified, ca: await readAuthorities(sslrootcert) };
}

/** A server that says no to StartTLS has no TLS: nothing else was asked. */
function noStartTls(error: unknown): never {
  throw error instanceof ResultCodeError
    ? Object.assign(new Error("the server refuses StartTLS"), { code: "ERR_TLS_REFUSED" })
    : error;
}

/** Without what the server says, which may quote what it was sent. */
function withoutText(error: unknown): Error {
  if (error instanceof ResultCodeError) return Object.assign(new Error(`LDAP result ${error.code}`), { result: error.code });
  return error instanceof Error ? error : new Error("no error");
}

/** Whether the server answered with this result code. */
export const isResult = (error: unknown, code: number): boolean =>
  error instanceof RotatorError && error.cause instanceof Error && "result" in error.cause && error.cause.result === code;
