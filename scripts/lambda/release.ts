import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JWK } from "jose";
import { lambdaTargets } from "../../src/core/lambda-targets.ts";
import { publicJwk } from "../../src/crypto/message-keys.ts";
import { type LambdaRelease, lambdaRuntimes, writeLambdaManifest } from "../../src/functions/lambda-manifest.ts";
import { lambdaProtocol } from "../../src/functions/lambda-protocol.ts";
import { bundleLambda } from "./bundle.ts";

interface ReleaseOptions {
  /** Of the repository. */
  readonly root: string;
  readonly into: string;
  readonly kinds?: readonly string[];
  readonly pinnedKeySet?: unknown;
  /** Private. */
  readonly key: JWK;
  readonly releasedAt: Date;
}

/** Writes the zips, their signed manifest and the public half of the release key into a folder; tells what it released. */
export async function releaseLambdas(options: ReleaseOptions): Promise<readonly LambdaRelease[]> {
  const { root, into, kinds = lambdaTargets, pinnedKeySet, key, releasedAt } = options;
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  mkdirSync(into, { recursive: true });
  const releases: LambdaRelease[] = [];
  for (const kind of kinds) {
    const { zip, build } = await bundleLambda(root, kind, version, pinnedKeySet);
    const id = `rekey-${kind}`;
    writeFileSync(join(into, `${id}.zip`), zip);
    releases.push({
      id,
      kind,
      version,
      releasedAt: releasedAt.toISOString(),
      sha256: createHash("sha256").update(zip).digest("base64"),
      build,
      bytes: zip.length,
      runtimes: [...lambdaRuntimes],
      handler: "app.handler",
      protocol: lambdaProtocol,
    });
  }
  writeFileSync(join(into, "manifest.json"), await writeLambdaManifest(releases, key));
  writeFileSync(join(into, "release-key.json"), `${JSON.stringify(publicJwk(key))}\n`);
  return releases;
}
