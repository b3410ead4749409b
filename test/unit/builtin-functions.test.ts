import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinFunction, functionForEngine, templateRefusal } from "../../src/functions/builtin.ts";
import { findRotator } from "../../src/targets/index.ts";

/** Source: AWS Secrets Manager user guide, rotation function templates. */
const templates = [
  ...["Db2", "MariaDB", "MySQL", "Oracle", "PostgreSQL", "SQLServer"].flatMap((engine) => [
    `SecretsManagerRDS${engine}RotationSingleUser`,
    `SecretsManagerRDS${engine}RotationMultiUser`,
  ]),
  ...["MongoDB", "Redshift", "InfluxDB"].flatMap((engine) => [
    `SecretsManager${engine}RotationSingleUser`,
    `SecretsManager${engine}RotationMultiUser`,
  ]),
  "SecretsManagerElasticacheUserRotation",
  "SecretsManagerActiveDirectoryRotationSingleUser",
  "SecretsManagerActiveDirectoryAndKeytabRotationSingleUser",
  "SecretsManagerRotationTemplate",
];
const arnOf = (name: string) => `arn:aws:lambda:eu-central-1:123456789012:function:${name}`;

test("each of AWS's templates is built in, with a rotator that has its strategy, or says what to do instead", async () => {
  for (const name of templates) {
    const builtin = builtinFunction(arnOf(name));
    const refusal = templateRefusal(arnOf(name));
    assert.notEqual(builtin === undefined, refusal === undefined, name);
    if (refusal) assert.match(refusal.message, new RegExp(`^${name}: .*rekey function create`));
    else if (builtin) assert.ok((await findRotator(builtin.kind))?.strategies.includes(builtin.strategy), name);
  }
  const own = templates.filter((name) => builtinFunction(arnOf(name)) === undefined);
  assert.deepEqual(
    own.map((name) => name.replace(/SecretsManager(RDS)?/, "").replace(/Rotation(Single|Multi)User/, "")),
    ["Db2", "Db2", "InfluxDB", "InfluxDB", "ActiveDirectoryAndKeytab", "RotationTemplate"],
  );
});

test("other names are neither", () => {
  for (const name of ["OneOfMyOwn", "SecretsManagerRDSDb2Rotation", ""]) {
    assert.equal(builtinFunction(arnOf(name)), undefined);
    assert.equal(templateRefusal(arnOf(name)), undefined);
  }
});

test("a secret's engine tells its function, and its type where no target knows it", () => {
  assert.equal(functionForEngine("postgres", "alternating-users"), "SecretsManagerRDSPostgreSQLRotationMultiUser");
  assert.equal(functionForEngine("postgres"), "SecretsManagerRDSPostgreSQLRotationSingleUser");
  for (const type of ["ed25519", "rsa", "ssh-ed25519", "ssh-rsa"]) assert.equal(functionForEngine(type), "RekeyKeyPairRotation");
  assert.equal(functionForEngine("random"), "RekeyRandomRotation");
  assert.equal(functionForEngine("random", "single-user"), undefined);
  assert.equal(functionForEngine("constructor"), undefined);
});
