// Points at which a process kills itself with SIGKILL: one before each call of its ports and one after it, so that the call
// did not happen, or happened and nobody learned of it.
import { writeSync } from "node:fs";
import { Socket } from "node:net";
import { DatabaseSync, StatementSync } from "node:sqlite";
import pg from "pg";
import type { Sql } from "../../src/store/sql.ts";

export interface KillPoints {
  /** Points that it came by. */
  readonly passed: number;
  point(what: string): void;
  /** Calls of an object's methods become points; everything else stays. */
  counting<T extends object>(of: string, port: T, methods: readonly string[]): T;
  /** Only writes and commits of writes whose text `concerns` takes: a kill at a read is one before the next write. */
  countingSql(sql: Sql, concerns?: (text: string) => boolean): Sql;
}

/**
 * Dies at the n-th point, having said `killed` and where on `fd`; n = 0: never. Points count while `isOn`. `how` SIGSTOP: it says
 * `stopped`, and goes on from there when it is let.
 */
export function killPoints(
  killAt: number,
  isOn: () => boolean = () => true,
  fd = 1,
  how: "SIGKILL" | "SIGSTOP" = "SIGKILL",
): KillPoints {
  let passed = 0;
  const point = (what: string): void => {
    if (!isOn()) return;
    passed += 1;
    if (passed !== killAt) return;
    writeSync(fd, `${how === "SIGKILL" ? "killed" : "stopped"} ${what}\n`);
    process.kill(process.pid, how);
  };
  const counted = async <T>(what: string, call: () => Promise<T>): Promise<T> => {
    point(`before ${what}`);
    const result = await call();
    point(`after ${what}`);
    return result;
  };
  return {
    get passed() {
      return passed;
    },
    point,
    counting: (of, port, methods) =>
      new Proxy(port, {
        get(target, key) {
          const member: unknown = Reflect.get(target, key);
          if (typeof member !== "function") return member;
          const bound = member.bind(target);
          const what = `${of}.${String(key)}`;
          return methods.includes(String(key)) ? (...all: unknown[]) => counted(what, () => bound(...all)) : bound;
        },
      }),
    countingSql(sql, concerns = () => true) {
      const isWrite = (text: string) => !/^\s*select/i.test(text) && concerns(text);
      const around = (inner: Sql, noteWrite?: () => void): Sql => ({
        dialect: inner.dialect,
        query(text, values) {
          if (!isWrite(text)) return inner.query(text, values);
          noteWrite?.();
          return counted(text.trim().slice(0, 40), () => inner.query(text, values));
        },
        async transaction(work, options) {
          let wrote = false;
          const result = await inner.transaction((tx) => work(around(tx, () => (wrote = true))), options);
          if (wrote) point("after a commit");
          return result;
        },
        close: () => inner.close(),
      });
      return around(sql);
    },
  };
}

/** At PostgreSQL's driver: before a statement, and between its leaving and its answer, when its effect is anybody's guess. */
export function killAtStatements({ point }: KillPoints): void {
  const client = pg.Client.prototype as { query(...all: unknown[]): Promise<unknown> };
  const { query } = client;
  client.query = async function (...all) {
    point("before a statement");
    const answer = query.apply(this, all);
    await new Promise((resolve) => setImmediate(resolve));
    point("after a statement left");
    return answer;
  };
}

/** Whatever driver it is: at each write to a socket, and between that and the answer. */
export function killAtSockets({ point }: Pick<KillPoints, "point">): void {
  const socket = Socket.prototype as { write(...all: unknown[]): boolean };
  const { write } = socket;
  socket.write = function (...all) {
    point("before bytes leave");
    const went = write.apply(this, all);
    setImmediate(() => point("after bytes left"));
    return went;
  };
}

/** At SQLite: before and after each statement that writes, and each commit. */
export function killAtDatabase({ point }: Pick<KillPoints, "point">): void {
  const around = <T extends object>(of: T, method: keyof T, textOf: (self: T, first: unknown) => string): void => {
    const call = of[method] as (...all: unknown[]) => unknown;
    of[method] = function (this: T, ...all: unknown[]) {
      const text = textOf(this, all[0]);
      if (!/^\s*(insert|update|delete|commit|with)/i.test(text)) return call.apply(this, all);
      const what = text.trim().slice(0, 40).replaceAll(/\s+/g, " ");
      point(`before ${what}`);
      const result = call.apply(this, all);
      point(`after ${what}`);
      return result;
    } as T[keyof T];
  };
  for (const method of ["run", "get", "all"] as const) around(StatementSync.prototype, method, (self) => self.sourceSQL);
  around(DatabaseSync.prototype, "exec", (_self, text) => String(text));
}
