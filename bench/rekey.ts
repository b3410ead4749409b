import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nativeOk, policyOf, statement } from "../test/support/aws.ts";
import { type RekeyServer, startRekey } from "../test/support/rekey-server.ts";
import type { LoadClient } from "./load.ts";
import { type Signer, signedRequest } from "./signed-request.ts";

export const connections = 64;
const fillChunk = 10_000;

export interface BenchServer extends AsyncDisposable {
  readonly server: RekeyServer;
  readonly port: number;
  readonly root: Signer;
}

export interface ServerOptions {
  /** Kept by the caller; absent: a new one that goes with the server. */
  readonly dataFolder?: string;
  readonly processes?: number;
  /** Default 0. */
  readonly settleMs?: number;
  readonly moreFlags?: readonly string[];
  readonly moreEnv?: NodeJS.ProcessEnv;
  /** What its log says while it runs. */
  onLog?(text: string): void;
}

/** Settings that this shell has for some other Rekey are no business of ours. */
export const ownEnv: NodeJS.ProcessEnv = Object.fromEntries(
  Object.entries(process.env).map(([name, value]) => [name, name.startsWith("REKEY_") ? undefined : value]),
);
const flags = ["--max-requests-per-second", "1000000", "--log-level", "info"];

const running = new Set<RekeyServer>();

/** Ends all servers in order, so that none of their processes writes on after us. */
export async function stopServers(): Promise<void> {
  await Promise.all([...running].map((server) => server.stop()));
}

let program: string | undefined;

/** The file to run: made at the first call. */
export function compiledProgram(): string {
  program ??= compile();
  return program;
}

/** What users install, beside its libraries: where the sources run, a compiler is in the server's memory. */
function compile(): string {
  const tsc = join(import.meta.dirname, "../node_modules/.bin/tsc");
  const project = join(import.meta.dirname, "../tsconfig.build.json");
  const compiled = mkdtempSync(join(import.meta.dirname, "../node_modules/.rekey-bench-"));
  process.once("exit", () => rmSync(compiled, { recursive: true, force: true }));
  execFileSync(tsc, ["-p", project, "--outDir", join(compiled, "dist")], { stdio: "inherit" });
  copyFileSync(join(import.meta.dirname, "../package.json"), join(compiled, "package.json"));
  return join(compiled, "dist/cli.js");
}

/** The real program on an embedded store on disk. */
export async function startServer({
  dataFolder,
  processes = 1,
  settleMs = 0,
  moreFlags = [],
  moreEnv = {},
  onLog,
}: ServerOptions = {}): Promise<BenchServer> {
  const folder = dataFolder ?? newFolder();
  const server = await startRekey({
    program: compiledProgram(),
    dataFolder: folder,
    flags: [...flags, "--settle-ms", String(settleMs), "--processes", String(processes), ...moreFlags],
    env: { ...ownEnv, ...moreEnv },
    ...(onLog && { onLog }),
  });
  running.add(server);
  const { accessKeyId, secretAccessKey, region } = server.credentials;
  return {
    server,
    port: Number(new URL(server.endpoint).port),
    root: { accessKeyId, secretAccessKey, region },
    async [Symbol.asyncDispose]() {
      await server.stop();
      running.delete(server);
      if (dataFolder === undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** On disk, beside the other temporary files. It goes at the latest when this process ends. */
export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "rekey-bench-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

export const nameOf = (index: number): string => `bench/${index % 100}/secret-${index}`;

/** A credential as applications keep it, about 200 bytes. */
export function credentialText(index: number): string {
  return JSON.stringify({
    engine: "postgres",
    host: "database.internal.example",
    port: 5432,
    dbname: "orders",
    username: `service_${index}`,
    password: randomUUID().replaceAll("-", ""),
    note: "made for a measurement and for nothing else",
  });
}

/** Makes secrets `from` to `to` through the API. */
export async function fill(
  bench: BenchServer,
  client: LoadClient,
  { from = 0, to }: { from?: number; to: number },
): Promise<void> {
  for (let start = from; start < to; start += fillChunk) {
    const indexes = Array.from({ length: Math.min(fillChunk, to - start) }, (_, offset) => start + offset);
    const requests = indexes.map((index) =>
      signedRequest(bench.root, bench.port, "CreateSecret", {
        Name: nameOf(index),
        ClientRequestToken: randomUUID(),
        SecretString: credentialText(index),
        Tags: [
          { Key: "team", Value: `team-${index % 20}` },
          { Key: "stage", Value: index % 2 === 0 ? "live" : "test" },
        ],
      }),
    );
    await client.run({ port: bench.port, requests, connections, count: requests.length, maxMs: 240_000 });
  }
}

/** A user with three policies of ten statements each, conditions among them, of which the last one allows. */
export async function newCaller({ server, root }: BenchServer): Promise<Signer> {
  const userName = `bench-${randomUUID().slice(0, 8)}`;
  await nativeOk(server, "users/create", { userName });
  for (const [number, document] of policies().entries()) {
    const policy = await nativeOk(server, "policies/create", { policyName: `${userName}-${number}`, policyDocument: document });
    await nativeOk(server, "policies/attach", { policyArn: policy.arn, userName });
  }
  const key = await nativeOk(server, "access-keys/create", { userName });
  return { accessKeyId: String(key.accessKeyId), secretAccessKey: String(key.secretAccessKey), region: root.region };
}

/** Thirty statements: other names, other actions, conditions that do not hold, a denial for another network; the last allows. */
export function policies(): string[] {
  const secrets = (path: string) => `arn:aws:secretsmanager:*:*:secret:${path}`;
  const actions = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"];
  const other = Array.from({ length: 9 }, (_, n) => statement("Allow", actions, secrets(`team-${n}/*`)));
  const conditional = Array.from({ length: 10 }, (_, n) =>
    statement("Allow", ["secretsmanager:Get*"], secrets("bench/*"), { StringEquals: { "aws:PrincipalTag/team": `team-${n}` } }),
  );
  const elsewhere = statement("Deny", ["secretsmanager:*"], "*", {
    NotIpAddress: { "aws:SourceIp": ["127.0.0.0/8", "10.0.0.0/8"] },
  });
  const unrelated = Array.from({ length: 9 }, (_, n) =>
    statement("Allow", ["iam:Get*", "kms:Describe*"], `arn:aws:iam::*:user/${n}`),
  );
  const allowed = statement("Allow", ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"], secrets("bench/*"));
  return [policyOf(...other, elsewhere), policyOf(...conditional), policyOf(...unrelated, allowed)];
}
