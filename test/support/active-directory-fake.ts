// A wire fake of Active Directory: binds, comparisons and changes of unicodePwd as Microsoft documents them (MS-ADTS).
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:tls";
import { Ber, BerReader, BerWriter } from "ldapts";
import { makeCertificate } from "./server-process.ts";

interface Entry {
  password: string;
  /** `data` of the answer to a bind with the right password, e.g. `775`; absent: it logs in. */
  state?: string;
  readonly seeAlso?: string;
  /** May reset the passwords of others. */
  readonly resets?: boolean;
}

export interface DirectoryFake extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly caFile: string;
  /** By distinguished name or `user@domain`. */
  readonly entries: Map<string, Entry>;
}

const [bindRequest, modifyRequest, compareRequest] = [0x60, 0x66, 0x6e];
const [deleteValue, replaceValue] = [1, 2];
const shortestPassword = 12;

interface Answer {
  readonly code: number;
  readonly text?: string;
}

const success: Answer = { code: 0 };
const policyRefusal: Answer = { code: 19, text: "0000052D: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0" };
const wrongOld: Answer = { code: 19, text: "00000056: AtrErr: DSID-03191083, #1: problem 1005 (CONSTRAINT_ATT_TYPE), data 0" };
const bindRefusal = (data: string): Answer => ({
  code: 49,
  text: `80090308: LdapErr: DSID-0C090446, comment: AcceptSecurityContext error, data ${data}, v4563`,
});

/** Listens with TLS on a free port of 127.0.0.1. Needs `openssl`. */
export async function startDirectoryFake(): Promise<DirectoryFake> {
  const home = mkdtempSync(join(tmpdir(), "rekey-directory-"));
  const caFile = makeCertificate(home);
  const entries = new Map<string, Entry>();
  const sockets = new Set<Socket>();
  const server = createServer({ cert: readFileSync(caFile), key: readFileSync(join(home, "server.key")) }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    const answer = answering(entries);
    let unread = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      unread = Buffer.concat([unread, chunk]);
      for (let reader = messageIn(unread); reader; reader = messageIn(unread)) {
        unread = unread.subarray(reader.offset + reader.length);
        const bytes = answer(reader);
        if (!bytes) return socket.end();
        socket.write(bytes);
      }
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    host: "127.0.0.1",
    port: (server.address() as AddressInfo).port,
    caFile,
    entries,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => server.close(closed));
      rmSync(home, { recursive: true });
    },
  };
}

/** What one connection answers; nothing to an end. */
function answering(entries: DirectoryFake["entries"]): (reader: BerReader) => Buffer | undefined {
  let who: Entry | undefined;
  return (reader) => {
    const id = reader.readInt() ?? 0;
    const operation = reader.readSequence() ?? 0;
    if (operation === bindRequest) {
      const { answer, entry } = bind(reader, entries);
      who = entry;
      return response(id, operation, answer);
    }
    if (operation === modifyRequest) return response(id, operation, modify(reader, entries, who));
    return operation === compareRequest ? response(id, operation, compare(reader, entries, who)) : undefined;
  };
}

/** A reader inside the first message, if all of it is there. */
function messageIn(bytes: Buffer): BerReader | undefined {
  const reader = new BerReader(bytes);
  return bytes.length > 0 && reader.readSequence() !== null && reader.remain >= reader.length ? reader : undefined;
}

function response(id: number, operation: number, { code, text = "" }: Answer): Buffer {
  const writer = new BerWriter();
  writer.startSequence();
  writer.writeInt(id);
  writer.startSequence(operation + 1);
  writer.writeEnumeration(code);
  writer.writeString("");
  writer.writeString(text);
  writer.endSequence();
  writer.endSequence();
  return writer.buffer;
}

function bind(reader: BerReader, entries: DirectoryFake["entries"]): { answer: Answer; entry?: Entry } {
  reader.readInt();
  const entry = entries.get(reader.readString() ?? "");
  const password = reader.readString(Ber.Context) ?? "";
  if (password === "") return { answer: success }; // as nobody
  if (!entry) return { answer: bindRefusal("525") };
  if (password !== entry.password) return { answer: bindRefusal("52e") };
  return entry.state ? { answer: bindRefusal(entry.state) } : { answer: success, entry };
}

function compare(reader: BerReader, entries: DirectoryFake["entries"], who: Entry | undefined): Answer {
  const entry = entries.get(reader.readString() ?? "");
  reader.readSequence();
  const attribute = reader.readString();
  if (!who) return { code: 1 };
  if (!entry) return { code: 32 };
  return { code: attribute === "seeAlso" && reader.readString() === entry.seeAlso ? 6 : 5 };
}

function modify(reader: BerReader, entries: DirectoryFake["entries"], who: Entry | undefined): Answer {
  const entry = entries.get(reader.readString() ?? "");
  reader.readSequence();
  const changes = readChanges(reader);
  if (!who) return { code: 1 };
  if (!entry) return { code: 32 };
  return change(entry, changes, who);
}

interface ValueChange {
  readonly attribute: string | null;
  readonly operation: number | null;
  readonly value: string | undefined;
}

function readChanges(reader: BerReader): ValueChange[] {
  const changes: ValueChange[] = [];
  while (reader.remain > 0 && reader.peek() === 0x30) {
    reader.readSequence();
    const operation = reader.readEnumeration();
    reader.readSequence();
    const attribute = reader.readString();
    reader.readSequence(0x31);
    changes.push({ attribute, operation, value: unquoted(reader.readString(Ber.OctetString, true)) });
  }
  return changes;
}

function change(entry: Entry, changes: readonly ValueChange[], who: Entry): Answer {
  const [first, second] = changes;
  if (changes.some(({ attribute }) => attribute !== "unicodePwd")) return { code: 17 };
  if (changes.some(({ value }) => value === undefined)) return policyRefusal;
  if (first?.operation === replaceValue && !who.resets) return { code: 50 };
  if (first?.operation === deleteValue && first.value !== entry.password) return wrongOld;
  const password = (second ?? first)?.value ?? "";
  if (password.length < shortestPassword) return policyRefusal;
  entry.password = password;
  return success;
}

/** In quotes, as UTF-16 with the lower byte first; anything else is no password. */
function unquoted(bytes: Buffer | null): string | undefined {
  return /^"(.*)"$/s.exec(bytes?.toString("utf16le") ?? "")?.[1];
}
