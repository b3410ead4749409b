import { closeSync, fdatasyncSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from "node:fs";
import { availableParallelism, cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { percentile } from "./statistics.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly node: string;
  readonly openssl: string;
  readonly sqlite: string;
  /** Of a 1 KiB write and fdatasync in the folder for temporary files, which the stores of the measurements are in. */
  readonly fsyncMs: { readonly p50: number; readonly p99: number };
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    openssl: process.versions.openssl,
    sqlite: process.versions.sqlite ?? "unknown",
    fsyncMs: fsyncTimes(500),
  };
}

function fsyncTimes(times: number): { p50: number; p99: number } {
  const folder = mkdtempSync(join(tmpdir(), "rekey-bench-fsync-"));
  const file = openSync(join(folder, "probe"), "w");
  const block = Buffer.alloc(1024, 1);
  const took = new Float64Array(times);
  try {
    for (let turn = 0; turn < times; turn += 1) {
      const startedAt = performance.now();
      writeSync(file, block);
      fdatasyncSync(file);
      took[turn] = performance.now() - startedAt;
    }
  } finally {
    closeSync(file);
    rmSync(folder, { recursive: true });
  }
  return { p50: percentile(took, 0.5), p99: percentile(took, 0.99) };
}

const ticksPerSecond = 100;

/** CPU time that a process and its children have used so far; undefined where the system does not tell (Linux does). */
export function cpuMs(pid: number): number | undefined {
  return sumTree(pid, (one) => {
    const fields = readFileSync(`/proc/${one}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
    return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
  });
}

/** Memory of a process and its children that is in RAM, in MiB; undefined where the system does not tell. */
export function residentMiB(pid: number): number | undefined {
  return sumTree(pid, (one) => {
    const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${one}/status`, "latin1")) ?? [];
    return Number(kib) / 1024;
  });
}

/** What a process and its children caused to be written to disks so far, in KiB; undefined where the system does not tell. */
export function writtenKiB(pid: number): number | undefined {
  return sumTree(pid, (one) => {
    const [, bytes] = /^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${one}/io`, "latin1")) ?? [];
    return Number(bytes) / 1024;
  });
}

function sumTree(pid: number, measure: (pid: number) => number): number | undefined {
  try {
    const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, "latin1").split(" ").filter(Boolean).map(Number),
    );
    return children.reduce((sum, child) => sum + (sumTree(child, measure) ?? 0), measure(pid));
  } catch {
    return undefined; // not Linux, or it has just ended
  }
}
