// What callers see while nothing can be written: files of the server may not grow beyond a few pages, as on a full disk.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings } from "../support/aws.ts";
import { program } from "../support/cli.ts";
import { startRekey } from "../support/rekey-server.ts";

const maxFileBytes = 4096;
const hasLimits = spawnSync("prlimit", ["--version"]).status === 0;
const skip = hasLimits || process.env.CI ? false : "prlimit (util-linux) is not here";

test("while nothing can be written no call is answered and nothing is half done; then all goes on", { skip }, async () => {
  await using server = await startRekey({ flags: ["--log-level", "fatal"] });
  const limit = (bytes: string) => {
    const { status, stderr } = spawnSync("prlimit", ["--pid", String(server.pid), `--fsize=${bytes}:unlimited`]);
    assert.equal(status, 0, stderr?.toString());
  };
  const secrets = new SecretsManager(clientSettings(server));
  await secrets.createSecret({ Name: "kept", SecretString: "kept-value" });
  for (let n = 0; n < 20; n += 1) await secrets.getSecretValue({ SecretId: "kept" }); // the trail is longer than the limit

  limit(String(maxFileBytes));
  const token = randomUUID();
  const asked: [string, () => Promise<unknown>][] = [
    ["a read", () => secrets.getSecretValue({ SecretId: "kept" })],
    ["a list", () => secrets.listSecrets({})],
    ["a refusal", () => secrets.getSecretValue({ SecretId: "absent" })],
    ["a password", () => secrets.getRandomPassword({})],
    ["a new version", () => secrets.putSecretValue({ SecretId: "kept", SecretString: "lost", ClientRequestToken: token })],
    ["a deletion", () => secrets.deleteSecret({ SecretId: "kept", ForceDeleteWithoutRecovery: true })],
    ...Array.from({ length: 8 }, (_, n): [string, () => Promise<unknown>] => [
      `secret ${n}`,
      () => secrets.createSecret({ Name: `lost-${n}`, SecretString: "lost" }),
    ]),
  ];
  const answers = await Promise.allSettled(asked.map(([, call]) => call()));
  for (const [index, answer] of answers.entries()) {
    const what = asked[index]?.[0];
    assert.equal(answer.status, "rejected", `${what} was answered`);
    assert.deepEqual([answer.reason.name, answer.reason.$metadata?.httpStatusCode], ["InternalServiceError", 500], what);
    assert.doesNotMatch(JSON.stringify(answer.reason), /kept-value/, what);
  }

  limit("unlimited");
  const value = await secrets.getSecretValue({ SecretId: "kept" });
  assert.equal(value.SecretString, "kept-value");
  const { SecretList = [] } = await secrets.listSecrets({});
  assert.deepEqual(
    SecretList.map(({ Name }) => Name),
    ["kept"],
  );
  await secrets.putSecretValue({ SecretId: "kept", SecretString: "newer", ClientRequestToken: token });
  assert.equal((await secrets.getSecretValue({ SecretId: "kept" })).SecretString, "newer");
  assert.equal(await server.stop(), 0);
  const verify = spawnSync(process.execPath, [program, "audit", "verify", "--data", server.dataFolder, "--json"]);
  assert.equal(verify.status, 0, verify.stdout.toString() + verify.stderr.toString());
});
