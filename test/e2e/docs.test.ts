// Every example of the documentation is run as it stands, page by page; links, settings and operations are as the code has them.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { describe, test } from "node:test";
import { flagOf, settings, variableOf } from "../../src/config.ts";
import { operations } from "../../src/operations/index.ts";
import { awsOperations } from "../../src/operations/secrets/index.ts";
import { program } from "../support/cli.ts";
import { type Example, fileOf, looksLike, readExamples, readLinks, splitOutput, toScript } from "../support/docs.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import { type PostgresServer, startPostgres } from "../support/postgres-server.ts";

const root = resolve(import.meta.dirname, "../..");
const pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", ...globSync("docs/*.md", { cwd: root })].sort();
const runnable = pages
  .map((page) => ({ page, examples: readExamples(join(root, page)) }))
  .filter(({ examples }) => examples.length > 0);

/** Older ones do not read AWS_ENDPOINT_URL, and would ask AWS itself. */
function isRecent(printed: string, first: readonly string[]): boolean {
  const [major = "", minor = ""] = /(\d+)\.(\d+)\./.exec(printed)?.slice(1) ?? [];
  return first.some((one) => one.split(".")[0] === major && Number(minor) >= Number(one.split(".")[1]));
}
const printedBy = (command: string, ...args: string[]) => spawnSync(command, args, { encoding: "utf8" }).stdout ?? "";
/** Whether an example uses what is no part of this project and may be missing. */
const usesAws = ({ how, text }: Example) => how === "aws" || /^\s*aws |\$\(aws /m.test(text);
const usesBoto = ({ language }: Example) => language === "python";
const hasAws = isRecent(printedBy("aws", "--version"), ["1.29", "2.13"]);
const hasBoto = isRecent(printedBy("python3", "-c", "import boto3; print(boto3.__version__)"), ["1.28"]);
const isThere = (example: Example) => (hasAws || example.how !== "aws") && (hasBoto || !usesBoto(example));

/** Why a page cannot be run here. Examples build on each other; only those that say `aws` or `python` may be left out alone. */
function missing(examples: readonly Example[]): string | false {
  return (
    !hasAws &&
    examples.some((example) => example.how !== "aws" && usesAws(example)) &&
    "no AWS CLI of version 2.13 or 1.29, or later"
  );
}

describe("examples", { concurrency: 2 }, () => {
  for (const { page, examples } of runnable) {
    test(page, { skip: missing(examples) }, async (context) => {
      const folder = mkdtempSync(join(tmpdir(), "rekey-docs-"));
      try {
        const there = examples.filter(isThere);
        for (const { line, language } of examples.filter((example) => !isThere(example)))
          context.diagnostic(
            `${page}:${line} is not run: ${language === "python" ? "boto3" : "the AWS CLI"} is not installed, or old`,
          );
        await runPage(page, there, folder);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});

async function runPage(page: string, examples: readonly Example[], folder: string): Promise<void> {
  await using postgres = examples.some(needsDatabase) ? await startPostgres() : undefined;
  await using issuer = await startIssuer(Date.now);
  const database = (await postgres?.newDatabase()) ?? "";
  const inDatabase = postgres ? adapterTo(postgres, new URL(database).pathname.slice(1)) : (text: string) => text;
  const inPlace = await adapter(issuer.url);
  const adapt = (text: string) => inPlace(inDatabase(text));
  const adapted = examples.map((example) => ({ ...example, text: adapt(example.text) }));
  furnish(folder, database);
  writeFileSync(join(folder, "workload.token"), await issuer.token(workload));
  for (const [index, example] of adapted.entries()) {
    const file = fileOf(example, index);
    if (file !== undefined) writeFileSync(join(folder, file), `${example.text}\n`);
  }
  const { stdout, stderr, code } = await runScript(`${adapt(prelude)}${toScript(adapted)}`, folder);
  const outputs = splitOutput(stdout, adapted.length);
  for (const [index, { line, output }] of adapted.entries()) {
    const printed = outputs[index];
    const ended = printed === undefined || (code !== 0 && outputs[index + 1] === undefined);
    assert.ok(!ended, `${page}:${line} failed (${code}):\n${printed ?? ""}\n${stderr}`);
    if (output !== undefined)
      assert.ok(looksLike(printed, adapt(output)), `${page}:${line} printed\n${printed}\nand not\n${output}`);
  }
  assert.equal(code, 0, stderr);
}

/** Whose token the examples have. */
const workload = { sub: "repo:acme/shop:ref:refs/heads/main", aud: "sts.amazonaws.com" };

const needsDatabase = ({ text }: Example): boolean => /\b5432\b|db\.example\.com|the_database|sql\.mjs/.test(text);

/** Ports, the issuer and the way to start the program are those of this machine; all else but the database is run as it is printed. */
async function adapter(issuer: string): Promise<(text: string) => string> {
  const ports = new Map(await Promise.all(["7353", "7354", "7355"].map(async (port) => [port, await freePort()] as const)));
  return (text) =>
    text
      .replaceAll(/\b735[345]\b/g, (port) => String(ports.get(port)))
      .replaceAll("https://token.issuer.example", issuer)
      .replaceAll("token.issuer.example", new URL(issuer).host)
      .replaceAll("npm run -s rekey --", "command rekey");
}

const adapterTo =
  ({ host, port, password }: PostgresServer, database: string) =>
  (text: string): string =>
    text
      .replaceAll(/\b5432\b/g, String(port))
      .replaceAll("db.example.com", host)
      .replaceAll("the-superusers-password", password)
      .replaceAll("the_database", database);

/** The commands that pages suppose, in a folder that is first on the path. */
function furnish(folder: string, database: string): void {
  const bin = join(folder, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "rekey"), `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`);
  chmodSync(join(bin, "rekey"), 0o755);
  symlinkSync(process.execPath, join(bin, "node"));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  writeFileSync(join(folder, "package.json"), "{}");
  const run = "import { readFileSync } from 'node:fs'; import pg from 'pg';";
  const url = JSON.stringify(database);
  writeFileSync(
    join(folder, "sql.mjs"),
    `${run} const db = new pg.Client(${url}); await db.connect(); await db.query(readFileSync(process.argv[2], 'utf8')); await db.end();\n`,
  );
}

/** An example that waits for what never comes is ended. */
const hangsMs = 500_000;

const prelude = `
export REKEY_LISTEN=127.0.0.1:7353
until_listening() {
  for _ in $(seq 1200); do
    if grep -qE "rekey: (listening|agent .* works)" "$1"; then return 0; fi
    if ! kill -0 "$server" 2> /dev/null; then break; fi
    sleep 0.1
  done
  cat "$1" >&2; return 1
}
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
`;

async function runScript(script: string, folder: string): Promise<{ stdout: string; stderr: string; code: number | null }> {
  const path = `${join(folder, "bin")}:${process.env.PATH ?? ""}`;
  const { NODE_COMPILE_CACHE } = process.env;
  const place = { PATH: path, HOME: folder, LANG: "C.UTF-8", TZ: "UTC", NODE_COMPILE_CACHE };
  const env = { ...place, AWS_EC2_METADATA_DISABLED: "true", AWS_PAGER: "" };
  const child = spawn("bash", ["-c", script], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"], timeout: hangsMs });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, "close");
  return { stdout, stderr, code };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  return typeof address === "object" && address ? address.port : 0;
}

test("links lead to pages and headings that are there", () => {
  const problems: string[] = [];
  for (const page of pages) {
    const { links } = readLinks(readFileSync(join(root, page), "utf8"));
    for (const link of links.filter((one) => !/^[a-z]+:/.test(one))) {
      const [path = "", anchor] = link.split("#");
      const file = path === "" ? join(root, page) : resolve(root, dirname(page), path);
      if (!existsSync(file)) problems.push(`${page}: ${link} is not there`);
      else if (anchor !== undefined && !readLinks(readFileSync(file, "utf8")).anchors.has(anchor))
        problems.push(`${page}: ${link} has no such heading`);
    }
  }
  assert.deepEqual(problems, []);
});

test("files that pages name are there", () => {
  const problems: string[] = [];
  for (const page of pages) {
    const named = readFileSync(join(root, page), "utf8").match(/`(test|src|scripts|bench|docs)\/[\w./-]+`/g) ?? [];
    for (const name of named) if (!existsSync(join(root, name.slice(1, -1)))) problems.push(`${page}: ${name} is not there`);
  }
  assert.deepEqual(problems, []);
});

test("the table of settings is the program's", () => {
  const rows = Object.entries(settings).map(([name, setting]) => {
    const standard = "default" in setting ? `\`${setting.default}\`` : "";
    const what = `${setting.about[0]?.toUpperCase()}${setting.about.slice(1)}`.replaceAll("|", "\\|");
    return `| \`${flagOf(name)}\` | \`${variableOf(name)}\` | ${setting.parts.join(", ")} | ${standard} | ${what}; ${setting.range} |`;
  });
  const text = readFileSync(join(root, "docs/running.md"), "utf8");
  const table = rows.join("\n");
  assert.ok(text.includes(table), `docs/running.md should have these rows:\n${table}`);
});

test("every remedy of a rotation stands in the page about troubleshooting", () => {
  const said = [
    ...["core/{rotation,login-outcome,retirement}", "functions/{call,lambda}-failure", "functions/lambda"],
    ...["engine/{held-rotation,invoke,issue,issue-room,retire-credential,retire-evidence,topology}"],
  ];
  // Remedies are the sentences there; what else is said begins small, or with the name of what failed.
  const sentence = /"((?!AWS|Runtime|How)[A-Z][^"\n]* [^"\n]* [^"\n]*)"|`((?!AWS|Runtime)[A-Z][^`]* [^`]* [^`]*)`/g;
  const remedies = said
    .flatMap((name) => globSync(`src/${name}.ts`, { cwd: root }))
    .flatMap((file) => [...readFileSync(join(root, file), "utf8").matchAll(sentence)])
    .map(([, plain, template = ""]) => plain ?? template.replaceAll(/\$\{[^}]*\}/g, "…"));
  assert.ok(remedies.length > 40, String(remedies.length));
  const page = readFileSync(join(root, "docs/troubleshooting.md"), "utf8");
  assert.deepEqual(
    remedies.filter((text) => !page.includes(text)),
    [],
  );
});

test("every operation, action and metric has its place in the pages", () => {
  const read = (path: string) => readFileSync(join(root, path), "utf8");
  const compatibility = read("docs/aws-compatibility.md");
  const names = awsOperations.map(({ name }) => name);
  assert.equal(names.length, 23);
  assert.deepEqual(
    names.filter((name) => !compatibility.includes(`| ${name} |`)),
    [],
  );
  const actions = operations.map(({ action = "" }) => action).filter((action) => /^(rekey|lambda):/.test(action));
  assert.deepEqual(
    actions.filter((action) => !read("docs/policies.md").includes(`\`${action}\``)),
    [],
  );
  const metrics = globSync("src/http/*.ts", { cwd: root }).flatMap((file) => read(file).match(/\brekey_[a-z_]+/g) ?? []);
  assert.ok(metrics.length > 0);
  assert.deepEqual(
    metrics.filter((name) => !read("docs/running.md").includes(`\`${name.replace(/_(bucket|sum|count)$/, "")}\``)),
    [],
  );
});
