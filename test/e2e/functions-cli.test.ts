// `rekey function` from the command line: registered, given its policies as printed, rotating, looked at, deleted.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { functionWorld, nodeRotation } from "../support/function-world.ts";

describe("rekey function", () => {
  let world: Awaited<ReturnType<typeof functionWorld>>;
  let rekey: CommandLine;
  before(async () => {
    world = await functionWorld();
    world.write("rotate.mjs", nodeRotation);
    rekey = commandLine(world.server.endpoint, world.server.credentials.token, world.folder);
  });
  after(() => world[Symbol.asyncDispose]());
  const file = (name: string, text: string) => {
    writeFileSync(join(world.folder, name), text);
    return name;
  };

  it("does all of it in the order that its help tells", async () => {
    const trust = { Effect: "Allow", Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" };
    file("trust.json", JSON.stringify({ Version: "2012-10-17", Statement: [trust] }));
    await rekey.ask("role create rotator --trust-file trust.json");
    const made = await rekey.ask(
      "function create rotate-app --runtime node --file rotate.mjs --role rotator --env GREETING=hello --timeout-seconds 20",
    );
    assert.match(made, /Runs +node rotate.mjs/);
    assert.match(made, /nobody may invoke it/);
    assert.ok(!made.includes("hello"));
    const printed = JSON.parse((await rekey.run("function policy rotate-app")).out);
    assert.deepEqual(Object.keys(printed), ["role", "trust", "function"]);
    for (const part of ["role", "trust", "function"]) {
      const { out, code } = await rekey.run(`function policy rotate-app --part ${part}`);
      assert.equal(code, 0);
      assert.deepEqual(JSON.parse(out), printed[part]);
      file(`${part}.json`, out);
    }
    await rekey.ask("role trust rotator trust.json");
    await rekey.ask("policy create rotator-policy role.json");
    await rekey.ask("policy attach rotator-policy --role rotator");
    await rekey.ask("function set-policy rotate-app function.json");
    await world.newSecret({ username: "app", password: "first" }, "app/db");
    await rekey.ask(`secret rotate app/db --function ${world.arnOf("rotate-app")}`);
    assert.equal((await world.rotationOf("app/db")).state, "succeeded", await world.logs("rotate-app"));
    assert.match(await rekey.ask("function list"), /rotate-app +process +node rotate.mjs/);
    assert.match(await rekey.ask("function show rotate-app"), /Timeout +20 s/);
    assert.match(await rekey.ask("function logs rotate-app --max 4"), /step createSecret[\s\S]*step finishSecret/);
    assert.match(await rekey.ask("function update rotate-app --memory-mib 512"), /Memory +512 MiB/);
    const answer = await rekey.run("function invoke rotate-app --event -", '{"Step":"none","SecretId":"none"}');
    assert.match(answer.out, /Reason +function rotate-app failed: /);
    assert.equal(answer.code, 1, "scripts see that it failed");
    assert.match((await rekey.run("function create other")).err, /^rekey: say what it is: --runtime with --file and --role, or/);
    assert.match((await rekey.run("function create other --runtime node --file rotate.mjs")).err, /^rekey: give --role/);
    await rekey.ask("function delete rotate-app");
    assert.match(await rekey.ask("function list"), /no functions/);
  });

  it("the policies name the superuser's secret, the keys and the one secret that are asked for", async () => {
    file("more.mjs", "export const handler = () => 1");
    await world.create({ name: "multi", file: "more.mjs", bare: true });
    const { ARN } = await world.newSecret({ password: "x" }, "app/superuser");
    const key = "arn:aws:kms:us-east-1:000000000000:key/1";
    const { out } = await rekey.run([
      "function",
      "policy",
      "multi",
      "--multi-user",
      "app/superuser",
      "--key",
      key,
      "--secret",
      "app/superuser",
    ]);
    const { role, function: own } = JSON.parse(out);
    const statement = (sid: string) => role.Statement.find(({ Sid }: { Sid: string }) => Sid === sid);
    assert.deepEqual(
      [statement("ReadSuperuser").Action, statement("ReadSuperuser").Resource],
      [["secretsmanager:GetSecretValue"], ARN],
    );
    assert.deepEqual(statement("UseKeys").Resource, [key]);
    assert.ok(statement("UseKeys").Condition.StringLike["kms:EncryptionContext:SecretARN"].includes(ARN));
    assert.deepEqual(own.Statement[0].Condition.ArnEquals, { "aws:SourceArn": ARN });
  });

  it("says what is wrong with a call before it is made", async () => {
    for (const [command, message] of [
      ["function create a --runtime node", /--runtime and --file together/],
      ["function create a --external-id x", /go with --lambda/],
      ["function policy multi --part all", /--part must be/],
      ["function policy multi --single-user --multi-user x", /not both/],
    ] as const) {
      const { code, err } = await rekey.run(command);
      assert.equal(code, 2, command);
      assert.match(err, message);
    }
    const { code, err } = await rekey.run("function create a --runtime node --file ../a.mjs --role rotator");
    assert.equal(code, 1);
    assert.match(err, /File must be a path below the functions folder/);
  });
});
