// Secrets under watch, and the forms in which one could lie about.
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export class Marks {
  readonly #forms: { readonly what: string; readonly bytes: Buffer }[] = [];

  /** A new text that nothing else contains. */
  fresh(what: string): string {
    return this.watch(what, `mark${randomBytes(18).toString("hex")}`);
  }

  /** Watches a secret that somebody else made; the same comes back. */
  watch(what: string, secret: string, raw = Buffer.from(secret)): string {
    const add = (form: string, bytes: Buffer) => this.#forms.push({ what: `${what} (${form})`, bytes });
    add("as it is", Buffer.from(secret));
    add("bytes", raw);
    add("UTF-16", Buffer.from(secret, "utf16le"));
    add("hex", Buffer.from(raw.toString("hex")));
    add("HEX", Buffer.from(raw.toString("hex").toUpperCase()));
    add("URL", Buffer.from(encodeURIComponent(secret)));
    add("JSON", Buffer.from(JSON.stringify(secret).slice(1, -1)));
    for (const offset of [0, 1, 2]) {
      const base64 = inner64(raw, offset);
      add(`base64, ${offset}`, Buffer.from(base64));
      add(`base64url, ${offset}`, Buffer.from(base64.replaceAll("+", "-").replaceAll("/", "_")));
    }
    return secret;
  }

  /** What of all that stands there. */
  foundIn(text: string | Uint8Array): string[] {
    const bytes = Buffer.from(text as string);
    return this.#forms.filter((form) => bytes.includes(form.bytes)).map(({ what }) => what);
  }

  /** The same for every file below a folder but those named; each finding begins with the file. */
  foundInFolder(folder: string, except: readonly string[] = []): string[] {
    return readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile() && !except.includes(entry.name))
      .flatMap(({ parentPath, name }) => this.foundIn(readFileSync(join(parentPath, name))).map((what) => `${name}: ${what}`));
  }
}

/** What of the base64 text is the same whatever stands before and after, when `offset` bytes of a group of three come before. */
function inner64(bytes: Buffer, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString("base64");
  return text.slice(Math.ceil((offset * 4) / 3), Math.floor(((offset + bytes.length) * 4) / 3));
}
