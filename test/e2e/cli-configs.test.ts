// Projects, environments, configs and their secrets on the command line.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type ConfigCli, configCli } from "../support/config-cli.ts";

let cli: ConfigCli;

before(async () => {
  cli = await configCli();
});
after(() => cli[Symbol.asyncDispose]());

/** Expects it to be done, with nothing on standard error. */
async function ask(command: string | readonly string[], input?: string): Promise<string> {
  const args = typeof command === "string" ? command.split(" ") : command;
  const ran = await cli.rekey(args, { ...(input !== undefined && { input }) });
  assert.deepEqual([ran.code, ran.err], [0, ""], args.join(" "));
  return ran.out;
}
const askJson = async (command: string): Promise<Record<string, unknown>> => JSON.parse(await ask(`${command} --json`));

test("projects, from the first to none", async () => {
  assert.match(
    await ask(["projects", "create", "blog", "--description", "our blog"]),
    /^project blog is made; rekey setup --project blog/,
  );
  assert.match(await ask("projects"), /^ID +NAME +CREATED +DESCRIPTION\n[\s\S]*blog +blog +\S+ \S+Z +our blog\n/);
  assert.match(await ask("projects update blog --name weblog"), /^Id +blog\nName +weblog\n/);
  assert.match(await ask("projects get weblog"), /^Id +blog\n/);
  const refused = await cli.rekey(["projects", "delete", "blog"]);
  assert.deepEqual([refused.code, refused.err], [2, "rekey: nothing was changed: give --yes to do it without being asked\n"]);
  assert.equal(await ask("projects delete blog --yes"), "project blog is deleted\n");
  const { projects } = await askJson("projects list");
  assert.deepEqual(Array.isArray(projects) && projects.map(({ id }) => id), ["shop"]);
  const gone = await cli.rekey(["projects", "get", "blog"]);
  assert.deepEqual([gone.code, gone.err.includes("blog")], [1, true]);
});

test("environments and their slugs", async () => {
  assert.match(await ask("environments"), /^SLUG +NAME +CREATED +FIRST FETCH\ndev +Development/);
  assert.equal(await ask("environments create Testing tst"), "environment tst is made, with root config tst\n");
  assert.match(await ask("environments rename tst --slug qa"), /^Slug +qa\nName +Testing\n/);
  assert.match(await ask("configs --environment qa"), /\nqa +qa +yes/);
  assert.match(await ask("environments get qa"), /^Slug +qa\n/);
  assert.equal(await ask("environments delete qa --yes"), "environment qa is deleted\n");
});

test("configs: branches, clones, locks, what they inherit", async () => {
  assert.equal(await ask("configs create dev_alice"), "config dev_alice is made\n");
  assert.equal(await ask("configs clone dev_alice --name dev_try"), "config dev_try is made\n");
  assert.match(await ask("configs update dev_try --name dev_tried"), /^Name +dev_tried\n/);
  assert.equal(await ask("configs lock dev_tried"), "config dev_tried is locked\n");
  assert.equal((await cli.rekey(["configs", "delete", "dev_tried", "--yes"])).code, 1);
  assert.equal(await ask("configs unlock dev_tried"), "config dev_tried is unlocked\n");
  assert.equal(await ask("configs delete dev_tried --yes"), "config dev_tried is deleted\n");
  await ask("configs update stg --inheritable yes");
  assert.match(await ask("configs update dev_alice --inherits shop.stg"), /\nInherits +shop\.stg\n/);
  assert.match(await ask("configs get stg"), /\nInheritable +yes\n[\s\S]*Inherited by +shop\.dev_alice\n/);
  assert.match(await ask("configs update dev_alice --inherits none"), /\nInherits +-\n/);
  const many = Array.from({ length: 105 }, (_, index) =>
    cli.api("configs", { project: "shop", environment: "dev", name: `dev_${index}` }),
  );
  await Promise.all(many);
  const { configs } = await askJson("configs");
  assert.equal(Array.isArray(configs) && configs.length, 109);
});

test("secrets: set, shown, masked, taken back", async () => {
  assert.equal(await ask("secrets set KEY", "hunter2\n"), "set: KEY\n");
  assert.equal(
    await ask(["secrets", "set", "LOG=debug=x", "URL=pg://$".concat("{KEY}"), "--visibility", "unmasked"]),
    "set: LOG, URL\n",
  );
  const table = await ask("secrets");
  assert.match(table, /\nKEY +\*{8} +masked\n/);
  assert.match(table, /\nLOG +debug=x +unmasked\n/);
  assert.match(await ask("secrets --values"), /\nKEY +hunter2 +masked\n/);
  assert.match(await ask("secrets --values --raw"), /\nURL +pg:\/\/\$\{KEY\} /);
  assert.equal(await ask("secrets get URL"), "pg://hunter2");
  assert.equal(await ask("secrets get URL --raw"), "pg://$".concat("{KEY}"));
  assert.match(await ask("secrets --only-names"), /^DOPPLER_CONFIG\n[\s\S]*KEY\nLOG\nURL\n$/);
  assert.equal(await ask(["secrets", "note", "KEY", "of the bank"]), "the note of KEY is kept\n");
  assert.match(await ask("secrets"), /\nKEY .* of the bank\n/);
  const inBranch = await ask("secrets delete LOG --yes --config dev_alice");
  assert.equal(inBranch, "deleted: LOG; what the root or a parent has is shown: LOG\n");
  assert.equal(await ask("secrets delete LOG --yes"), "deleted: LOG\n");
  const gone = await cli.rekey(["secrets", "delete", "LOG", "--yes"]);
  assert.deepEqual([gone.code, gone.out, /LOG was not changed.*does not exist/.test(gone.err)], [1, "", true], gone.err);
  const two = await cli.rekey(["secrets", "get", "A", "B"]);
  assert.deepEqual([two.code, /too many arguments/.test(two.err), /values of secrets/.test(two.err)], [2, true, false], two.err);
  const logs = await ask("configs logs");
  const [, newest = ""] = /\n(\S+) .*/.exec(logs) ?? [];
  assert.match(await ask(`configs logs get ${newest}`), /\nNAME +CHANGE\nLOG +removed\n/);
  assert.match(await ask(`configs logs get ${newest} --values`), /\nLOG +removed +debug=x/);
  assert.match(await ask(`configs logs rollback ${newest} --yes`), /is taken back by change \S+\n/);
  assert.equal(await ask("secrets get LOG"), "debug=x");
  assert.match(await ask("activity --max 3"), /^ID +TIME +WHO +WHAT\n(.*\n){3}$/);
  const typed = await cli.rekey(["secrets", "set", "PORT=http", "--type", "integer"]);
  assert.deepEqual([typed.code, typed.err.includes("http")], [1, false]);
  const lower = await cli.rekey(["secrets", "set", "lower=x"]);
  assert.deepEqual([lower.code, /uppercase letters/.test(lower.err)], [1, true]);
});

test("values for machines only are not shown to people, and run says so", async () => {
  await ask("secrets set ONLY --visibility restricted --config stg", "for machines");
  assert.match(await ask("secrets --values --config stg"), /\nONLY +\[restricted\] /);
  const got = await cli.rekey(["secrets", "get", "ONLY", "--config", "stg"]);
  assert.deepEqual([got.code, /restricted: only service tokens/.test(got.err)], [1, true]);
  const ran = await cli.rekey(["run", "--config", "stg", "--command", "echo $ONLY"]);
  assert.deepEqual([ran.code, /restricted.*ONLY/.test(ran.err)], [1, true], ran.err);
  await ask("secrets set OPEN=x --config stg");
  const named = await cli.rekey(["run", "--config", "stg", "--only-secrets", "OPEN", "--command", "echo $OPEN"]);
  assert.deepEqual([named.out, named.err], ["x\n", ""]);
  const env = { REKEY_TOKEN: await cli.serviceToken("read", "stg") };
  const token = await cli.rekey(["run", "--config", "stg", "--command", "echo $ONLY"], { env });
  assert.equal(token.out, "for machines\n");
});

test("downloads in formats and to a sealed file, uploads, substitution, export", async () => {
  writeFileSync(join(cli.folder, "more.env"), 'MULTI="two\\nlines"\nPLAIN=x\n');
  assert.match(await ask("secrets upload more.env"), /^uploaded; the config has \d+ secrets now\n$/);
  assert.match(await ask("secrets download --no-file --format env"), /\nMULTI="two\\nlines"\nPLAIN="x"\n/);
  assert.equal(await ask("secrets download --no-file --only-secrets PLAIN --name-transformer camel"), '{"plain":"x"}\n');
  assert.equal((await askJson("secrets download --no-file --dynamic-ttl 3h")).PLAIN, "x");
  assert.match(await ask("secrets download kept.rekey"), /^kept\.rekey holds \d+ secrets; rekey run --fallback kept\.rekey/);
  assert.ok(!readFileSync(join(cli.folder, "kept.rekey"), "utf8").includes("PLAIN"));
  assert.equal((await cli.rekey(["run", "--fallback", "kept.rekey", "--fallback-only", "--command", "echo $PLAIN"])).out, "x\n");
  const mixed = await cli.rekey(["secrets", "download", "x", "--format", "env"]);
  assert.deepEqual([mixed.code, /go with --no-file/.test(mixed.err)], [2, true]);
  writeFileSync(join(cli.folder, "conf.template"), "key = {{KEY}};\n");
  assert.equal(await ask("secrets substitute conf.template"), "key = hunter2;\n");
  assert.match(await ask("export --format yaml"), /^KEY: "hunter2"\n/);
  assert.equal(await ask("export --output out.env"), "5 secrets are in out.env, in clear\n");
});

test("project and config come from flags, then variables, then the nearest file; a service token names its own", async () => {
  const deep = join(cli.folder, "app", "deep");
  mkdirSync(deep, { recursive: true });
  const bare = { REKEY_PROJECT: "", REKEY_CONFIG: "" };
  const at = (args: readonly string[], env: Record<string, string> = bare, cwd = deep) => cli.rekey(args, { env, cwd });
  const lacking = await at(["secrets"]);
  assert.deepEqual(
    [lacking.code, lacking.err],
    [2, "rekey: it is not told which project: run rekey setup here, or give --project\n"],
  );
  const asked = await at(["setup", "--project", "shop"]);
  assert.match(asked.err, /^rekey: give --config, one of: dev, /);
  const wrong = await at(["setup", "--project", "shop", "--config", "nope"]);
  assert.equal(wrong.code, 1);
  const made = await at(["setup", "--project", "shop", "--config", "stg"], bare, join(cli.folder, "app"));
  assert.match(made.out, /^this folder uses project shop, config stg \(/);
  assert.equal(readFileSync(join(cli.folder, "app", ".rekey.yaml"), "utf8"), "project: shop\nconfig: stg\n");
  const shown = await at(["setup", "--show"]);
  assert.match(
    shown.out,
    /\nendpoint +http:\S+ +REKEY_ENDPOINT\ntoken +dp\.pt\.… +REKEY_TOKEN\nproject +shop +\S+\/app\/\.rekey\.yaml\nconfig +stg +\S+yaml\n$/,
  );
  const layered = JSON.parse((await at(["setup", "--show", "--json", "-c", "prd"], { ...bare, REKEY_PROJECT: "other" })).out);
  assert.deepEqual([layered.project.source, layered.config], ["REKEY_PROJECT", { value: "prd", source: "--config" }]);
  assert.equal(layered.token.value, "dp.pt.…");
  const named = await at(["configs", "get", "prd", "--project", "shop"], bare, cli.folder);
  assert.match(named.out, /^Name +prd\n/, named.err);
  assert.match((await at(["projects", "get", "shop"], bare, cli.folder)).out, /^Id +shop\n/);
  const config = async (env: Record<string, string>) =>
    (await at(["run", "--command", "echo $REKEY_CONFIG"], { ...bare, ...env })).out;
  assert.equal(await config({}), ""); // people may not have stg's restricted secret
  assert.equal(await config({ REKEY_CONFIG: "prd" }), "prd\n");
  assert.equal(await config({ REKEY_TOKEN: await cli.serviceToken("read", "dev") }), "dev\n");
  writeFileSync(join(deep, ".rekey.yaml"), "project: shop\nendpoint: http://evil.example\n");
  const odd = await at(["secrets"]);
  assert.deepEqual([odd.code, /may hold project and config.*but has endpoint/.test(odd.err)], [2, true]);
});

test("a value that was given as an argument is not shown to other users", { skip: process.platform !== "linux" }, async () => {
  const silent = createServer().listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  const env = { REKEY_ENDPOINT: `http://127.0.0.1:${port}` };
  const child = cli.begin(["secrets", "set", "A=hunter2", "B=hunter2", "--visibility", "masked"], env);
  await once(silent, "connection");
  const shown = readFileSync(`/proc/${child.pid}/cmdline`, "utf8");
  assert.match(shown, /^rekey secrets set A=\*\*\* B=\*\*\* --visibility masked/);
  assert.ok(!shown.includes("hunter2"));
  child.kill();
  await child.closed;
  const waits = cli.begin(["run", "--", "true"], env);
  await once(silent, "connection");
  waits.kill("SIGTERM");
  await waits.closed;
  assert.equal(waits.exitCode, 143, waits.shown());
  silent.close();
});

test("what is not there is told, with what is", async () => {
  for (const [args, said] of [
    [["configs", "lst"], /unknown command 'lst'|too many arguments/],
    [["secrets", "set", "A", "B"], /standard input holds one value/],
    [["secrets", "set", "A", "B", "--value-file", "x"], /goes with one NAME alone/],
    [["configs", "update"], /give --name, --inheritable or --inherits/],
    [["configs", "update", "--inheritable", "maybe"], /must be yes or no/],
    [["import", "nowhere.env"], /nowhere\.env cannot be read \(ENOENT\)/],
    [["completion", "csh"], /bash, zsh and fish/],
  ] as const) {
    const ran = await cli.rekey(args, { input: "" });
    assert.deepEqual([ran.code, ran.out], [2, ""], args.join(" "));
    assert.match(ran.err, said);
  }
});
