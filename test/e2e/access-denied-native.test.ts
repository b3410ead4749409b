// Operations on users, roles, policies, keys, tokens and the audit trail: nobody may without a right, nor learn what is there.
import assert from "node:assert/strict";
import { after, it } from "node:test";
import { configNouns, nativePaths, powerless, refusesAlike } from "../support/access-denied.ts";
import { enrolAgent } from "../support/agent-client.ts";
import { nativeOk, newName, policyOf, statement } from "../support/aws.ts";
import { declarationAt } from "../support/http-api-world.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());

const policyDocument = policyOf(statement("Allow", ["secretsmanager:*"], "*"));
const trust = JSON.stringify({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Principal: { AWS: server.credentials.account }, Action: "sts:AssumeRole" }],
});
const rotationLambdaArn = `arn:aws:lambda:us-east-1:${server.credentials.account}:function:SecretsManagerRDSMySQLRotationSingleUser`;
const tags = [{ key: "a", value: "b" }];
const httpApi = declarationAt("https://api.example.com");
const iam = `arn:aws:iam::${server.credentials.account}`;

/** Names of things that are there, or of none. */
interface Names {
  readonly user: string;
  readonly role: string;
  readonly group: string;
  readonly policy: string;
  readonly key: string;
  readonly accessKey: string;
  readonly tokenId: string;
  readonly provider: string;
  readonly secret: string;
  readonly job: string;
  readonly function: string;
  readonly agent: string;
  readonly network: string;
  readonly [kind: string]: string;
}

const publicKey = { kty: "EC", crv: "P-521", x: "x", y: "y" };

const membersOf = (the: Names): Readonly<Record<string, object>> => ({
  "agents/create-enrolment": { network: the.network },
  "agents/enrol": { name: "a", version: "1", kinds: [], keys: { signing: publicKey, sealing: publicKey } },
  "agents/poll": { version: "1", kinds: [], most: 1, waitSeconds: 0 },
  "agents/answer": { answers: [{ id: the.job, reply: "r" }] },
  "agents/list": { network: the.network },
  "agents/revoke": { agentId: the.agent },
  "events/list": {},
  "functions/create": { functionName: the.function, httpApi },
  "functions/update": { functionName: the.function, timeout: 9 },
  "functions/get": { functionName: the.function },
  "functions/list": {},
  "functions/invoke": { functionName: the.function },
  "functions/logs": { functionName: the.function },
  "functions/policy": { functionName: the.function },
  "functions/put-policy": { functionName: the.function, policy: "" },
  "functions/delete": { functionName: the.function },
  "networks/create": { name: the.network },
  "networks/describe": { name: the.network },
  "networks/list": {},
  "networks/update": { name: the.network, description: "x" },
  "networks/delete": { name: the.network },
  "quarantine/status": {},
  "quarantine/plan": {},
  "quarantine/release": {},
  "rotations/get-policy": { secretId: the.secret },
  "rotations/put-policy": { secretId: the.secret, jitterSeconds: 1 },
  "rotations/adopt": { secretId: the.secret, rotationLambdaArn },
  "rotations/apply-adoption": { jobId: the.job },
  "rotations/check": { secretId: the.secret },
  "rotations/get-job": { jobId: the.job },
  "rotations/heartbeats": { secretId: the.secret },
  "rotations/list": { secretId: the.secret },
  "rotations/parity": { secretId: the.secret },
  "rotations/rollback": { secretId: the.secret },
  "retirements/list": { secretId: the.secret },
  "retirements/run-now": { secretId: the.secret, versionId: "00000000-0000-4000-8000-000000000001" },
  "retirements/cancel": { secretId: the.secret, versionId: "00000000-0000-4000-8000-000000000001" },
  "keys/create-alias": { keyId: the.key, aliasName: "alias/further" },
  "keys/create": { alias: the.key },
  "keys/describe": { keyId: the.key },
  "keys/disable": { keyId: the.key },
  "keys/enable": { keyId: the.key },
  "keys/list": {},
  "keys/put-policy": { keyId: the.key, policy: "" },
  "keys/rotate": { keyId: the.key },
  "signing-keys/list": {},
  "signing-keys/rotate": {},
  "sts/assume-role": { roleArn: `${iam}:role/${the.role}`, roleSessionName: "session" },
  "users/create": { userName: the.user },
  "users/get": { userName: the.user },
  "users/list": {},
  "users/tag": { userName: the.user, tags },
  "users/untag": { userName: the.user, tagKeys: ["a"] },
  "users/delete": { userName: the.user },
  "workplace-users/list": {},
  "workplace-users/get": { id: the.user },
  "workplace-users/set-role": { id: the.user, role: "viewer" },
  "groups/create": { groupName: the.group },
  "groups/get": { groupName: the.group },
  "groups/list": {},
  "groups/update": { groupName: the.group, defaultProjectRole: "viewer" },
  "groups/delete": { groupName: the.group },
  "groups/add-user": { groupName: the.group, userName: the.user },
  "groups/remove-user": { groupName: the.group, userName: the.user },
  "groups/get-user": { groupName: the.group, userName: the.user },
  "groups/list-users": { groupName: the.group },
  "groups/set-users": { groupName: the.group, userNames: [the.user] },
  "roles/create": { roleName: the.role, assumeRolePolicyDocument: trust },
  "roles/get": { roleName: the.role },
  "roles/list": {},
  "roles/set-trust": { roleName: the.role, policyDocument: trust },
  "roles/tag": { roleName: the.role, tags },
  "roles/untag": { roleName: the.role, tagKeys: ["a"] },
  "roles/delete": { roleName: the.role },
  "access-keys/create": { userName: the.user },
  "access-keys/list": { userName: the.user },
  "access-keys/enable": { userName: the.user, accessKeyId: the.accessKey },
  "access-keys/disable": { userName: the.user, accessKeyId: the.accessKey },
  "access-keys/delete": { userName: the.user, accessKeyId: the.accessKey },
  "tokens/create": { userName: the.user, name: "t" },
  "tokens/list": { userName: the.user },
  "tokens/delete": { userName: the.user, tokenId: the.tokenId },
  "policies/create": { policyName: the.policy, policyDocument },
  "policies/create-version": { policyArn: `${iam}:policy/${the.policy}`, policyDocument },
  "policies/delete-version": { policyArn: `${iam}:policy/${the.policy}`, versionId: "v1" },
  "policies/set-default": { policyArn: `${iam}:policy/${the.policy}`, versionId: "v1" },
  "policies/get": { policyArn: `${iam}:policy/${the.policy}` },
  "policies/list": {},
  "policies/delete": { policyArn: `${iam}:policy/${the.policy}` },
  "policies/attach": { policyArn: `${iam}:policy/${the.policy}`, userName: the.user },
  "policies/detach": { policyArn: `${iam}:policy/${the.policy}`, roleName: the.role },
  "policies/simulate": { principalArn: `${iam}:user/${the.user}`, action: "secretsmanager:GetSecretValue" },
  "oidc-providers/create": { url: the.provider, clientIdList: ["ci"] },
  "oidc-providers/list": {},
  "oidc-providers/delete": { openIdConnectProviderArn: `${iam}:oidc-provider/${the.provider.slice("https://".length)}` },
  "audit/search": {},
});

async function there(): Promise<Names> {
  const [user, role, policy, secret] = [newName("user"), newName("role"), newName("policy"), newName("secret")];
  const key = `alias/${newName("key")}`;
  const provider = `https://${newName("issuer")}.example`;
  await nativeOk(server, "users/create", { userName: user });
  const group = newName("group");
  await nativeOk(server, "groups/create", { groupName: group });
  await nativeOk(server, "groups/add-user", { groupName: group, userName: user });
  await nativeOk(server, "roles/create", { roleName: role, assumeRolePolicyDocument: trust });
  await nativeOk(server, "policies/create", { policyName: policy, policyDocument });
  await nativeOk(server, "policies/attach", { policyArn: `${iam}:policy/${policy}`, userName: user });
  await nativeOk(server, "keys/create", { alias: key });
  await nativeOk(server, "oidc-providers/create", { url: provider, clientIdList: ["ci"] });
  await nativeOk(server, "secrets/create", { name: secret });
  const { accessKeyId } = await nativeOk(server, "access-keys/create", { userName: user });
  const { tokenId } = await nativeOk(server, "tokens/create", { userName: user, name: "t" });
  const named = newName("function");
  await nativeOk(server, "functions/create", { functionName: named, httpApi });
  const network = newName("network");
  await nativeOk(server, "networks/create", { name: network });
  const { id: agent } = await enrolAgent(server, network);
  const { jobId } = await nativeOk(server, "rotations/adopt", { secretId: secret, rotationLambdaArn });
  return {
    user,
    role,
    group,
    policy,
    key,
    provider,
    secret,
    job: String(jobId),
    agent,
    function: named,
    network,
    accessKey: String(accessKeyId),
    tokenId: String(tokenId),
  };
}

const nowhere: Names = {
  user: "nobody",
  role: "nobody",
  group: "no-group",
  policy: "nothing",
  key: "alias/nothing",
  accessKey: "AKIAAAAAAAAAAAAAAAAA",
  tokenId: "00000000-0000-4000-8000-000000000000",
  provider: "https://nowhere.example",
  secret: "nothing",
  job: "00000000-0000-4000-8000-000000000001",
  function: "nothing-to-call",
  agent: "00000000-0000-4000-8000-000000000002",
  network: "nowhere",
};

it("every operation beside those of secrets and configs is refused, whether its object is there or not", async () => {
  const token = await powerless(server, "powerless");
  const asked = await refusesAlike(server, { token, userName: "powerless", membersOf, named: [await there(), nowhere] });
  const elsewhere = new Set([...configNouns, "secrets", "passwords"]);
  const known = (await nativePaths(server)).filter((path) => !elsewhere.has(path.split("/")[0] ?? ""));
  const forAnybody = [
    "access-roles/get", // what each role allows, the same everywhere
    "access-roles/list",
    "policies/validate-resource-policy", // it looks at the text that is given
    "sts/assume-role-with-web-identity", // the issuer's token is the credential
    "sts/get-caller-identity", // it tells callers of themselves alone
  ];
  assert.deepEqual(known.sort(), [...asked, ...forAnybody].sort());
});
