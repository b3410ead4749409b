// Parts of the contract kit: who may use its door, what it shows of a secret, and where a value says that its target is.
import assert from "node:assert/strict";
import { test } from "node:test";
import { addressIn } from "../../src/functions/contract-address.ts";
import { type ContractStore, type Members, openContractDoor } from "../../src/functions/contract-door.ts";

const secret = { arn: "arn:aws:secretsmanager:us-east-1:000000000000:secret:app-abcdef", name: "app" };
const labels = { one: ["AWSCURRENT"], two: ["AWSPENDING"] };

async function openDoor() {
  const stored: [string, Members][] = [];
  const store: ContractStore = async (operation, input) => {
    stored.push([operation, input]);
    return operation === "DescribeSecret" ? { VersionIdsToStages: labels } : { SecretString: '{"password":"stored"}' };
  };
  const door = await openContractDoor(secret, store);
  const ask = async (operation: string, input: Members, token = door.sessionToken): Promise<Members> => {
    const response = await fetch(door.endpoint, {
      method: "POST",
      headers: { "x-amz-target": `secretsmanager.${operation}`, ...(token !== "" && { "x-amz-security-token": token }) },
      body: JSON.stringify(input),
    });
    return { status: response.status, ...((await response.json()) as Members) };
  };
  return { door, ask, stored, [Symbol.asyncDispose]: () => door[Symbol.asyncDispose]() };
}

test("others on the machine get nothing from the door, though they find its port", async () => {
  await using world = await openDoor();
  for (const token of ["", "guessed", world.door.sessionToken.slice(1)]) {
    const answer = await world.ask("GetSecretValue", { SecretId: secret.arn }, token);
    assert.deepEqual([answer.status, answer.__type], [400, "UnrecognizedClientException"]);
  }
  assert.deepEqual(world.stored, []);
});

test("the function changes its own secret only, and asks for nothing but what functions need", async () => {
  await using world = await openDoor();
  const other = { SecretId: "other", SecretString: "x" };
  assert.equal((await world.ask("PutSecretValue", other)).__type, "AccessDeniedException");
  assert.equal((await world.ask("UpdateSecretVersionStage", other)).__type, "AccessDeniedException");
  assert.equal((await world.ask("DeleteSecret", { SecretId: secret.arn })).__type, "UnknownOperationException");
  assert.deepEqual(world.stored, []);
  assert.equal((await world.ask("GetSecretValue", { SecretId: "superuser" })).status, 200);
});

test("a rotation is shown as begun, and a copy under AWSPENDING, without the store knowing", async () => {
  await using world = await openDoor();
  world.door.view.pending = "three";
  const described = await world.ask("DescribeSecret", { SecretId: secret.name });
  assert.deepEqual(described.VersionIdsToStages, { one: ["AWSCURRENT"], three: ["AWSPENDING"] });
  world.door.view.pendingValue = '{"password":"copied"}';
  const read = (input: object) => world.ask("GetSecretValue", { SecretId: secret.arn, ...input });
  assert.equal((await read({ VersionId: "three", VersionStage: "AWSPENDING" })).SecretString, '{"password":"copied"}');
  assert.equal((await read({ VersionStage: "AWSPENDING" })).SecretString, '{"password":"copied"}');
  assert.equal((await read({ VersionStage: "AWSCURRENT" })).SecretString, '{"password":"stored"}');
  await world.ask("PutSecretValue", { SecretId: secret.arn, SecretString: "{}", RotationToken: "t".repeat(40) });
  assert.deepEqual(world.stored.at(-1), ["PutSecretValue", { SecretId: secret.arn, SecretString: "{}" }]);
});

test("a target's address is found, moved and restored; other values stay as they are", () => {
  const gate = { host: "127.0.0.1", port: 4000 };
  for (const [value, host, port] of [
    [{ host: "db.example.com", port: 5433, password: "x" }, "db.example.com", 5433],
    [{ engine: "postgres", host: "db.example.com", password: "x" }, "db.example.com", 5432],
    [{ url: "http://api.example.com/v1?a=b", password: "x" }, "api.example.com", 80],
    [{ endpoint: "http://[::1]:8080", password: "x" }, "::1", 8080],
  ] as const) {
    const text = JSON.stringify(value);
    const address = addressIn(text);
    assert.deepEqual([address?.host, address?.port], [host, port]);
    const moved = address?.moved(text, gate) ?? "";
    assert.ok(moved.includes("127.0.0.1") && moved.includes("4000") && !moved.includes("example.com"), moved);
    assert.deepEqual(JSON.parse(address?.restored(moved, gate) ?? ""), value);
    const elsewhere = JSON.stringify({ host: "other.example.com", port: 1, url: "http://other.example.com" });
    assert.equal(address?.moved(elsewhere, gate), elsewhere);
  }
  for (const text of ["plain", "[]", "{}", '{"host":"db"}', '{"url":"https://api.example.com"}', '{"url":"http://"}'])
    assert.equal(addressIn(text), undefined, text);
});
