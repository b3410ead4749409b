// The functions of AWS Lambda as they are built and uploaded: each in a process of its own behind Lambda's Runtime API.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { unzipSync } from "fflate";
import { lambdaTargets } from "../../src/core/lambda-targets.ts";
import { publicFarKeys } from "../../src/crypto/message-keys.ts";
import { type AwsAccount, startAwsAccount } from "../support/aws-account.ts";
import { declarationAt } from "../support/http-api-world.ts";
import { lambdaFarSide } from "../support/lambda-far-side.ts";
import { lambdaZip, olderNode, olderNodeSkip } from "../support/lambda-zips.ts";

const drivers = ["@redis/client", "ldapts", "mongodb", "mysql2", "oracledb", "pg", "tedious"];
const own: Readonly<Record<(typeof lambdaTargets)[number], string | undefined>> = {
  activedirectory: "ldapts",
  "http-api": undefined,
  ldap: "ldapts",
  mongodb: "mongodb",
  mysql: "mysql2",
  oracle: "oracledb",
  postgres: "pg",
  redis: "@redis/client",
  redshift: "pg",
  sqlserver: "tedious",
};
const nobody = { host: "127.0.0.1", port: 1, username: "app", password: "p" };

/** A login where nobody listens. */
function atNobody(kind: string): { declaration?: object; credential: object } {
  if (kind === "http-api")
    return {
      declaration: declarationAt("http://127.0.0.1:1"),
      credential: { user: "u", keyId: "k", apiKey: "key-of-u" },
    };
  if (kind === "ldap" || kind === "activedirectory")
    return { credential: { ...nobody, engine: kind, username: "cn=app,dc=example,dc=com" } };
  return { credential: { ...nobody, engine: kind, dbname: "app" } };
}

describe("functions of AWS Lambda, as built", () => {
  let aws: AwsAccount;
  before(async () => {
    aws = await startAwsAccount();
  });
  after(() => aws[Symbol.asyncDispose]());

  for (const kind of lambdaTargets) {
    it(`rekey-${kind} holds one driver and no other`, async (test) => {
      const { zip } = await lambdaZip(kind);
      const files = unzipSync(zip);
      assert.deepEqual(Object.keys(files), ["NOTICES.txt", "app.js"]);
      const notices = Buffer.from(files["NOTICES.txt"] ?? []).toString("utf8");
      const program = Buffer.from(files["app.js"] ?? []).toString("utf8");
      const expected = [own[kind]].filter((name) => name !== undefined);
      assert.deepEqual(
        drivers.filter((name) => notices.includes(`\n${name} `)),
        expected,
      );
      const others = drivers.filter((name) => name !== own[kind]);
      assert.deepEqual(
        others.filter((name) => program.includes(`node_modules/${name}/`)),
        [],
      );
      test.diagnostic(`${Math.round(zip.length / 1024)} KiB`);
      assert.ok(zip.length < 600 * 1024);
    });

    it(`rekey-${kind} runs on Node.js 20: tells its status, and reaches for its target`, { skip: olderNodeSkip }, async () => {
      const { build } = await lambdaZip(kind);
      const far = await lambdaFarSide(aws, kind, { node: olderNode ?? "", runtime: "nodejs20.x" });
      const status = (await far.ask()) as Record<string, unknown>;
      assert.match(String(status.runtime), /^v2[0-3]\./);
      assert.deepEqual(
        { ...status, runtime: "" },
        { version: "0.1.0", build, kinds: [kind], runtime: "", protocol: 1, keys: publicFarKeys(far.keys) },
      );
      const answer = await far.call({
        kind,
        ...atNobody(kind),
        verb: "rotator.probe",
        subject: "rotation-1",
        fence: 1,
        deadlineAt: Date.now() + 120_000,
        repeatable: true,
        input: { credential: atNobody(kind).credential },
      });
      assert.deepEqual(answer, { answer: "unreachable" });
    });
  }
});
