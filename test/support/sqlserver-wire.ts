// A wire fake of SQL Server, for the real driver: TDS with its login, TLS inside of it, errors and rows; what it is asked is
// answered by sqlserver-catalog.ts. Written from MS-TDS; nothing here has been held against a real server.
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { createSecureContext, type SecureContextOptions, TLSSocket } from "node:tls";
import { type Catalog, type CatalogOptions, createCatalog, type Row, type Session, SqlError } from "./sqlserver-catalog.ts";

type Fault = "cut-before" | "cut-after";

export interface SqlServerWire extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly catalog: Catalog;
  /** What the next statement that changes a password meets. */
  fail(fault: Fault): void;
  /** Program names of the sessions that logged in. */
  readonly applications: Set<string>;
}

export interface WireOptions extends CatalogOptions {
  readonly tls?: SecureContextOptions;
  readonly acceptsAnyPassword?: boolean;
}

const packet = { batch: 1, reply: 4, attention: 6, login: 16, prelogin: 18 };

export async function startSqlServerWire(options: WireOptions = {}): Promise<SqlServerWire> {
  const catalog = createCatalog(options);
  const sockets = new Set<Socket>();
  const applications = new Set<string>();
  const secureContext = options.tls && createSecureContext(options.tls);
  let fault: Fault | undefined;

  async function serve(socket: Socket): Promise<void> {
    const link = new Link(socket);
    await link.read();
    link.write(preloginReply(secureContext !== undefined));
    if (secureContext) await link.startTls(secureContext);
    const session = logIn(link, loginOf((await link.read()).body));
    if (!session) return;
    try {
      for (;;) await answer(link, session);
    } finally {
      session.end();
    }
  }

  function logIn(link: Link, login: Login): Session | undefined {
    try {
      const session = catalog.logIn(login, options.acceptsAnyPassword ?? false, () => link.close());
      applications.add(login.appName);
      link.write(loginAck, done(0));
      return session;
    } catch (error) {
      if (!(error instanceof SqlError)) throw error;
      // As the server does: the reason, where it may be told, and then that the login failed.
      const also = error.number === 4060 ? [errorToken(18_456, "Login failed.")] : [];
      link.end(errorToken(error.number, error.message), ...also, done(2));
      return undefined;
    }
  }

  async function answer(link: Link, session: Session): Promise<void> {
    const { type, body } = await link.read();
    if (type !== packet.batch) return link.write(done(0x20));
    const text = body.toString("utf16le", body.readUInt32LE(0));
    const now = faultOf(text);
    if (now === "cut-before") return link.close();
    const reply = await replyTo(session, text);
    if (now === "cut-after") return link.close();
    link.write(...reply);
  }

  function faultOf(text: string): Fault | undefined {
    if (!/\bpassword = /.test(text)) return undefined;
    const now = fault;
    fault = undefined;
    return now;
  }

  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    serve(socket).catch(() => socket.destroy());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: "127.0.0.1",
    port: (server.address() as { port: number }).port,
    catalog,
    applications,
    fail: (next) => {
      fault = next;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function replyTo(session: Session, text: string): Promise<Buffer[]> {
  try {
    const rows = await session.run(text);
    return [...rowTokens(rows), done(rows.length > 0 ? 0x10 : 0, rows.length)];
  } catch (error) {
    if (!(error instanceof SqlError)) throw error;
    // A real server may quote what it was sent: whoever shows its text shows that too.
    return [errorToken(error.number, `${error.message}: ${text}`), done(2)];
  }
}

/** Messages of packets, in clear or within TLS. */
class Link {
  #stream: Duplex;
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #ended = false;
  readonly #take = (chunk: Buffer) => {
    this.#received = Buffer.concat([this.#received, chunk]);
    this.#wake();
  };

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#stream = socket;
    socket.on("data", this.#take);
    socket.on("close", () => {
      this.#ended = true;
      this.#wake();
    });
  }

  async read(): Promise<{ type: number; body: Buffer }> {
    const parts: Buffer[] = [];
    for (;;) {
      while (this.#received.length < 8 || this.#received.length < this.#received.readUInt16BE(2)) {
        if (this.#ended) throw new Error("the client left");
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      const whole = this.#received.subarray(0, this.#received.readUInt16BE(2));
      this.#received = this.#received.subarray(whole.length);
      parts.push(whole.subarray(8));
      if (whole.readUInt8(1) & 1) return { type: whole.readUInt8(0), body: Buffer.concat(parts) };
    }
  }

  write(...tokens: Buffer[]): void {
    for (const one of packets(packet.reply, Buffer.concat(tokens))) this.#stream.write(one);
  }

  end(...tokens: Buffer[]): void {
    this.write(...tokens);
    this.#stream.end();
  }

  close(): void {
    this.#socket.destroy();
  }

  /** The handshake goes in packets of its own; what follows does not. */
  async startTls(secureContext: ReturnType<typeof createSecureContext>): Promise<void> {
    let shaking = true;
    const inner = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, next) => {
        for (const one of shaking ? packets(packet.prelogin, chunk) : [chunk]) this.#socket.write(one);
        next();
      },
    });
    this.#socket.off("data", this.#take);
    let wrapped = this.#received;
    this.#received = Buffer.alloc(0);
    this.#socket.on("data", (chunk: Buffer) => {
      if (chunk.readUInt8(0) !== packet.prelogin && wrapped.length === 0) return inner.push(chunk);
      wrapped = Buffer.concat([wrapped, chunk]);
      while (wrapped.length >= 8 && wrapped.length >= wrapped.readUInt16BE(2)) {
        inner.push(wrapped.subarray(8, wrapped.readUInt16BE(2)));
        wrapped = wrapped.subarray(wrapped.readUInt16BE(2));
      }
    });
    const tls = new TLSSocket(inner, { isServer: true, secureContext });
    tls.on("error", () => this.#socket.destroy());
    tls.on("data", this.#take);
    this.#stream = tls;
    await once(tls, "secure");
    setImmediate(() => {
      shaking = false;
    });
  }
}

function packets(type: number, body: Buffer): Buffer[] {
  const most = 4096 - 8;
  const count = Math.max(1, Math.ceil(body.length / most));
  return Array.from({ length: count }, (_, index) => {
    const part = body.subarray(index * most, (index + 1) * most);
    const header = Buffer.alloc(8);
    header.writeUInt8(type, 0);
    header.writeUInt8(index === count - 1 ? 1 : 0, 1);
    header.writeUInt16BE(part.length + 8, 2);
    header.writeUInt8((index + 1) & 0xff, 6);
    return Buffer.concat([header, part]);
  });
}

/** Version, encryption (on, or not supported), end. */
const preloginReply = (tls: boolean): Buffer =>
  Buffer.from([0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0, 0, 0, 0, tls ? 1 : 2]);

interface Login {
  readonly username: string;
  readonly password: string;
  readonly appName: string;
  readonly database: string;
}

function loginOf(body: Buffer): Login {
  const part = (at: number): Buffer => {
    const start = body.readUInt16LE(at);
    return body.subarray(start, start + body.readUInt16LE(at + 2) * 2);
  };
  const clear = Buffer.from(part(44).map((byte) => (((byte ^ 0xa5) << 4) | ((byte ^ 0xa5) >> 4)) & 0xff));
  const text = (at: number) => part(at).toString("utf16le");
  return { username: text(40), password: clear.toString("utf16le"), appName: text(48), database: text(68) };
}

const short = (text: string): Buffer => Buffer.concat([Buffer.from([text.length]), Buffer.from(text, "utf16le")]);

function token(type: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(3);
  head.writeUInt8(type, 0);
  head.writeUInt16LE(body.length, 1);
  return Buffer.concat([head, body]);
}

const loginAck = token(0xad, Buffer.from([1, 0x74, 0, 0, 4]), short("Fake"), Buffer.from([16, 0, 0, 0]));

function done(status: number, rows = 0): Buffer {
  const body = Buffer.alloc(13);
  body.writeUInt8(0xfd, 0);
  body.writeUInt16LE(status, 1);
  body.writeUInt32LE(rows, 5);
  return body;
}

function errorToken(number: number, message: string): Buffer {
  const text = message.slice(0, 1_000);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(number, 0);
  head.writeUInt8(1, 4);
  head.writeUInt8(14, 5);
  head.writeUInt16LE(text.length, 6);
  return token(0xaa, head, Buffer.from(text, "utf16le"), short("fake"), short(""), Buffer.from([1, 0, 0, 0]));
}

/** All columns are texts. */
function rowTokens(rows: readonly Row[]): Buffer[] {
  const [first] = rows;
  if (!first) return [];
  const names = Object.keys(first);
  const nvarchar = Buffer.from([0, 0, 0, 0, 1, 0, 0xe7, 0xa0, 0x0f, 9, 4, 0xd0, 0, 0x34]);
  const head = Buffer.from([0x81, names.length, 0]);
  const columns = names.map((name) => Buffer.concat([nvarchar, short(name)]));
  return [
    Buffer.concat([head, ...columns]),
    ...rows.map((row) => Buffer.concat([Buffer.from([0xd1]), ...names.map((name) => value(row[name]))])),
  ];
}

function value(data: Row[string] | undefined): Buffer {
  if (data === null || data === undefined) return Buffer.from([0xff, 0xff]);
  const bytes = Buffer.from(String(data), "utf16le");
  const length = Buffer.alloc(2);
  length.writeUInt16LE(bytes.length);
  return Buffer.concat([length, bytes]);
}
