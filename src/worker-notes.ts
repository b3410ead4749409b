import type { KeyObject } from "node:crypto";
import { once } from "node:events";
import { createServer, request as httpRequest, type Server, type ServerResponse } from "node:http";
import { json } from "node:stream/consumers";
import type { Logger } from "pino";
import { type AnchorNote, keepAnchors } from "./store/audit-anchors.ts";
import { saveLastUses } from "./store/credentials.ts";
import { type LastReads, saveReads } from "./store/last-reads.ts";
import type { Sql } from "./store/sql.ts";

type Uses = Parameters<typeof saveLastUses>[1];

/** What a process noted of reads and of uses of credentials. */
export interface Noted {
  readonly reads: ReturnType<LastReads["take"]>;
  readonly uses: Uses;
}

/** What a process that only reads has to say to the one that writes. Each rejects when that one did not take it. */
export interface WorkerNotes {
  keep(noted: Noted): Promise<void>;
  keepAnchors(note: AnchorNote): Promise<void>;
}

/** As it travels: maps are lists of their entries. */
type Message = { readonly anchors: AnchorNote } | { readonly reads: Noted["reads"]; readonly uses: Record<keyof Uses, UseList> };
type UseList = readonly (readonly [id: string, atMs: number])[];

const answerMs = 10_000;

/** Stores what was noted in this process or another. */
export async function saveNoted(sql: Sql, { reads, uses }: Noted): Promise<void> {
  await saveReads(sql, reads);
  if (uses.accessKeys.size + uses.tokens.size > 0) await sql.transaction((tx) => saveLastUses(tx, uses));
}

/** The reading process's end. */
export function createNotes(socketPath: string): WorkerNotes {
  return {
    async keep({ reads, uses }) {
      if (reads.length + uses.accessKeys.size + uses.tokens.size === 0) return;
      await send(socketPath, { reads, uses: { accessKeys: [...uses.accessKeys], tokens: [...uses.tokens] } });
    },
    keepAnchors: (anchors) => send(socketPath, { anchors }),
  };
}

async function send(socketPath: string, message: Message): Promise<void> {
  const outgoing = httpRequest({ socketPath, method: "POST", path: "/", timeout: answerMs });
  outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer within ${answerMs} ms`)));
  outgoing.end(JSON.stringify(message));
  const [answer] = await once(outgoing, "response");
  answer.resume();
  if (answer.statusCode !== 204) throw new Error("the writing process could not keep what this one noted");
}

/** The writing process's end, to be listened with on a socket that only this user can open. */
export function createNotesListener({ sql, auditKey, log }: { sql: Sql; auditKey: KeyObject; log: Logger }): Server {
  const take = async (message: Message): Promise<void> => {
    if ("anchors" in message) return keepAnchors(sql, auditKey, message.anchors);
    const { accessKeys, tokens } = message.uses;
    await saveNoted(sql, { reads: message.reads, uses: { accessKeys: new Map(accessKeys), tokens: new Map(tokens) } });
  };
  const answer = (response: ServerResponse, status: number) => response.writeHead(status).end();
  return createServer((incoming, response) => {
    json(incoming)
      .then((message) => take(message as Message))
      .then(
        () => answer(response, 204),
        (error: unknown) => {
          log.error({ err: error }, "notes of another process could not be kept");
          answer(response, 500);
        },
      );
  });
}
