import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const cli = join(import.meta.dirname, "../../src/cli.ts");

/** All files in a folder and below, one after the other. */
export function readFolder(folder: string): Buffer {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Buffer.concat(files.map(({ parentPath, name }) => readFileSync(join(parentPath, name))));
}

/** Whether `rekey audit verify` finds the audit trail whole, and its first sentence. */
export async function verifyAudit(dataFolder: string, env: NodeJS.ProcessEnv): Promise<{ whole: boolean; said: string }> {
  const args = ["--disable-warning=ExperimentalWarning", cli, "audit", "verify", "--data", dataFolder];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, args, { env });
    return { whole: true, said: stdout.trim().split("\n")[0] ?? "" };
  } catch (error) {
    return { whole: false, said: error instanceof Error ? error.message : String(error) };
  }
}
