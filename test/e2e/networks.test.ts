// Networks from the command line, and what a server says of one that nobody is in.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { nativeOk } from "../support/aws.ts";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { declarationAt } from "../support/http-api-world.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-networks-"));
let server: RekeyServer;
let root: CommandLine;
before(async () => {
  server = await startRekey();
  root = commandLine(server.endpoint, server.credentials.token, folder);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const refused = async (words: string): Promise<string> => {
  const error: unknown = await root.ask(words).then(
    () => assert.fail(`${words}: went well`),
    (thrown) => thrown,
  );
  return String(error);
};

test("a network is made, listed, shown, changed and deleted", async () => {
  const made = await root.ask("network create plant --description far");
  assert.match(made, /^Name +plant\nDescription +far\nFunctions +none: through its agents\n/);
  assert.match(await refused("network create plant"), /There is a network plant already/);
  assert.match(await root.ask("network list"), /NAME +FUNCTIONS +CHANGED +DESCRIPTION\nplant +none: through its agents .*far/);
  await nativeOk(server, "functions/create", { functionName: "api", httpApi: declarationAt("https://api.example.com") });
  assert.match(await refused("network update plant --function postgres=api"), /is no function of AWS Lambda/);
  assert.match(await refused("network update plant --function postgres=nothing"), /Function not found/);
  assert.match(await refused("network update plant --function random=api"), /unctions/);
  assert.match(await refused("network update plant --function postgres"), /KIND=NAME/);
  assert.match(await refused("network create Plant"), /small letters/);
  assert.match(await root.ask("network update plant --description near"), /Description +near/);
  assert.equal(await root.ask("network delete plant"), "network plant is deleted\n");
  assert.match(await refused("network show plant"), /Could not find network plant/);
});

test("a network with nobody in it is unreachable, and nothing is kept or changed by that", async () => {
  await root.ask("network create lonely");
  const data = { host: "db.internal", username: "u", password: "canary-of-the-manager" };
  const integration = { name: "main", type: "postgres", network: "lonely", data };
  const response = await fetch(`${server.endpoint}/rekey/v1/integrations/create`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.credentials.token}`, "content-type": "application/json" },
    body: JSON.stringify(integration),
  });
  const text = await response.text();
  assert.equal(response.status, 400);
  assert.match(text, /Nothing was kept/);
  assert.match(text, /lonely/);
  assert.ok(!text.includes("canary"));
  const value = JSON.stringify({ engine: "postgres", host: "db.internal", username: "app", password: "first" });
  await root.ask("secret create far/db", value);
  assert.match(await root.ask("rotation policy far/db --network lonely"), /\nNetwork +lonely\n/);
  assert.match(await refused("rotation policy far/db --network nowhere"), /Could not find network nowhere/);
  assert.match(await refused("network delete lonely"), /used by secret far\/db\. Take it out of the network first/);
  await root.ask("secret create far/too", value);
  await root.ask("rotation policy far/too --network lonely");
  assert.match(await refused("network delete lonely"), /used by secrets far\/db, far\/too\. Take them out of the network first/);
  await root.ask("rotation policy far/too --clear network");
  await nativeOk(server, "secrets/rotate", {
    secretId: "far/db",
    rotationLambdaArn: `arn:aws:lambda:us-east-1:${server.credentials.account}:function:SecretsManagerRDSPostgreSQLRotationSingleUser`,
  });
  const kept = await nativeOk(server, "secrets/get-value", { secretId: "far/db" });
  assert.equal(JSON.parse(String(kept.secretString)).password, "first");
  await root.ask("rotation policy far/db --clear network");
  await root.ask("network delete lonely");
});
