// A first start that kills itself at its n-th step: `first-start-process.ts DIR N`. A step is a change of a file's name, a file
// made, flushed or written, or a commit of the store, killed just after it.
import fs from "node:fs";
import promises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { DatabaseSync } from "node:sqlite";

const [data = "", wanted = "0"] = process.argv.slice(2);
let steps = 0;

function step(): void {
  steps += 1;
  if (steps === Number(wanted)) process.kill(process.pid, "SIGKILL");
}

type Run = (...args: unknown[]) => unknown;

/** The same function with a step after it. */
function around(owner: object, name: string, counts: (args: readonly unknown[]) => boolean = () => true): void {
  const original = Reflect.get(owner, name) as Run;
  Reflect.set(owner, name, function (this: unknown, ...args: unknown[]): unknown {
    const result = original.apply(this, args);
    if (!counts(args)) return result;
    if (!(result instanceof Promise)) {
      step();
      return result;
    }
    return result.then((value) => {
      step();
      return value;
    });
  });
}

const ours = ([path]: readonly unknown[]) => String(path).startsWith(data);
for (const name of ["mkdirSync", "chmodSync", "renameSync"]) around(fs, name, ours);
for (const name of ["writeSync", "fsyncSync"]) around(fs, name, ([file]) => Number(file) > 2);
for (const name of ["link", "unlink"]) around(promises, name, ours);
around(fs, "openSync", (args) => ours(args) && args[1] !== "r");
around(DatabaseSync.prototype, "exec", ([text]) => /^(commit|create)/i.test(String(text)));
const prepare = DatabaseSync.prototype.prepare;
DatabaseSync.prototype.prepare = function (this: DatabaseSync, text: string) {
  const statement = prepare.call(this, text);
  if (/^commit/i.test(text)) around(statement, "run");
  return statement;
};
syncBuiltinESMExports();

const { loadConfig } = await import("../../src/config.ts");
const { startServer } = await import("../../src/server.ts");
const server = await startServer(loadConfig("server", {}, { data, listen: "127.0.0.1:0", logLevel: "fatal" }));
await server.close();
process.exit(0);
