// Packets of the MySQL protocol, as the wire fake reads and writes them. Source: MySQL internals manual, client/server protocol.
import type { Socket } from "node:net";
import { type SecureContext, TLSSocket } from "node:tls";

export class Gone extends Error {}

/** Packets with their running number over a socket, which may become TLS in between. */
export class Packets {
  #socket: Socket;
  #pending = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #ended = false;
  sequence = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#listen(socket);
  }

  #listen(socket: Socket): void {
    socket.on("data", (data) => {
      this.#pending = Buffer.concat([this.#pending, data]);
      this.#wake?.();
    });
    const end = () => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on("close", end).on("end", end).on("error", end);
  }

  async read(): Promise<Buffer> {
    for (;;) {
      const length = this.#pending.length >= 4 ? this.#pending.readUIntLE(0, 3) : undefined;
      if (length !== undefined && this.#pending.length >= 4 + length) {
        this.sequence = (this.#pending[3] ?? 0) + 1;
        const payload = this.#pending.subarray(4, 4 + length);
        this.#pending = this.#pending.subarray(4 + length);
        return payload;
      }
      if (this.#ended) throw new Gone();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  write(...payloads: Uint8Array[]): void {
    for (const payload of payloads) {
      const head = Buffer.alloc(4);
      head.writeUIntLE(payload.length, 0, 3);
      head[3] = this.sequence++ & 255;
      this.#socket.write(Buffer.concat([head, payload]));
    }
  }

  secure(secureContext: SecureContext): void {
    const plain = this.#socket;
    plain.removeAllListeners("data").pause();
    plain.unshift(this.#pending); // the client may have begun with TLS already
    this.#pending = Buffer.alloc(0);
    this.#socket = new TLSSocket(plain, { isServer: true, secureContext });
    this.#listen(this.#socket);
  }

  end(): void {
    this.#socket.end();
  }

  cut(): void {
    this.#socket.destroy();
  }

  get isSecure(): boolean {
    return this.#socket instanceof TLSSocket;
  }

  get isGone(): boolean {
    return this.#ended;
  }
}

export const flags = {
  ssl: 0x800,
  connectWithDb: 0x8,
  protocol41: 0x200,
  secureConnection: 0x8000,
  pluginAuth: 0x80000,
  lengthEncodedAuth: 0x200000,
  connectAttributes: 0x100000,
  longPassword: 0x1,
  transactions: 0x2000,
} as const;

const u16 = (value: number) => Buffer.from([value & 255, value >> 8]);
const nul = Buffer.alloc(1);

/** A text with its length before it; `null` as the server writes it. */
function field(value: string | number | null): Buffer {
  if (value === null) return Buffer.from([0xfb]);
  const text = Buffer.from(String(value));
  const length = text.length < 251 ? Buffer.from([text.length]) : Buffer.concat([Buffer.from([0xfc]), u16(text.length)]);
  return Buffer.concat([length, text]);
}

export const okPacket = (): Buffer => Buffer.from([0, 0, 0, 2, 0, 0, 0]);
const eofPacket = (): Buffer => Buffer.from([0xfe, 0, 0, 2, 0]);

export function errorPacket(number: number, message: string, state = "HY000"): Buffer {
  return Buffer.concat([Buffer.from([0xff]), u16(number), Buffer.from(`#${state}${message}`)]);
}

export function authSwitchPacket(plugin: string, scramble: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([0xfe]), Buffer.from(plugin), nul, scramble, nul]);
}

export function greetingPacket(version: string, id: number, scramble: Uint8Array, plugin: string, tls: boolean): Buffer {
  let given = flags.connectWithDb | flags.protocol41 | flags.secureConnection | flags.pluginAuth | flags.lengthEncodedAuth;
  given |= flags.longPassword | flags.transactions | flags.connectAttributes | (tls ? flags.ssl : 0);
  const number = Buffer.alloc(4);
  number.writeUInt32LE(id);
  return Buffer.concat([
    Buffer.from([10]),
    Buffer.from(`${version}\0`),
    number,
    scramble.subarray(0, 8),
    nul,
    u16(given & 0xffff),
    Buffer.from([255, 2, 0]),
    u16(given >>> 16),
    Buffer.from([21]),
    Buffer.alloc(10),
    scramble.subarray(8),
    nul,
    Buffer.from(`${plugin}\0`),
  ]);
}

/** A table; a column that holds a number holds whole numbers only. */
export function tablePackets(columns: readonly string[], rows: readonly (readonly (string | number | null)[])[]): Buffer[] {
  const column = (name: string, index: number) => {
    const type = rows.some((row) => typeof row[index] === "number") ? 8 : 253; // LONGLONG, VAR_STRING
    const about = Buffer.from([0x0c, 45, 0, 0, 4, 0, 0, type, 0, 0, 0, 0, 0]); // utf8mb4
    return Buffer.concat([...["def", "", "", "", name, name].map(field), about]);
  };
  const lines = rows.map((row) => Buffer.concat(row.map(field)));
  return [Buffer.from([columns.length]), ...columns.map(column), eofPacket(), ...lines, eofPacket()];
}

/** Reads a packet from its start. */
export class Cursor {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  number(bytes: number): number {
    this.#at += bytes;
    return this.#data.readUIntLE(this.#at - bytes, bytes);
  }

  bytes(count: number): Buffer {
    this.#at += count;
    return this.#data.subarray(this.#at - count, this.#at);
  }

  text(): string {
    const end = this.#data.indexOf(0, this.#at);
    const text = this.#data.toString("utf8", this.#at, end < 0 ? this.#data.length : end);
    this.#at = end < 0 ? this.#data.length : end + 1;
    return text;
  }
}
