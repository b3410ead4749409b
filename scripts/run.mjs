// Runs a file of this repository on the repository's own Node.js, installing what is missing first.
// Plain JavaScript: the first run happens on whatever Node.js >= 20 is there.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lockFile = join(root, "package-lock.json");
const stampFile = join(root, "node_modules", ".installed-lock");
const pinnedNode = join(root, "node_modules", ".bin", "node");

const lockHash = () => createHash("sha256").update(readFileSync(lockFile)).digest("hex");
const installed = () => existsSync(pinnedNode) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === lockHash();

function pause(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Two commands started together must not install over each other: the second waits for the first, while that lives. */
function installOnce() {
  const claim = join(root, "node_modules", ".installing");
  mkdirSync(dirname(claim), { recursive: true });
  for (let waits = 0; !take(claim); waits += 1) {
    if (installed()) return;
    if (waits === 5) process.stderr.write("rekey: waiting for another command that is installing\n");
    if (isAbandoned(claim)) rmSync(claim, { force: true });
    else pause(200);
  }
  try {
    if (!installed()) install();
  } finally {
    rmSync(claim, { force: true });
  }
}

/** Makes a file with our process id, unless it is there. */
function take(claim) {
  try {
    writeFileSync(claim, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    return false;
  }
}

/** Whether the process that claimed the install was cut off. A claim that says nothing yet is given a moment. */
function isAbandoned(claim) {
  const ageMs = Date.now() - (statSync(claim, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  const pid = existsSync(claim) ? Number(readFileSync(claim, "utf8")) : 0;
  if (pid === 0) return ageMs > 5_000;
  try {
    process.kill(pid, 0);
    return ageMs > 600_000;
  } catch (error) {
    return error.code === "ESRCH";
  }
}

function install() {
  const before = readFileSync(lockFile);
  process.stderr.write("rekey: installing what is missing (npm install)\n");
  const done = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", "ignore", "inherit"],
    shell: process.platform === "win32",
  });
  if (done.status !== 0) fail("npm install failed; see the messages above");
  if (!readFileSync(lockFile).equals(before)) {
    writeFileSync(lockFile, before);
    fail("npm install wanted to change package-lock.json; commit a lock that matches package.json");
  }
  if (!existsSync(pinnedNode)) fail("npm install did not provide node_modules/.bin/node; is `node` approved under allowScripts?");
  writeFileSync(stampFile, lockHash());
}

function fail(message) {
  process.stderr.write(`rekey: ${message}\n`);
  process.exit(1);
}

const [file, ...args] = process.argv.slice(2);
const target = resolve(root, file);
if (!installed()) installOnce();

if (Number(process.versions.node.split(".")[0]) >= 24) {
  process.argv.splice(1, 2, target);
  await import(pathToFileURL(target).href);
} else {
  const path = `${dirname(pinnedNode)}:${process.env.PATH ?? ""}`;
  const child = spawn(pinnedNode, [target, ...args], { stdio: "inherit", env: { ...process.env, PATH: path } });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
}
