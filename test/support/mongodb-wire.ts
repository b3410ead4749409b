// A wire fake of a MongoDB server, for the real driver: OP_MSG, SCRAM-SHA-256 checked in full, users, roles, operations.
// Written from MongoDB's documentation; nothing here has been held against a real server.
import { createHash, createHmac, pbkdf2Sync, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { Binary, BSON, type Document } from "mongodb";

interface Verifier {
  readonly salt: string;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export interface WireUser extends Document {
  readonly user: string;
  readonly db: string;
  roles: { role: string; db: string }[];
}

interface Stored extends WireUser {
  verifier: Verifier;
}

interface Operation {
  readonly opid: number;
  readonly appName: string;
  readonly command: Document;
  kill(): void;
}

/** What the next command that changes a user meets: the connection ends before or after the effect, or the command waits. */
type Fault = "cut-before" | "cut-after" | "stall";

const rights: Readonly<Record<string, readonly string[]>> = {
  root: [
    ...["viewUser", "viewRole", "createUser", "dropUser", "grantRole", "changePassword", "setAuthenticationRestriction"],
    ...["inprog", "killop", "killAnySession"],
  ],
  userAdmin: ["viewUser", "viewRole", "createUser", "dropUser", "grantRole", "changePassword"],
  readWrite: ["find"],
  changeOwn: ["changeOwnPassword"],
};

const iterations = 4096;
const hash = (data: Buffer) => createHash("sha256").update(data).digest();
const hmac = (key: Buffer, text: string) => createHmac("sha256", key).update(text).digest();

function verifierOf(password: string): Verifier {
  const salt = randomBytes(28);
  const salted = pbkdf2Sync(password.normalize("NFKC"), salt, iterations, 32, "sha256");
  return { salt: salt.toString("base64"), storedKey: hash(hmac(salted, "Client Key")), serverKey: hmac(salted, "Server Key") };
}

class Refusal extends Error {
  readonly code: number;
  readonly codeName: string;
  constructor(code: number, codeName: string, message: string) {
    super(message);
    this.code = code;
    this.codeName = codeName;
  }
}

interface Client {
  readonly socket: Socket;
  appName: string;
  user: Stored | undefined;
  exchange: { user: Stored | undefined; authMessage: string } | undefined;
}

export interface MongoDbWire extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  addUser(user: WireUser, password: string): void;
  user(db: string, name: string): WireUser | undefined;
  fail(fault: Fault): void;
  /** Whether the user's sessions were ended. */
  wasEnded(db: string, name: string): boolean;
  /** Operations that wait now. */
  readonly stalled: () => number;
  /** Applications that logged in. */
  readonly applications: Set<string>;
  log(): string;
}

export interface WireOptions {
  readonly tls?: TlsOptions;
  /** As started without security.authorization. */
  readonly accessControl?: boolean;
  /** Says yes to every proof, without the key that would let it prove itself. */
  readonly acceptsAnyProof?: boolean;
  readonly primary?: boolean;
  /** A replica set that the server says it is of, and where its primary is. */
  readonly replicaSet?: { readonly name: string; readonly primaryPort: number };
  /** Answers as Amazon DocumentDB does to what it lacks. */
  readonly documentDb?: boolean;
}

export async function startMongoDbWire(options: WireOptions = {}): Promise<MongoDbWire> {
  const users = new Map<string, Stored>();
  const operations = new Map<number, Operation>();
  const sockets = new Set<Socket>();
  const applications = new Set<string>();
  const log: string[] = [];
  const ended: string[] = [];
  let fault: Fault | undefined;
  let lastOpid = 0;
  const keyOf = (db: string, name: string) => JSON.stringify([db, name]);

  function need(client: Client, action: string, on?: string): void {
    if (options.accessControl === false) return;
    if (!client.user) throw new Refusal(13, "Unauthorized", "command requires authentication");
    // A user that was dropped has no rights in sessions that go on.
    const there = users.has(keyOf(client.user.db, client.user.user));
    const held = (there ? client.user.roles : []).flatMap(({ role }) => rights[role] ?? []);
    const own = on === keyOf(client.user.db, client.user.user);
    if (held.includes(action)) return;
    if (own && action === "changePassword" && held.includes("changeOwnPassword")) return;
    if (own && action === "viewUser") return;
    throw new Refusal(13, "Unauthorized", `not authorized to execute command (${action})`);
  }

  function saslStart(client: Client, db: string, { payload, mechanism }: Document): Document {
    if (mechanism !== "SCRAM-SHA-256") throw new Refusal(334, "MechanismUnavailable", "mechanism not enabled");
    const bare = text(payload).slice(3);
    const name = (/^n=([^,]*),/.exec(bare)?.[1] ?? "").replaceAll("=2C", ",").replaceAll("=3D", "=");
    const user = users.get(keyOf(db, name));
    const nonce = `${/r=(.*)$/.exec(bare)?.[1]}${randomBytes(18).toString("base64")}`;
    const salt = user?.verifier.salt ?? randomBytes(28).toString("base64");
    const first = `r=${nonce},s=${salt},i=${iterations}`;
    client.exchange = { user, authMessage: `${bare},${first},c=biws,r=${nonce}` };
    return { conversationId: 1, done: false, payload: new Binary(Buffer.from(first)) };
  }

  function saslContinue(client: Client, { payload }: Document): Document {
    const { user, authMessage } = client.exchange ?? {};
    client.exchange = undefined;
    const proof = Buffer.from(/p=(.*)$/.exec(text(payload))?.[1] ?? "", "base64");
    const refusal = new Refusal(18, "AuthenticationFailed", "Authentication failed.");
    if (options.acceptsAnyProof) {
      return { conversationId: 1, done: true, payload: new Binary(Buffer.from(`v=${randomBytes(32).toString("base64")}`)) };
    }
    if (!user || authMessage === undefined || proof.length !== 32) throw refusal;
    const signature = hmac(user.verifier.storedKey, authMessage);
    const clientKey = Buffer.from(proof.map((byte, index) => byte ^ (signature[index] ?? 0)));
    if (!timingSafeEqual(hash(clientKey), user.verifier.storedKey)) throw refusal;
    client.user = user;
    applications.add(client.appName);
    const v = hmac(user.verifier.serverKey, authMessage).toString("base64");
    return { conversationId: 1, done: true, payload: new Binary(Buffer.from(`v=${v}`)) };
  }

  function hello(client: Client, command: Document): Document {
    if (command.client?.application) client.appName = command.client.application.name;
    const [db = "", name = ""] = String(command.saslSupportedMechs ?? "").split(/\.(.*)/s);
    const mechanisms = users.has(keyOf(db, name)) ? { saslSupportedMechs: ["SCRAM-SHA-256"] } : {};
    const primary = options.primary ?? true;
    const { name: setName, primaryPort } = options.replicaSet ?? {};
    const port = (server.address() as { port: number }).port;
    const me = `127.0.0.1:${port}`;
    const hosts = [me, `127.0.0.1:${primaryPort ?? port}`];
    const set = setName === undefined ? {} : { setName, setVersion: 1, me, hosts, primary: hosts[1], secondary: !primary };
    const limits = { maxBsonObjectSize: 16_777_216, maxMessageSizeBytes: 48_000_000, maxWriteBatchSize: 100_000 };
    return {
      helloOk: true,
      ismaster: primary,
      isWritablePrimary: primary,
      minWireVersion: 0,
      maxWireVersion: 21,
      ...limits,
      ...mechanisms,
      ...set,
    };
  }

  function found(db: string, name: string): Stored {
    const user = users.get(keyOf(db, name));
    if (!user) throw new Refusal(11, "UserNotFound", `User ${name}@${db} not found`);
    return user;
  }

  /** Runs under the faults and for as long as maxTimeMS allows. */
  async function change(client: Client, command: Document, effect: () => void): Promise<Document> {
    if (options.primary === false) throw new Refusal(10107, "NotWritablePrimary", "not primary");
    const now = fault;
    fault = undefined;
    log.push(JSON.stringify({ command: { ...command, pwd: "xxx" }, appName: client.appName }));
    if (now === "cut-before") return cut(client);
    if (now === "stall") await stall(client, command);
    effect();
    return now === "cut-after" ? cut(client) : {};
  }

  async function stall(client: Client, command: Document): Promise<void> {
    const opid = ++lastOpid;
    const waiting = Promise.withResolvers<void>();
    const end = (code: number, name: string) => waiting.reject(new Refusal(code, name, "operation was interrupted"));
    const timer = setTimeout(() => end(50, "MaxTimeMSExpired"), command.maxTimeMS ?? 1_000_000);
    operations.set(opid, { opid, appName: client.appName, command, kill: () => end(11_601, "Interrupted") });
    await waiting.promise.finally(() => {
      clearTimeout(timer);
      operations.delete(opid);
    });
  }

  const commands: Readonly<Record<string, (client: Client, db: string, command: Document) => Document | Promise<Document>>> = {
    hello: (client, _db, command) => hello(client, command),
    ismaster: (client, _db, command) => hello(client, command),
    isMaster: (client, _db, command) => hello(client, command),
    ping: () => ({}),
    saslStart,
    saslContinue: (client, _db, command) => saslContinue(client, command),
    usersInfo(client, db, { usersInfo, showAuthenticationRestrictions, filter }) {
      if (options.documentDb && (showAuthenticationRestrictions || filter))
        throw new Refusal(9, "FailedToParse", "unknown field");
      if (usersInfo === 1) {
        need(client, "viewUser");
        const wanted = new RegExp(filter?.user.$regex ?? "");
        const all = [...users.values()].filter((user) => user.db === db && wanted.test(user.user));
        return { users: all.map((user) => ({ ...user, verifier: undefined })) };
      }
      const named = typeof usersInfo === "string" ? { user: usersInfo, db } : usersInfo;
      need(client, "viewUser", keyOf(named.db, named.user));
      const user = users.get(keyOf(named.db, named.user));
      return { users: user ? [{ ...user, verifier: undefined }] : [] };
    },
    createUser(client, db, command) {
      need(client, "createUser");
      const { createUser: name, pwd, roles = [], customData, authenticationRestrictions } = command;
      if (users.has(keyOf(db, name))) throw new Refusal(51_003, "Location51003", `User "${name}@${db}" already exists`);
      return change(client, command, () => addUser({ user: name, db, roles, customData, authenticationRestrictions }, pwd));
    },
    updateUser(client, db, command) {
      const { updateUser: name, pwd, roles, authenticationRestrictions: only } = command;
      if (roles) need(client, "revokeRole");
      if (only) need(client, "setAuthenticationRestriction");
      if (pwd) need(client, "changePassword", keyOf(db, name));
      const user = found(db, name);
      const changes = { ...(pwd ? { verifier: verifierOf(pwd) } : {}), ...(only ? { authenticationRestrictions: only } : {}) };
      return change(client, command, () => Object.assign(user, roles ? { roles } : {}, changes));
    },
    dropUser(client, db, command) {
      need(client, "dropUser");
      found(db, command.dropUser);
      return change(client, command, () => users.delete(keyOf(db, command.dropUser)));
    },
    killAllSessions(client, _db, { killAllSessions: whose }) {
      need(client, "killAnySession");
      ended.push(...whose.map(({ user, db }: Document) => keyOf(db, user)));
      return {};
    },
    rolesInfo(client, _db, { rolesInfo }) {
      need(client, "viewRole");
      return { roles: Object.hasOwn(rights, rolesInfo.role) ? [rolesInfo] : [] };
    },
    find(client) {
      need(client, "find");
      return { cursor: { id: 0n, ns: "app.orders", firstBatch: [] } };
    },
    grantRolesToUser(client, db, { grantRolesToUser: name, roles }) {
      need(client, "grantRole");
      found(db, name).roles.push(...roles);
      return {};
    },
    currentOp(client, _db, command) {
      if (!command.$ownOps) need(client, "inprog");
      const mark = new RegExp(command.appName.$regex);
      return { inprog: [...operations.values()].filter((op) => mark.test(op.appName)).map(({ kill, ...shown }) => shown) };
    },
    killOp(client, _db, { op }) {
      need(client, "killop");
      operations.get(op)?.kill();
      return { info: "attempting to kill op" };
    },
    connectionStatus({ user }) {
      const actions = user?.roles.flatMap(({ role }) => rights[role] ?? []) ?? [];
      return { authInfo: { authenticatedUserPrivileges: [{ resource: { db: "", collection: "" }, actions }] } };
    },
  };

  async function answer(client: Client, command: Document, database: string): Promise<Document> {
    try {
      const run = commands[Object.keys(command)[0] ?? ""];
      if (!run) throw new Refusal(59, "CommandNotFound", "no such command");
      return { ...(await run(client, database, command)), ok: 1 };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { code, codeName, message } = error;
      // A real server may quote what it was sent: whoever shows its text shows that too.
      return { ok: 0, code, codeName, errmsg: `${message}: ${JSON.stringify(command)}` };
    }
  }

  function serve(socket: Socket): void {
    const client: Client = { socket, appName: "", user: undefined, exchange: undefined };
    let received = Buffer.alloc(0);
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length >= 16 && ![opQuery, opMsg].includes(received.readInt32LE(12))) return socket.destroy();
      while (received.length >= 4 && received.length >= received.readInt32LE(0)) {
        const message = received.subarray(0, received.readInt32LE(0));
        received = received.subarray(message.length);
        const request = parse(message);
        answer(client, request.command, request.database).then(
          (document) => socket.writable && socket.write(reply(request, document)),
          () => socket.destroy(),
        );
      }
    });
  }

  function addUser(user: WireUser, password: string): void {
    users.set(keyOf(user.db, user.user), { ...user, verifier: verifierOf(password) });
  }

  const server = options.tls ? createTlsServer(options.tls, serve) : createServer(serve);
  server.on("connection", (socket) => sockets.add(socket).size && socket.on("close", () => sockets.delete(socket)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: "127.0.0.1",
    port: (server.address() as { port: number }).port,
    addUser,
    user: (db, name) => users.get(keyOf(db, name)),
    fail: (next) => {
      fault = next;
    },
    wasEnded: (db, name) => ended.includes(keyOf(db, name)),
    stalled: () => operations.size,
    applications,
    log: () => log.join("\n"),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A user of the admin database who may change its own password. */
export const ordinaryUser = (name = `user_${randomUUID().slice(0, 8)}`): WireUser => ({
  user: name,
  db: "admin",
  roles: [
    { role: "changeOwn", db: "admin" },
    { role: "readWrite", db: "app" },
  ],
});

const text = (payload: Binary | Uint8Array): string =>
  Buffer.from(payload instanceof Uint8Array ? payload : payload.buffer).toString("utf8");

function cut({ socket }: Client): Promise<never> {
  socket.destroy();
  return Promise.reject(new Error("cut"));
}

interface Message {
  readonly id: number;
  readonly opcode: number;
  readonly database: string;
  readonly command: Document;
}

const opQuery = 2004;
const opMsg = 2013;

/** Source: MongoDB wire protocol. */
function parse(message: Buffer): Message {
  const [id, opcode] = [message.readInt32LE(4), message.readInt32LE(12)];
  if (opcode === opMsg) {
    const command = BSON.deserialize(message.subarray(21));
    return { id, opcode, command, database: String(command.$db) };
  }
  const end = message.indexOf(0, 20);
  const command = BSON.deserialize(message.subarray(end + 9));
  return { id, opcode, command, database: message.toString("utf8", 20, end).replace(/\.\$cmd$/, "") };
}

function reply({ id, opcode }: Message, document: Document): Buffer {
  const body = Buffer.from(BSON.serialize(document));
  const before = Buffer.alloc(opcode === opMsg ? 5 : 20);
  if (opcode !== opMsg) before.writeInt32LE(1, 16);
  const header = Buffer.alloc(16);
  header.writeInt32LE(16 + before.length + body.length, 0);
  header.writeInt32LE(id, 8);
  header.writeInt32LE(opcode === opMsg ? opMsg : 1, 12);
  return Buffer.concat([header, before, body]);
}
