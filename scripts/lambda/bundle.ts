import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { build, type Plugin } from "esbuild";
import { zipSync } from "fflate";
import { entryOf } from "./kinds.ts";

/** One function as it is uploaded. */
export interface LambdaZip {
  readonly kind: string;
  readonly zip: Uint8Array;
  /** SHA-256 of `app.js` in it, base64url: what the function says of itself when asked for its status. */
  readonly build: string;
}

/** Node.js 20 has no Promise.withResolvers. */
const banner =
  "Promise.withResolvers??=function(){let a,b;const promise=new this((c,d)=>{a=c;b=d});return{promise,resolve:a,reject:b}};";
const unixFile = 0o100644;

/**
 * What no function of ours reaches: messages of shapes in other languages (300 KB less to read at every cold start), and
 * logins to SQL Server with accounts of Azure, which bring programs that open browsers.
 */
const unreached: Plugin = {
  name: "unreached",
  setup(builder) {
    builder.onLoad({ filter: /[\\/]zod[\\/]v4[\\/]locales[\\/]index\.js$/ }, () => ({
      contents: `export { default as en } from "./en.js";`,
    }));
    builder.onResolve({ filter: /^@azure\/identity$/ }, ({ path }) => ({ path, namespace: "unreached" }));
    builder.onLoad({ filter: /./, namespace: "unreached" }, () => ({ contents: "module.exports = {};" }));
  },
};

/**
 * The zip of one kind: `app.js` for Node.js 20 and later, and the papers of what is in it. The same sources and the same
 * package-lock.json give the same bytes, wherever and whenever it is made. `pinnedKeySet`: public keys that it trusts when its
 * environment names none.
 */
export async function bundleLambda(root: string, kind: string, version: string, pinnedKeySet?: unknown): Promise<LambdaZip> {
  const { outputFiles, metafile } = await build({
    stdin: { contents: entryOf(kind, version, pinnedKeySet), resolveDir: root, sourcefile: "app.ts", loader: "ts" },
    absWorkingDir: root,
    preserveSymlinks: true,
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    format: "cjs",
    target: "node20",
    external: ["@aws-sdk/*", "pg-native"],
    // Names stay, so that what a function logs can be read.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: "none",
    logLevel: "silent",
    tsconfigRaw: { compilerOptions: { target: "es2024", verbatimModuleSyntax: true } },
    banner: { js: banner },
    plugins: [unreached],
  });
  const program = outputFiles[0]?.contents ?? new Uint8Array();
  const notices = Buffer.from(noticesOf(root, Object.keys(metafile.inputs)), "utf8");
  return {
    kind,
    zip: zipOf({ "NOTICES.txt": notices, "app.js": program }),
    build: createHash("sha256").update(program).digest("base64url"),
  };
}

/** In the order given, with one mode and one time for all. */
function zipOf(files: Readonly<Record<string, Uint8Array>>): Uint8Array {
  // Zips keep local time: made from local parts, it is the same text in every zone.
  const options = { level: 9, mtime: new Date(1980, 0, 1), os: 3, attrs: unixFile << 16 } as const;
  return zipSync(Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, [bytes, options]])));
}

/** Licenses of all packages that the bundle was made from. */
function noticesOf(root: string, inputs: readonly string[]): string {
  const folders = new Set(inputs.map((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? "."));
  const parts = [...folders].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
    const paper = readdirSync(join(root, folder)).find((file) => /^licen[cs]e/i.test(file));
    const text = paper === undefined ? "" : `\n${readFileSync(join(root, folder, paper), "utf8").trim()}\n`;
    return `${name} ${version} (${license})\n${text}`;
  });
  return parts.join(`\n${"-".repeat(80)}\n\n`);
}
