// A wire fake of MySQL 8: speaks its protocol on loopback, keeps accounts with two passwords, and really checks them. It is no
// MySQL: it understands the statements about accounts that Rekey sends, as the manual describes them, and nothing else.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createSecureContext } from "node:tls";
import { Accounts, Refusal, type Rules, type User } from "./mysql-wire-accounts.ts";
import { type Plugin, prove } from "./mysql-wire-auth.ts";
import { Cursor, errorPacket, flags, Gone, greetingPacket, okPacket, Packets, tablePackets } from "./mysql-wire-packets.ts";
import { type Caller, run } from "./mysql-wire-statements.ts";

export interface MySqlWireOptions extends Partial<Rules> {
  readonly version?: string;
  /** Offers TLS with this certificate and key, in PEM. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Takes any password, as with `--skip-grant-tables`. */
  readonly trusting?: boolean;
}

/** What happens to a statement: the connection ends before it is done, or after it was and before the answer. */
type Fault = "before" | "after" | undefined;

export interface MySqlWire extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Of the superuser. */
  readonly user: string;
  readonly password: string;
  readonly accounts: Accounts;
  readonly plugin: Plugin;
  /** Every statement as MySQL's general log shows it: without the passwords in statements about users. */
  log(): string;
  /** Asked for each statement. */
  fault: (statement: string) => Fault;
  stop(): Promise<void>;
}

interface Session {
  readonly id: number;
  readonly packets: Packets;
  self: User;
  locks: Set<string>;
}

const hidden = (text: string): string =>
  /^(create|alter) user/i.test(text) ? text.replace(/(identified by|replace) '(?:[^'\\]|\\.|'')*'/gi, "$1 <secret>") : text;

const checkedOf = ({ plugin, primary, secondary, known }: User) => ({
  plugin,
  stored: secondary ? [primary, secondary] : [primary],
  known,
});

export async function startMySqlWire(options: MySqlWireOptions = {}): Promise<MySqlWire> {
  const { version = "8.4.3", plugin = "caching_sha2_password", tls, trusting = false } = options;
  const accounts = new Accounts({
    plugin,
    validatePassword: options.validatePassword ?? false,
    passwordHistory: options.passwordHistory ?? 0,
  });
  const password = `${randomBytes(18).toString("base64url")}aA1-`;
  accounts.add("root", "%", password).grants.set("ALL PRIVILEGES ON *.*", true);
  const secureContext = tls && createSecureContext(tls);
  const lines: string[] = [];
  const sessions = new Set<Session>();
  const sockets = new Set<Socket>();
  let lastId = 0;

  const logIn = async (packets: Packets, user: string): Promise<User | undefined> => {
    const account = accounts.match(user);
    const proven = await prove(packets, account ? checkedOf(account) : { plugin, stored: [], known: [] });
    if (trusting) return account ?? accounts.match("root");
    if (!account || !proven) packets.write(errorPacket(1045, "Access denied (using password: YES)", "28000"));
    else if (account.locked) packets.write(errorPacket(3118, "Account is locked."));
    else if (account.expired) packets.write(errorPacket(1862, "Your password has expired."));
    else return account;
    return undefined;
  };

  const greet = async (packets: Packets, id: number): Promise<User | undefined> => {
    packets.sequence = 0;
    packets.write(greetingPacket(version, id, Buffer.alloc(20, 65), plugin, secureContext !== undefined));
    let hello = new Cursor(await packets.read());
    const given = hello.number(4);
    if (given & flags.ssl && secureContext) {
      packets.secure(secureContext);
      hello = new Cursor(await packets.read());
      hello.number(4);
    }
    hello.bytes(28);
    return logIn(packets, hello.text());
  };

  const callerOf = (session: Session): Caller => ({
    self: session.self,
    version,
    kill(id) {
      const other = [...sessions].find((one) => one.id === id);
      if (!other) throw new Refusal(1094, `Unknown thread id: ${id}`);
      if (other.self !== session.self && !accounts.may(session.self, "CONNECTION_ADMIN"))
        throw new Refusal(1095, `You are not owner of thread ${id}`);
      other.packets.cut();
    },
    sessions: () => [...sessions].map(({ id, self }) => ({ id, user: self.user })),
    holderOf: (name) => [...sessions].find(({ locks }) => locks.has(name))?.id ?? null,
    async getLock(name, seconds) {
      const until = Date.now() + seconds * 1_000;
      const taken = () => [...sessions].some((one) => one !== session && !one.packets.isGone && one.locks.has(name));
      while (taken() && Date.now() < until) await sleep(10);
      if (!taken()) session.locks.add(name);
      return session.locks.has(name);
    },
  });

  const query = async (session: Session, text: string): Promise<void> => {
    lines.push(hidden(text));
    const fault = wire.fault(text);
    if (fault === "before") return session.packets.cut();
    const answer = await run(text, accounts, callerOf(session)).catch((error: unknown) => {
      if (error instanceof Refusal) return error;
      throw error;
    });
    if (fault === "after") return session.packets.cut();
    if (answer instanceof Refusal) session.packets.write(errorPacket(answer.number, answer.message));
    else if (answer) session.packets.write(...tablePackets(answer.columns, answer.rows));
    else session.packets.write(okPacket());
  };

  /** One command; false when the session ends. */
  const command = async (session: Session): Promise<boolean> => {
    const packet = await session.packets.read();
    if (packet[0] === 3) await query(session, packet.toString("utf8", 1));
    else if (packet[0] === 17) {
      session.locks.clear();
      const self = await logIn(session.packets, new Cursor(packet.subarray(1)).text());
      if (!self) return false;
      session.self = self;
      session.packets.write(okPacket());
    } else return false;
    return true;
  };

  const serve = async (socket: Socket): Promise<void> => {
    const packets = new Packets(socket);
    const id = ++lastId;
    const self = await greet(packets, id);
    if (!self) return packets.end();
    packets.write(okPacket());
    const session: Session = { id, packets, self, locks: new Set() };
    sessions.add(session);
    try {
      while (await command(session));
    } finally {
      sessions.delete(session);
      packets.end();
    }
  };

  const listening = createServer((socket) => {
    sockets.add(
      socket
        .setNoDelay(true)
        .on("close", () => sockets.delete(socket))
        .on("error", () => undefined),
    );
    serve(socket).catch((error: unknown) => {
      socket.destroy();
      if (!(error instanceof Gone)) console.error(error);
    });
  });
  listening.listen(0, "127.0.0.1");
  await once(listening, "listening");
  const stop = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    if (!listening.listening) return;
    listening.close();
    await once(listening, "close");
  };
  const wire: MySqlWire = {
    host: "127.0.0.1",
    port: (listening.address() as { port: number }).port,
    user: "root",
    password,
    accounts,
    plugin,
    log: () => lines.join("\n"),
    fault: () => undefined,
    stop,
    [Symbol.asyncDispose]: stop,
  };
  return wire;
}
