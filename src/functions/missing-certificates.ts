import { access, open } from "node:fs/promises";

const maxReadBytes = 512 * 1_024;
const certificatePath = /["'`](\/[^"'`\s\0]{1,500}\.(?:pem|crt|cer))["'`]/g;

/**
 * Files of certificates that a program's own text names and that are not on this machine. What it trusts may differ from system
 * to system, and some programs do without TLS where they miss it. Only the first 512 KiB are looked at, and no packages.
 */
export async function missingCertificates(programPath: string): Promise<string[]> {
  const text = await beginning(programPath);
  const named = new Set(Array.from(text.matchAll(certificatePath), ([, path = ""]) => path));
  const missing: string[] = [];
  for (const path of named) if (!(await isThere(path))) missing.push(path);
  return missing;
}

async function beginning(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(maxReadBytes), 0, maxReadBytes, 0);
    return buffer.toString("latin1", 0, bytesRead);
  } finally {
    await file.close();
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
