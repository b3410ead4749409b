import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { ConfigError } from "../core/error.ts";

/** What a TLS listener shows, in PEM. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
}

/** Reads certificate chain and private key. @throws ConfigError when a file cannot be read or the two do not fit. */
export function readTlsFiles(certFile: string, keyFile: string): TlsFiles {
  const files = { cert: read("--tls-cert", certFile), key: read("--tls-key", keyFile) };
  try {
    createSecureContext(files);
  } catch {
    // Without OpenSSL's words, which may quote from the file.
    throw new ConfigError(["--tls-cert and --tls-key must be a certificate and its private key without passphrase, in PEM."]);
  }
  return files;
}

function read(flag: string, file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
    throw new ConfigError([`${flag} must be a file that can be read${code}.`]);
  }
}
