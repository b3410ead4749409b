// `rekey server --processes N` on the embedded store: one process writes, the others read and hand on.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  BatchGetSecretValueCommand,
  CreateSecretCommand,
  DescribeSecretCommand,
  GetRandomPasswordCommand,
  GetResourcePolicyCommand,
  GetSecretValueCommand,
  ListSecretsCommand,
  ListSecretVersionIdsCommand,
  PutSecretValueCommand,
  type SecretsManagerClient,
  UpdateSecretCommand,
  ValidateResourcePolicyCommand,
} from "@aws-sdk/client-secrets-manager";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import {
  allow,
  type Credentials,
  clientSettings,
  native,
  nativeOk,
  newName,
  newUser,
  policyOf,
  rawCall,
  refused,
  secretsClient,
  statement,
} from "../support/aws.ts";
import { awaitLog, endProcess, runRekey, workersOf } from "../support/processes.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

/** Connections are dealt out in turn: this many reach every process. */
const connections = 4;

function clientsOf(server: RekeyServer, credentials?: Credentials): SecretsManagerClient[] {
  return Array.from({ length: connections }, () => secretsClient(server, credentials));
}

const newSecret = async (client: SecretsManagerClient, SecretString: string = randomUUID(), KmsKeyId?: string) => {
  const made = await client.send(new CreateSecretCommand({ Name: newName(), SecretString, ...(KmsKeyId && { KmsKeyId }) }));
  return made.ARN ?? "";
};

const read = async (client: SecretsManagerClient, SecretId: string) =>
  (await client.send(new GetSecretValueCommand({ SecretId }))).SecretString;

/** How many of the processes' audit files have a record of this. */
function writersOf(server: RekeyServer, action: string, words: string): number {
  const folder = join(server.dataFolder, "audit");
  const has = (name: string) =>
    readFileSync(join(folder, name), "utf8")
      .split("\n")
      .some((line) => line.includes(`"${action}"`) && line.includes(words));
  return readdirSync(folder).filter(has).length;
}

async function assertAuditGood(server: RekeyServer): Promise<void> {
  const { code, out, err } = await runRekey(["audit", "verify", "--data", server.dataFolder, "--json"]);
  assert.equal(code, 0, `${out}${err}`);
}

describe("a server of several processes", () => {
  let server: RekeyServer;
  let clients: SecretsManagerClient[];
  const temporary = mkdtempSync(join(tmpdir(), "rekey-temporary-"));
  const sourceHeader = { "rekey-origin": JSON.stringify({ sourceIp: "203.0.113.9", secure: true }) };

  before(async () => {
    server = await startRekey({ flags: ["--processes", "3"], env: { TMPDIR: temporary } });
    clients = clientsOf(server);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    rmSync(temporary, { recursive: true, force: true });
  });

  test("every operation works whichever process takes the connection, and all of them answer reads", async () => {
    for (const client of clients) {
      const arn = await newSecret(client, "one");
      assert.equal(await read(client, arn), "one");
      for (const reader of clients) await read(reader, arn);
      assert.equal(writersOf(server, "secretsmanager:GetSecretValue", arn), 3);
    }
  });

  test("reads that search, and those of versions and policies, are answered by all of them", async () => {
    for (const client of clients) {
      const SecretId = await newSecret(client);
      await client.send(new BatchGetSecretValueCommand({ SecretIdList: [SecretId] }));
      await client.send(new DescribeSecretCommand({ SecretId }));
      await client.send(new GetRandomPasswordCommand({}));
      await client.send(new GetResourcePolicyCommand({ SecretId }));
      await client.send(new ListSecretVersionIdsCommand({ SecretId }));
      const { SecretList = [] } = await client.send(
        new ListSecretsCommand({ Filters: [{ Key: "description", Values: ["!nothing"] }] }),
      );
      assert.ok(SecretList.some(({ ARN }) => ARN === SecretId));
      await client.send(new ValidateResourcePolicyCommand({ SecretId, ResourcePolicy: policyOf(allow("*")) }));
    }
  });

  test("so are all other doors", async () => {
    const sts = new STSClient(clientSettings(server));
    for (let n = 0; n < connections; n++) assert.match((await sts.send(new GetCallerIdentityCommand({}))).Arn ?? "", /:root$/);
    for (let n = 0; n < connections; n++) assert.equal((await native(server, "no/such", {})).status, 404);
    for (const path of ["healthz", "readyz", "metrics", "rekey/v1/openapi.json"])
      for (let n = 0; n < connections; n++) assert.equal(await statusOf(`${server.endpoint}/${path}`), 200, path);
  });

  test("what one connection wrote is what all others read next", async () => {
    const [first] = clients;
    assert.ok(first);
    const arn = await newSecret(first);
    for (let round = 0; round < 40; round++) {
      const value = `value ${round}`;
      const writer = clients[round % connections] ?? first;
      await writer.send(new PutSecretValueCommand({ SecretId: arn, SecretString: value }));
      const seen = await Promise.all(clients.map((client) => read(client, arn)));
      assert.deepEqual(seen, Array(connections).fill(value));
    }
  });

  test("a handed-on request keeps its source address, its signature and its wrong signature", async () => {
    const condition = { IpAddress: { "aws:SourceIp": "127.0.0.1/32" }, Bool: { "aws:SecureTransport": "false" } };
    const here = await newUser(server, newName("here"), statement("Allow", ["secretsmanager:*"], "*", condition));
    for (const client of clientsOf(server, here)) await newSecret(client);
    for (let n = 0; n < connections; n++) {
      const name = newName();
      const signed = { ClientRequestToken: randomUUID(), Name: name, SecretString: "née €\u0000".replace("\u0000", "") };
      assert.equal((await rawCall(server, "CreateSecret", signed, { headers: { connection: "close" } })).status, 200);
      const forged = await rawCall(server, "PutSecretValue", signed, { sentBody: JSON.stringify({ ...signed, SecretId: name }) });
      assert.equal(forged.json?.__type, "InvalidSignatureException");
    }
  });

  test("nobody outside can say where a request came from", async () => {
    const condition = { IpAddress: { "aws:SourceIp": "203.0.113.0/24" }, Bool: { "aws:SecureTransport": "true" } };
    const far = await newUser(server, newName("far"), statement("Allow", ["secretsmanager:*"], "*", condition));
    const headers = { ...sourceHeader, connection: "close" };
    for (let n = 0; n < connections; n++) {
      const written = await rawCall(
        server,
        "CreateSecret",
        { ClientRequestToken: randomUUID(), Name: newName(), SecretString: "x" },
        { credentials: far, headers },
      );
      assert.equal(written.json?.__type, "AccessDeniedException", "a write that pretends to come from elsewhere");
      const read = await rawCall(server, "GetRandomPassword", {}, { credentials: far, headers });
      assert.equal(read.json?.__type, "AccessDeniedException", "a read that pretends to come from elsewhere");
    }
    for (const file of readdirSync(join(server.dataFolder, "audit")))
      assert.ok(!readFileSync(join(server.dataFolder, "audit", file), "utf8").includes("203.0.113.9"));
  });

  test("the sockets between the processes are their user's alone", () => {
    const [folder = "", ...others] = readdirSync(temporary).filter((name) => name.startsWith("rekey-"));
    assert.deepEqual(others, []);
    const path = join(temporary, folder);
    assert.equal(statSync(path).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(path).sort(), ["notes", "requests"]);
    for (const name of readdirSync(path)) assert.equal(statSync(join(path, name)).mode & 0o777, 0o600);
  });

  test("what readers can see is durable: the writer flushes within its commits, and has no flush of its own beside them", async () => {
    const descriptors = (pid: number) =>
      readdirSync(`/proc/${pid}/fd`).filter((one) => readlinkSync(`/proc/${pid}/fd/${one}`).endsWith("/rekey.db-wal")).length;
    await using alone = await startRekey(); // both new: a search opens the store once more
    await using shared = await startRekey({ flags: ["--processes", "2"] });
    await Promise.all([newSecret(secretsClient(alone)), newSecret(secretsClient(shared))]);
    const [writer = 0] = workersOf(shared, "writer");
    assert.equal(descriptors(alone.pid), 3, "its two connections' and that of its flushes");
    assert.equal(descriptors(writer), 2);
  });

  test("a key that is disabled, and an access key too, is refused by every process from the next request on", async () => {
    const [first] = clients;
    assert.ok(first);
    const { keyId } = await nativeOk(server, "keys/create", { description: "to be disabled" });
    const arn = await newSecret(first, "sealed under it", String(keyId));
    for (let round = 0; round < 3; round++) {
      for (const client of clients) assert.equal(await read(client, arn), "sealed under it");
      await nativeOk(server, "keys/disable", { keyId });
      for (const client of clients) await refused(read(client, arn), "DecryptionFailure", /./);
      await nativeOk(server, "keys/enable", { keyId });
    }
    await nativeOk(server, "keys/rotate", { keyId });
    await first.send(new UpdateSecretCommand({ SecretId: arn, SecretString: "under its next version" }));
    for (const client of clients) assert.equal(await read(client, arn), "under its next version");

    const userName = newName("user");
    const user = await newUser(server, userName, allow("secretsmanager:*"));
    const theirs = clientsOf(server, user);
    for (const client of theirs) await read(client, arn).catch(() => undefined);
    await nativeOk(server, "access-keys/disable", { userName, accessKeyId: user.accessKeyId });
    for (const client of theirs) await refused(read(client, arn), "UnrecognizedClientException", /./);
  });

  test("reads and uses of credentials that any process saw are kept", async () => {
    const user = await newUser(server, newName("reader"), allow("secretsmanager:GetSecretValue"));
    for (const client of clientsOf(server, user)) {
      const arn = await newSecret(clients[0] ?? client);
      await read(client, arn);
      const described = async () => (await clients[0]?.send(new DescribeSecretCommand({ SecretId: arn })))?.LastAccessedDate;
      await until(async () => (await described()) !== undefined, "LastAccessedDate");
    }
    const { accessKeys } = await nativeOk(server, "access-keys/list", { userName: user.arn.split("/").at(-1) });
    assert.ok(Array.isArray(accessKeys) && accessKeys[0]?.lastUsedDate, JSON.stringify(accessKeys));
  });

  test("a reader that is killed is started again, and the audit trail stays whole", async () => {
    const [first] = clients;
    assert.ok(first);
    const arn = await newSecret(first, "still here");
    for (const client of clients) await read(client, arn);
    for (const reader of workersOf(server, "reader")) {
      endProcess(reader, "SIGKILL");
      await awaitLog(server, (line) => line.worker === reader && /was ended by SIGKILL/.test(String(line.msg)));
      assert.equal(await read(secretsClient(server), arn), "still here");
    }
    await until(async () => workersOf(server, "reader").length === 2, "two readers again");
    for (const client of clientsOf(server)) assert.equal(await read(client, arn), "still here");
    await assertAuditGood(server);
  });

  test("a connection that a dying process was just given is ended, not left waiting", async () => {
    const [reader = 0] = workersOf(server, "reader");
    endProcess(reader, "SIGSTOP"); // it takes nothing any more
    const { hostname, port } = new URL(server.endpoint);
    const open = await Promise.all(Array.from({ length: 2 * connections }, () => openRequest(hostname, Number(port))));
    for (const { socket, rest } of open) socket.write(rest);
    endProcess(reader, "SIGKILL");
    const answers = await Promise.all(open.map(({ answer }) => answer));
    assert.ok(answers.includes(""), "the stopped process was given nothing");
    assert.ok(answers.some((answer) => answer.includes("MissingAuthenticationToken")));
    await awaitLog(server, (line) => line.worker === reader && /was ended by SIGKILL/.test(String(line.msg)));
    await until(async () => workersOf(server, "reader").length === 2, "two readers again");
  });

  test("while the writer is gone reads go on and writes fail as internal errors; then writes work again", async () => {
    const arn = await newSecret(secretsClient(server), "readable");
    const [writer = 0] = workersOf(server, "writer");
    endProcess(writer, "SIGKILL");
    await awaitLog(server, (line) => line.worker === writer && /was ended by SIGKILL/.test(String(line.msg)));
    const put = { SecretId: arn, SecretString: "written", ClientRequestToken: randomUUID() };
    const headers = { connection: "close" };
    let failures = 0;
    await until(async () => {
      assert.equal(await read(secretsClient(server), arn), "readable");
      const answer = await rawCall(server, "PutSecretValue", put, { headers });
      if (answer.status === 200) return true;
      failures += 1;
      assert.equal(answer.status, 500);
      assert.equal(answer.json?.__type, "InternalServiceError");
      if (failures > 1) return false;
      assert.equal((await native(server, "users/list", {})).json?.code, "InternalServiceError");
      const sts = new STSClient(clientSettings(server));
      await assert.rejects(sts.send(new GetCallerIdentityCommand({})), { name: "InternalFailure" });
      return false;
    }, "writes again");
    assert.ok(failures > 0, "the writer was back before anything could fail");
    for (const client of clientsOf(server)) assert.equal(await read(client, arn), "written");
    assert.equal(workersOf(server, "writer").length, 1);
    await assertAuditGood(server);
  });

  test("SIGTERM ends all of them in order: exit code 0, nothing left, the trail closed", async () => {
    assert.equal(await server.stop(), 0);
    assert.deepEqual(readdirSync(temporary), []);
    await assertAuditGood(server);
  });
});

describe("starting and ending", () => {
  for (const processes of ["1", "2"])
    test(`SIGTERM lets an open request end and a kept connection not matter, with ${processes} processes`, async () => {
      await using server = await startRekey({ flags: ["--processes", processes, "--drain-seconds", "60"] });
      const kept = secretsClient(server);
      await newSecret(kept);
      const { hostname, port } = new URL(server.endpoint);
      const open = await Promise.all(Array.from({ length: connections }, () => openRequest(hostname, Number(port))));
      const stopped = server.stop();
      await until(async () => !(await accepts(hostname, Number(port))), "no new connections");
      for (const { socket, rest } of open) socket.write(rest);
      for (const { answer } of open) assert.match(await answer, /^HTTP\/1\.1 400 [\s\S]*MissingAuthenticationToken/);
      assert.equal(await stopped, 0);
    });

  test("connections beyond the bound are ended, and others taken again once there is room", async () => {
    await using server = await startRekey({ flags: ["--processes", "2", "--max-connections", "16"] });
    const { hostname, port } = new URL(server.endpoint);
    const open = await Promise.all(Array.from({ length: 40 }, () => openRequest(hostname, Number(port))));
    await until(async () => open.filter(({ socket }) => socket.closed).length >= 24, "the end of those beyond");
    for (const { socket, rest } of open) socket.write(rest, () => undefined);
    const answers = await Promise.all(open.map(({ answer }) => answer));
    assert.equal(answers.filter((answer) => answer.includes("MissingAuthenticationToken")).length, 16);
    await newSecret(secretsClient(server));
  });

  test("when the first start fails, it says why and is over", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    const folder = mkdtempSync(join(tmpdir(), "rekey-processes-"));
    chmodSync(folder, 0o700);
    const { code, out, err } = await runRekey(["server", "--data", folder, "--listen", `127.0.0.1:${port}`, "--processes", "2"]);
    taken.close();
    rmSync(folder, { recursive: true });
    assert.equal(code, 1);
    assert.equal(out, "");
    assert.match(err, /in use/);
  });

  test("a second server on the same folder is refused, and one more process of the first may start again", async () => {
    await using server = await startRekey({ flags: ["--processes", "2"] });
    const { code, err } = await runRekey(["server", "--data", server.dataFolder, "--listen", "127.0.0.1:0", "--processes", "2"]);
    assert.equal(code, 1);
    assert.match(err, /in use by process \d+/);
    await newSecret(secretsClient(server));
  });

  test("when the supervisor is killed its processes end too", async () => {
    await using server = await startRekey({ flags: ["--processes", "2"] });
    const workers = [...workersOf(server, "writer"), ...workersOf(server, "reader")];
    assert.equal(workers.length, 2);
    await server.stop("SIGKILL");
    await until(async () => workers.every((pid) => !isAlive(pid)), "their end");
    await using again = await startRekey({ dataFolder: server.dataFolder });
    await newSecret(secretsClient(again));
    await assertAuditGood(again);
  });
});

async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  const giveUpAt = Date.now() + 120_000;
  while (!(await holds())) {
    assert.ok(Date.now() < giveUpAt, `waited in vain for ${what}`);
    await sleep(20);
  }
}

async function statusOf(url: string): Promise<number> {
  const response = await fetch(url, { headers: { connection: "close" } });
  await response.arrayBuffer();
  return response.status;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** A request whose body is half sent; `answer` is all that comes back. */
async function openRequest(host: string, port: number): Promise<{ socket: Socket; rest: string; answer: Promise<string> }> {
  const socket = connect(port, host);
  await once(socket, "connect");
  let text = "";
  const answer = new Promise<string>((resolve) => {
    socket.setEncoding("utf8").on("data", (part) => {
      text += part;
    });
    socket.on("close", () => resolve(text));
    socket.on("error", () => undefined); // a connection that is cut is told by "close"
  });
  socket.write(
    "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: secretsmanager.ListSecrets\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{",
  );
  await sleep(50); // read by then; if not, the request is only less open than it could be
  return { socket, rest: "}", answer };
}

async function accepts(host: string, port: number): Promise<boolean> {
  const socket = connect(port, host);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
