import { constants } from "node:fs";
import { open, stat } from "node:fs/promises";
import { RotatorError } from "../core/error.ts";

/** The bundles of public authorities are a quarter of this. */
const maxBytes = 1024 * 1024;
const begin = "-----BEGIN CERTIFICATE-----";

/**
 * The PEM text that `sslrootcert` is, or that stands in the file it names. Whoever writes a secret chooses the path: only a
 * regular file of bounded size is read, and what is no certificate is told like what is not there.
 * @throws RotatorError `invalid`
 */
export async function readAuthorities(sslrootcert: string, setting = "sslrootcert"): Promise<string> {
  const pem = sslrootcert.includes(begin) ? sslrootcert : await readBounded(sslrootcert, setting);
  if (pem.includes(begin)) return pem;
  throw unreadable(setting);
}

async function readBounded(path: string, setting: string): Promise<string> {
  try {
    if (!(await stat(path)).isFile()) throw unreadable(setting); // to open a device may be to use it
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a pipe nobody writes to must not be waited for
    const about = await file.stat();
    if (!about.isFile() || about.size > maxBytes) throw unreadable(setting);
    const bytes = Buffer.alloc(maxBytes);
    const { bytesRead } = await file.read(bytes, 0, maxBytes, 0);
    return bytes.toString("utf8", 0, bytesRead);
  } catch (cause) {
    throw cause instanceof RotatorError ? cause : unreadable(setting, cause);
  }
}

function unreadable(setting: string, cause?: unknown): RotatorError {
  return new RotatorError("invalid", `${setting} names no file of certificates that can be read`, { cause });
}
