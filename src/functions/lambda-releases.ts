import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../core/error.ts";
import { parsedJson } from "../core/json-object.ts";
import { readPublicJwk } from "../crypto/message-keys.ts";
import { type LambdaRelease, readLambdaManifest } from "./lambda-manifest.ts";

/** The newest code of Rekey's functions that this server has. */
export interface LambdaReleases {
  /** Of a kind of target; `undefined`: none is here. @throws ConfigError: they cannot be read or trusted */
  find(kind: string): Promise<LambdaRelease | undefined>;
  /** Its zip. @throws ConfigError: it is not what the manifest says */
  zip(release: LambdaRelease): Promise<Uint8Array>;
}

export interface ReleasePlace {
  /** With `manifest.json` and the zips. */
  readonly folder: string;
  /** File with the public key that signs manifests: a JWK. */
  readonly key: string;
}

const maxManifestBytes = 256 * 1024;
const maxKeyBytes = 16 * 1024;
const maxZipBytes = 50 * 1024 * 1024;

/** Read anew each time, so that a newer release counts as soon as it is there. */
export function createLambdaReleases({ folder, key: keyFile }: ReleasePlace): LambdaReleases {
  return {
    async find(kind) {
      const key = await readPublicJwk(parsedJson((await bounded(keyFile, maxKeyBytes)).toString("utf8")), "sig");
      if (!key)
        throw new ConfigError([`${keyFile} holds no public key of P-521 as a JWK: name another --functions-release-key.`]);
      const text = (await bounded(join(folder, "manifest.json"), maxManifestBytes)).toString("utf8");
      return (await readLambdaManifest(text, [key])).find((release) => release.kind === kind);
    },
    async zip({ id, sha256 }) {
      const bytes = await bounded(join(folder, `${id}.zip`), maxZipBytes);
      if (digestOf(bytes) === sha256) return bytes;
      throw new ConfigError([`${id}.zip in ${folder} is not the one that the manifest names: copy the release again.`]);
    },
  };
}

/** As AWS Lambda writes it. */
export const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("base64");

/** @throws ConfigError */
async function bounded(path: string, most: number): Promise<Buffer> {
  try {
    const about = await stat(path);
    if (about.isFile() && about.size <= most) return await readFile(path);
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause)) throw cause;
    throw Object.assign(new ConfigError([`${path} cannot be read (${cause.code}).`]), { cause });
  }
  throw new ConfigError([`${path} is no file, or larger than ${most} bytes.`]);
}
