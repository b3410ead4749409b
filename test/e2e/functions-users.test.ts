// Functions that run as users of their own: what a hostile one must not read, end or leave behind.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { functionWorld, nodeRotation } from "../support/function-world.ts";

type World = Awaited<ReturnType<typeof functionWorld>>;

/** Does what the event says, and tells what came of it. */
const burglar = `
import { execFileSync, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
const attempt = (work) => { try { return String(work()); } catch (error) { return error.code ?? error.message; } };
export async function handler({ read = [], signal, stay, forks, wait }) {
  if (stay) spawn("/usr/bin/setsid", ["/bin/sleep", stay], { stdio: "ignore", detached: true }).unref();
  if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
  return {
    user: process.getuid(), groups: process.getgroups(), pid: process.pid, home: process.env.HOME,
    read: read.map((path) => attempt(() => readFileSync(path, "latin1"))),
    signal: signal === undefined ? "" : attempt(() => process.kill(signal, 0)),
    write: attempt(() => writeFileSync(import.meta.filename + ".own", "")),
    forks: forks ? attempt(() => execFileSync("/bin/sh", ["-c", "for i in $(seq 400); do sleep 5 & done"], { stdio: "pipe" })) : "",
  };
}
`;

const isRoot = process.getuid?.() === 0 && process.platform === "linux";
const [first, last] = [61_184, 61_187];

const processes = (): number[] =>
  readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0);

function textOf(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "latin1");
  } catch {
    return ""; // it has ended
  }
}

function processesOfUsers(): number[] {
  return processes().filter((pid) => {
    const user = Number(/^Uid:\t(\d+)/m.exec(textOf(pid, "status"))?.[1]);
    return user >= first && user <= last;
  });
}

describe("functions as users of their own", { skip: isRoot ? false : "only root runs programs as other users" }, () => {
  let world: World;
  before(async () => {
    world = await functionWorld({ users: `${first}-${last}` });
    world.write("burglar.mjs", burglar);
    world.write("rotate.mjs", nodeRotation);
  });
  after(() => world[Symbol.asyncDispose]());

  const told = async (name: string, event: object) => {
    const call = await world.invoke(name, event);
    assert.equal(call.functionError, undefined, JSON.stringify(call));
    return JSON.parse(call.payload);
  };

  it("rotate as before", async () => {
    const { arn } = await world.create({ file: "rotate.mjs" });
    const { SecretId } = await world.newSecret({ password: "first" });
    await world.rotate(SecretId, arn);
    const { state, reason } = await world.rotationOf(SecretId);
    assert.equal(state, "succeeded", reason);
  });

  it("read neither the keys, the store, the server's memory and environment, nor anything of another function", async () => {
    const { server } = world;
    const [one, two] = [await world.create({ file: "burglar.mjs" }), await world.create({ file: "burglar.mjs" })];
    const other = await told(two.name, {}); // waits for its next call
    const own = (name: string) => join(server.dataFolder, name);
    assert.ok(existsSync(own("root.key")) && existsSync(own("rekey.db")));
    const files = [own("root.key"), own("rekey.db"), own("root-credentials.json"), "/etc/shadow"];
    const seen = ["environ", "mem"].flatMap((name) => [`/proc/${server.pid}/${name}`, `/proc/${other.pid}/${name}`]);
    const { user, groups, read, signal, write } = await told(one.name, {
      read: [...files, ...seen, `/proc/${server.pid}/cwd/package.json`, other.home],
      signal: server.pid,
    });
    assert.ok(user >= first && user <= last && user !== other.user, `${user} ${other.user}`);
    assert.deepEqual(groups, [user]);
    for (const [index, answer] of read.entries()) assert.match(answer, /^(EACCES|EPERM)$/, `${index}`);
    assert.equal(signal, "EPERM");
    assert.equal(write, "EACCES");
    assert.equal((await told(one.name, { signal: other.pid })).signal, "EPERM");
  });

  it("leave nothing behind, not even what moved to a session of its own", async () => {
    const { name } = await world.create({ file: "burglar.mjs", timeout: 2 });
    const stay = `600.${process.pid}`;
    const call = await world.invoke(name, { stay, wait: 60_000 });
    assert.equal(call.outcome, "timeout");
    const sleeps = () => processes().some((pid) => textOf(pid, "cmdline").startsWith(`/bin/sleep\0${stay}`));
    for (let asked = 0; sleeps(); asked++) {
      assert.ok(asked < 200, "it is still there");
      await sleep(20);
    }
  });

  it("cannot fill the machine with processes", async () => {
    const { name } = await world.create({ file: "burglar.mjs" });
    await told(name, { forks: true }).catch(() => undefined);
    assert.ok(processesOfUsers().length < 300, String(processesOfUsers().length));
    await world.ask("functions/delete", { functionName: name });
  });

  it("more functions than users take turns", async () => {
    const names = await Promise.all(Array.from({ length: last - first + 3 }, () => world.create({ file: "burglar.mjs" })));
    for (const { name } of names) assert.ok((await told(name, {})).user >= first);
  });

  it("numbers that belong to somebody are refused at the start", async () => {
    const failing = functionWorld({ users: "1-99" });
    await assert.rejects(failing, /--functions-users must name numbers that nobody has: 1 is /);
  });

  it("files that they could not read are told where the function is made", async () => {
    world.write("closed.mjs", burglar, 0o600);
    const role = world.roleOf("any");
    const made = world.ask("functions/create", {
      functionName: "closed",
      role,
      process: { runtime: "node", file: "closed.mjs" },
    });
    await assert.rejects(made, /may not read .*closed\.mjs: chmod o\+rX/);
    assert.equal(statSync(world.folder).mode & 0o777, 0o755);
  });
});
