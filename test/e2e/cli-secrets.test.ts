import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-cli-"));
let server: RekeyServer;
let root: CommandLine;

const file = (name: string, content: string): string => {
  writeFileSync(join(folder, name), content);
  return name;
};

before(async () => {
  server = await startRekey();
  root = commandLine(server.endpoint, server.credentials.token, folder);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

test("from the first value to deletion, in tables and in JSON", async () => {
  assert.match(
    await root.ask("secret create app/db --description database --tag Team=Data Stage=prod", "first\n"),
    /^Name +app\/db\nARN +arn:aws:/,
  );
  assert.equal(await root.ask("secret get app/db"), "first");
  await root.ask(`secret put app/db --value-file ${file("value.json", '{"username":"u","password":"p w"}\n')}`);
  assert.equal(await root.ask("secret get app/db --field password"), "p w");
  assert.equal(await root.ask("secret get app/db --stage AWSPREVIOUS"), "first");
  assert.equal((await root.askJson("secret get app/db")).secretString, '{"username":"u","password":"p w"}\n');
  assert.match(await root.ask("secret list"), /^NAME +ROTATION .*\napp\/db +off .*\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ/);
  assert.match(await root.ask("secret list --filter name=nothing"), /^no secrets\n$/);
  const { secretList } = await root.askJson("secret list --max 1");
  assert.equal(Array.isArray(secretList) && secretList.length, 1);
  assert.match(await root.ask("secret describe app/db"), /\nTags +Team=Data, Stage=prod\n/);
  assert.match(await root.ask("secret versions app/db"), /AWSCURRENT.*\n.*AWSPREVIOUS/);
  const { versions } = await root.askJson("secret versions app/db --all");
  assert.ok(Array.isArray(versions) && versions.length === 2);
  const first = versions.find(({ versionStages }) => versionStages.includes("AWSPREVIOUS"));
  assert.equal(await root.ask(`secret get app/db --version ${first.versionId}`), "first");
  await root.ask("secret tag app/db Owner=me");
  await root.ask("secret untag app/db Team Stage");
  assert.match(await root.ask("secret describe app/db"), /\nTags +Owner=me\n/);
  assert.match(
    await root.ask("secret delete app/db --days 7"),
    /^app\/db will be deleted on \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ; rekey secret restore/,
  );
  assert.match(await root.ask("secret list --deleted"), /app\/db/);
  await root.ask("secret restore app/db");
  assert.match(await root.ask("secret delete app/db --now"), /is deleted/);
  assert.equal((await root.run("secret get app/db")).code, 1);
});

test("values go in and come out byte for byte", async () => {
  const bytes = join(folder, "bytes");
  const odd = Buffer.from([0, 255, 13, 10]);
  writeFileSync(bytes, odd);
  const refused = await root.run(["secret", "create", "bytes", "--value-file", bytes]);
  assert.deepEqual([refused.code, refused.err], [2, "rekey: the value is not UTF-8 text; add --binary to keep it as bytes\n"]);
  await root.ask(`secret create bytes --binary --value-file ${bytes}`);
  assert.equal((await root.askJson("secret get bytes")).secretBinary, odd.toString("base64"));
  await root.ask("secret create piped --binary", odd);
  assert.deepEqual((await root.run("secret get piped")).bytes, odd);
  assert.equal((await root.run("secret get piped --field a")).code, 1);
  await root.ask("secret put piped --value-file -", "two\nlines\n");
  assert.equal(await root.ask("secret get piped"), "two\nlines\n");
  await root.ask("secret put piped", "echoed\r\n");
  assert.equal(await root.ask("secret get piped"), "echoed");
  const nothing = await root.run("secret put piped");
  assert.deepEqual([nothing.code, /the value is empty/.test(nothing.err)], [2, true]);
  assert.match(await root.ask("secret create empty --no-value"), /^Name +empty\n/);
});

test("a value is never an argument, and what was typed is not repeated", async () => {
  for (const args of [
    ["secret", "put", "bytes", "hunter2"],
    ["secret", "create", "x", "hunter2"],
    ["secret", "put", "bytes", "--value=hunter2"],
    ["secret", "put", "bytes", "--secret-string=hunter2"],
  ]) {
    const { code, err } = await root.run(args, "v");
    assert.equal(code, 2, args.join(" "));
    assert.equal(err.trimEnd().split("\n").length, 1);
    assert.ok(!err.includes("hunter2"), err);
  }
});

test("lists are read to their last page", async () => {
  for (let index = 0; index < 130; index++) {
    const body = JSON.stringify({ name: `many/${index}`, secretString: "v" });
    const headers = { authorization: `Bearer ${server.credentials.token}`, "content-type": "application/json" };
    await fetch(`${server.endpoint}/rekey/v1/secrets/create`, { method: "POST", headers, body });
  }
  const { secretList, cursor } = await root.askJson("secret list --filter name=many/");
  assert.deepEqual([Array.isArray(secretList) && secretList.length, cursor], [130, undefined]);
  const table = await root.ask("secret list --filter name=many/ --max 120");
  const lines = table.trimEnd().split("\n");
  assert.equal(lines.length, 121);
  const column = lines[0]?.indexOf("ROTATION") ?? -1;
  assert.ok(
    lines.slice(1).every((line) => line.startsWith("off", column)),
    table,
  );
  const refused = await root.run("secret list --max none");
  assert.deepEqual([refused.code, refused.err], [2, "rekey: --max must be a whole number\n"]);
});

test("rotation is set and refused as the API does", async () => {
  await root.ask("secret create rotated", '{"engine":"postgres","host":"127.0.0.1","port":9,"username":"u","password":"p"}');
  const { code, err } = await root.run("secret rotate rotated --function NoSuchFunction");
  assert.equal(code, 1);
  assert.match(err, /^rekey: AccessDeniedException: Secrets Manager cannot invoke the specified Lambda function\./);
  const single = "SecretsManagerRDSPostgreSQLRotationSingleUser";
  const set = ["secret", "rotate", "rotated", "--function", single, "--schedule", "rate(10 days)", "--window", "3h"];
  await root.ask([...set, "--no-immediately"]);
  assert.match(
    await root.ask("secret describe rotated"),
    /\nRotation +on\nFunction +arn:aws:lambda:.*\nSchedule +rate\(10 days\) within 3h\n/,
  );
  assert.match(await root.ask("rotation status rotated"), /^Secret +rotated\nVersion +\S+\nState +\w+\n/);
  assert.match(await root.ask("rotation status"), /^(SECRET +STATE|no rotation runs)/);
  assert.match(await root.ask("rotation history rotated"), /^BEGUN .*\n.* rotated +\w+ /);
  const { rotations } = await root.askJson("rotation history --max 5");
  assert.equal(Array.isArray(rotations) && rotations.length, 1);
  assert.match(await root.ask("rotation cancel rotated"), /^rotation of rotated is off/);
  await root.ask([...set, "--no-immediately"]);
});
