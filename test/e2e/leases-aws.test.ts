// Leases of AWS IAM users and STS sessions, by Doppler's calls, on the AWS-compatible endpoint.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AwsCalls } from "../../src/targets/aws-calls.ts";
import { nativeOk } from "../support/aws.ts";
import { run } from "../support/cli.ts";
import { cli } from "../support/doppler.ts";
import { type IamEndpoint, startIamEndpoint } from "../support/iam-endpoint.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const config = { project: "dynamic-secret", config: "dev" };
const s3 = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "s3:GetObject", Resource: "*" }] };
let server: RekeyServer;
let aws: IamEndpoint;
before(async () => {
  [server, aws] = await Promise.all([startRekey(), startIamEndpoint()]);
  await nativeOk(server, "projects/create", { name: config.project });
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  await aws?.[Symbol.asyncDispose]();
});

/** With the rights that the program prints, and no others. */
async function newIntegration(path: string): Promise<string> {
  const { code, out, err } = await run(["integration", "policy", "aws-iam", "--path", path]);
  assert.equal(code, 0, err);
  const name = `aws${path.replaceAll("/", "-")}x`;
  const { id, secret } = aws.addUser(name, { policy: out });
  await nativeOk(server, "integrations/create", {
    name,
    type: "aws-iam",
    data: { accessKeyId: id, secretAccessKey: secret, endpoint: aws.url },
  });
  return name;
}

async function download(query: string): Promise<Record<string, string>> {
  const at = `project=${config.project}&config=${config.config}&format=json&include_dynamic_secrets=true${query}`;
  const answer = await cli(server, `GET /v3/configs/config/secrets/download?${at}`, { token: server.credentials.token });
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}

const identityOf = async (values: Record<string, string>, name: string): Promise<string> => {
  const keys = {
    accessKeyId: values[`${name}_ACCESS_KEY_ID`] ?? "",
    secretAccessKey: values[`${name}_SECRET_ACCESS_KEY`] ?? "",
    ...(values[`${name}_SESSION_TOKEN`] && { sessionToken: values[`${name}_SESSION_TOKEN`] }),
  };
  const place = { region: "us-east-1", endpoint: aws.url };
  return (await new AwsCalls(keys, place, { deadlineAt: Date.now() + 120_000 }).identity()).arn;
};

const leased = (): string[] => [...aws.users.keys()].filter((name) => name.includes("-Dynamic-"));
async function untilGone(): Promise<void> {
  for (let asked = 0; leased().length > 0; asked++) {
    if (asked > 5_000) throw new Error(`${leased().join(", ")}\n${server.log().slice(-4_000)}`);
    await sleep(20);
  }
}

for (const [path, user, policy] of [
  ["/rekey/", "Rekey-Dynamic-", "rekey-policy-"],
  ["/doppler/", "Doppler-Dynamic-", "doppler-policy-"],
] as const) {
  test(`${path}: a download holds a new user who is known to AWS by then, for as long as was asked; revoked, nothing is left`, async () => {
    const integration = await newIntegration(path);
    const name = path === "/rekey/" ? "AWS_USER" : "AWS_OTHER";
    const settings = { policy: s3, ...(path === "/doppler/" && { path }) };
    await nativeOk(server, "dynamic-secrets/create", { ...config, name, integration, settings });
    aws.delay = 2;
    const values = await download("&dynamic_secrets_ttl_sec=10800");
    aws.delay = 0;
    const ours = Object.keys(values).filter((key) => key.startsWith(`${name}_`));
    const fields = ["ACCESS_KEY_ID", "ARN", "LEASE_EXPIRATION", "LEASE_ID", "POLICY_NAME", "SECRET_ACCESS_KEY", "USERNAME"];
    assert.deepEqual(
      ours.sort(),
      fields.map((field) => `${name}_${field}`),
    );
    assert.match(values[`${name}_USERNAME`] ?? "", new RegExp(`^${user}`));
    assert.match(values[`${name}_POLICY_NAME`] ?? "", new RegExp(`^${policy}`));
    assert.equal(values[`${name}_ARN`], `arn:aws:iam::${aws.account}:user${path}${values[`${name}_USERNAME`]}`);
    const endsInMs = Date.parse(values[`${name}_LEASE_EXPIRATION`] ?? "") - Date.now();
    assert.ok(endsInMs > 10_700_000 && endsInMs <= 10_800_000);
    assert.equal(await identityOf(values, name), values[`${name}_ARN`]);

    await nativeOk(server, "leases/revoke", { leaseId: values[`${name}_LEASE_ID`] });
    await untilGone();
    await assert.rejects(identityOf(values, name));
    assert.ok(!server.log().includes(values[`${name}_SECRET_ACCESS_KEY`] ?? ""));
    await nativeOk(server, "dynamic-secrets/delete", { ...config, name });
  });
}

test("a lease whose making fails half-way, or that AWS does not answer, leaves nothing", async () => {
  await nativeOk(server, "dynamic-secrets/create", {
    ...config,
    name: "HALF",
    integration: "aws-rekey-x",
    settings: { policy: s3 },
  });
  for (const call of ["PutUserPolicy", "CreateAccessKey", "CreateUser"]) {
    aws.faults.set(call, ["lost"]);
    const at = `project=${config.project}&config=${config.config}&format=json&include_dynamic_secrets=true`;
    const answer = await cli(server, `GET /v3/configs/config/secrets/download?${at}`, { token: server.credentials.token });
    assert.notEqual(answer.status, 200);
    await untilGone();
  }
  await nativeOk(server, "dynamic-secrets/delete", { ...config, name: "HALF" });
});

test("a session of a role, as AWS STS gives it, ends by itself", async () => {
  const { id, secret } = aws.addUser("caller");
  const data = { accessKeyId: id, secretAccessKey: secret, endpoint: aws.url };
  await nativeOk(server, "integrations/create", { name: "sts", type: "aws-sts", data });
  const settings = { roleArn: aws.addRole("reader"), policy: s3 };
  await nativeOk(server, "dynamic-secrets/create", { ...config, name: "ROLE", integration: "sts", settings });
  const values = await download("");
  assert.equal(await identityOf(values, "ROLE"), values.ROLE_ARN);
  assert.match(values.ROLE_ARN ?? "", /assumed-role\/reader\/rekey-/);
  const seconds = aws.sessions.get(values.ROLE_ACCESS_KEY_ID ?? "")?.seconds ?? 0;
  assert.ok(seconds > 1_780 && seconds <= 1_800);
  await nativeOk(server, "dynamic-secrets/delete", { ...config, name: "ROLE" });
});
