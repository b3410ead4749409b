// How an agent comes to its identity and to its server: tokens, lost answers, files, TLS with a private authority, proxies.
import assert from "node:assert/strict";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type AgentOptions, startAgent } from "../support/agent-process.ts";
import { nativeOk } from "../support/aws.ts";
import { startHostileServer } from "../support/hostile-server.ts";
import { startTap } from "../support/proxy.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { hasOpenssl, makeCertificate, unlessCi } from "../support/server-process.ts";

const allow = ["--allow", "postgres://db.plant.internal:5432"];
const home = mkdtempSync(join(tmpdir(), "rekey-agents-"));
const newFolder = () => mkdtempSync(join(home, "agent-"));
let server: RekeyServer;

before(async () => {
  server = await startRekey();
  await nativeOk(server, "networks/create", { name: "plant" });
  await nativeOk(server, "networks/create", { name: "office" });
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  rmSync(home, { recursive: true });
});

const newToken = async (network = "plant"): Promise<string> =>
  String((await nativeOk(server, "agents/create-enrolment", { network })).token);

/** What an agent says that does not start. */
async function fails(options: AgentOptions): Promise<{ code: number | null; says: string }> {
  await using agent = await startAgent({ ...options, waits: false });
  const code = await agent.exited;
  return { code, says: agent.log() };
}
const agentsOf = async (): Promise<{ name: string; state: string; version: string; kinds: string[]; copiedAt?: string }[]> =>
  (await nativeOk(server, "agents/list", {})).agents as never;

describe("enrolment of an agent", () => {
  it("needs server, token and rules once; later the folder is enough, and everything in it is private", async () => {
    const dataFolder = newFolder();
    const first = await startAgent({
      dataFolder,
      flags: ["--server", server.endpoint, "--enroll", await newToken(), "--name", "a b", ...allow],
    });
    await first.logged(/the agent starts/);
    assert.equal(await first.stop(), 0);
    assert.match(first.log(), /takes no more/);
    for (const file of ["agent.json", "journal.db", "allow"])
      assert.equal(statSync(join(dataFolder, file)).mode & 0o777, 0o600, file);
    assert.equal(readFileSync(join(dataFolder, "allow"), "utf8"), "postgres://db.plant.internal:5432\n");
    await using _again = await startAgent({ dataFolder });
    const shared = await fails({ dataFolder });
    assert.deepEqual([shared.code, /another agent runs with this folder/.test(shared.says)], [1, true], shared.says);
    const [seen] = (await agentsOf()).filter(({ name }) => name === "a b");
    assert.deepEqual(seen?.kinds, ["postgres"]);
  });

  it("a copy of its folder that is started ends the older process with an alarm; a restart does not", async () => {
    const [dataFolder, copy] = [newFolder(), newFolder()];
    const flags = ["--server", server.endpoint, "--enroll", await newToken(), "--name", "copied", ...allow];
    const seen = async () => (await agentsOf()).find(({ name }) => name === "copied") ?? assert.fail();
    {
      await using first = await startAgent({ dataFolder, flags });
      await first.logged(/the agent starts/);
      await first.stop("SIGKILL");
    }
    await using older = await startAgent({ dataFolder });
    await older.logged(/the agent starts/);
    cpSync(dataFolder, copy, { recursive: true });
    await using newer = await startAgent({ dataFolder: copy });
    assert.equal(await older.exited, 1, older.log());
    assert.match(older.log(), /ALARM: another process with the keys of this agent/);
    assert.match(older.log(), /make a token for each; if you know of no other, revoke it with rekey agent revoke [0-9a-f-]{36}/);
    assert.ok((await seen()).copiedAt);
    assert.equal((await seen()).state, "live");
    assert.equal(await newer.stop(), 0);
  });

  it("an answer that is lost does not strand the agent: the same token again gives the same agent", async () => {
    const { hostname, port } = new URL(server.endpoint);
    let lost = 0;
    await using tap = await startTap({ host: hostname, port: Number(port) }, (sent) => {
      if (!sent.includes("agents/enrol") || lost > 0) return undefined;
      lost += 1;
      return "after";
    });
    const dataFolder = newFolder();
    const token = await newToken();
    const flags = ["--server", `http://127.0.0.1:${tap.port}`, "--enroll", token, "--name", "lost", ...allow];
    const first = await fails({ dataFolder, flags });
    assert.deepEqual([lost, first.code], [1, 3], first.says);
    const keys = JSON.parse(readFileSync(join(dataFolder, "agent.json"), "utf8")).keys;
    const unfinished = await fails({ dataFolder });
    assert.deepEqual([unfinished.code, /enrolment did not end/.test(unfinished.says)], [2, true]);
    const second = await startAgent({ dataFolder, flags });
    assert.equal(await second.stop(), 0);
    assert.deepEqual(JSON.parse(readFileSync(join(dataFolder, "agent.json"), "utf8")).keys, keys);
    assert.equal((await agentsOf()).filter(({ name }) => name === "lost").length, 1);
    // A service manager starts it with the same flags for ever.
    const third = await startAgent({ dataFolder, flags });
    assert.equal(await third.stop(), 0);
    const stolen = await fails({ flags });
    assert.equal(stolen.code, 1);
    assert.match(stolen.says, /used before|does not|refuses/);
  });

  it("a second enrolment over an identity, another network or another name is refused in words", async () => {
    const dataFolder = newFolder();
    const agent = await startAgent({
      dataFolder,
      flags: ["--server", server.endpoint, "--enroll", await newToken(), "--name", "x", ...allow],
    });
    await agent.stop();
    const before = readFileSync(join(dataFolder, "agent.json"), "utf8");
    for (const [flags, said] of [
      [["--enroll", await newToken()], /holds agent x of network plant already: start it without --enroll/],
      [["--network", "office"], /holds agent x of network plant, and not of network office/],
      [["--name", "y"], /an agent keeps its name/],
    ] as const) {
      const { code, says } = await fails({ dataFolder, flags });
      assert.equal(code, 1);
      assert.match(says, said);
    }
    assert.equal(readFileSync(join(dataFolder, "agent.json"), "utf8"), before);
  });

  it("what is missing or wrong at the first start is told with what to do", async () => {
    const base = ["--server", server.endpoint, "--enroll", await newToken()];
    const cases: [string[], number, RegExp][] = [
      [[], 2, /holds no agent yet: give --server, --enroll with a token of rekey agent enroll-token, and --allow/],
      [base, 2, /nothing is allowed/],
      [[...base, "--allow", "db:5432"], 2, /The allow rule "db:5432" is not one of KIND:\/\/HOST:PORT/],
      [["--enroll", "rekey-enrol.eyJ9"], 2, /--enroll must be a token of rekey agent enroll-token/],
      [[...base, ...allow, "--network", "office"], 1, /the enrolment token is for network plant, not for office/],
      [["--server", "http://rekey.example.com", "--enroll", base[3] ?? "", ...allow], 2, /plain http beyond this machine/],
      [
        ["--server", "http://127.0.0.1:1", "--enroll", base[3] ?? "", ...allow],
        3,
        /could not be asked: the connection failed \(ECONNREFUSED\)/,
      ],
      [[...base, ...allow, "--ca", "/nowhere"], 2, /--ca \/nowhere is not a file with certificates/],
    ];
    await Promise.all(
      cases.map(async ([flags, code, said]) => {
        const ended = await fails({ dataFolder: newFolder(), flags });
        assert.equal(ended.code, code, ended.says);
        assert.match(ended.says, said);
        assert.doesNotMatch(ended.says, /dp\.ae\.|rekey-enrol\.ey/);
      }),
    );
  });

  it("a server that is not the one of the token is not believed, and gets no agent", async () => {
    await using hostile = await startHostileServer({ port: 1 });
    const dataFolder = newFolder();
    const flags = ["--server", hostile.url, "--enroll", await newToken(), ...allow];
    const { code, says } = await fails({ dataFolder, flags });
    assert.equal(code, 1);
    assert.match(says, /What answers at .* is not the server that made the token/);
    assert.equal(JSON.parse(readFileSync(join(dataFolder, "agent.json"), "utf8")).enrolled, undefined);
  });

  it("keys that others could read, and a folder that others may enter, are not used", async () => {
    const dataFolder = newFolder();
    const agent = await startAgent({ dataFolder, flags: ["--server", server.endpoint, "--enroll", await newToken(), ...allow] });
    await agent.stop();
    chmodSync(join(dataFolder, "agent.json"), 0o644);
    assert.match((await fails({ dataFolder })).says, /others may read .*agent\.json, so it is not used: chmod 600/);
    chmodSync(join(dataFolder, "agent.json"), 0o600);
    chmodSync(dataFolder, 0o755);
    assert.match((await fails({ dataFolder })).says, /others may enter .*: chmod 700/);
    chmodSync(dataFolder, 0o700);
    chmodSync(join(dataFolder, "allow"), 0o666);
    assert.match((await fails({ dataFolder })).says, /others may write .*allow, so it is not used/);
    chmodSync(join(dataFolder, "allow"), 0o600);
    writeFileSync(join(dataFolder, "agent.json"), '{"version":1');
    const { code, says } = await fails({ dataFolder });
    assert.deepEqual([code, /is damaged; remove it and enrol again/.test(says)], [1, true]);
  });
});

/** Lets tunnels through to those that know the password. */
async function startConnectProxy() {
  const asked: string[] = [];
  const proxy = createServer((_request, response) => response.writeHead(405).end());
  proxy.on("connect", ({ url = "", headers }, socket, head) => {
    asked.push(url);
    socket.on("error", () => socket.destroy());
    if (headers["proxy-authorization"] !== `Basic ${Buffer.from("agent:of-proxy").toString("base64")}`)
      return socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    const [host, port] = url.split(":");
    const far = connect(Number(port), host, () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      far.write(head);
      socket.pipe(far).pipe(socket);
    });
    far.on("error", () => socket.destroy());
    return undefined;
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const { port } = proxy.address() as AddressInfo;
  return {
    asked,
    port,
    [Symbol.dispose]: () => {
      proxy.close();
      proxy.closeAllConnections();
    },
  };
}

describe("the way to the server", { skip: unlessCi(hasOpenssl() ? false : "no openssl to make a certificate") }, () => {
  it("TLS is verified, by a private authority where one is given, and goes through a proxy where one is set", async () => {
    const certificates = join(home, "tls");
    mkdirSync(certificates);
    const caFile = makeCertificate(certificates);
    const tls = ["--tls-cert", caFile, "--tls-key", join(certificates, "server.key")];
    const { dataFolder: store } = server;
    await server.stop();
    await using secure = await startRekey({ flags: tls, dataFolder: store });
    // This test's own calls know the authority by the same way as any client.
    const token = String((await askSecurely(secure, caFile, "agents/create-enrolment", { network: "plant" })).token);
    const dataFolder = newFolder();
    const flags = ["--server", secure.endpoint, "--enroll", token, "--name", "secure", ...allow];
    const unknown = await fails({ dataFolder, flags });
    assert.equal(unknown.code, 3);
    assert.match(unknown.says, /certificate is not accepted .*--ca/);

    using proxy = await startConnectProxy();
    const { host } = new URL(secure.endpoint);
    const wrong = await fails({
      dataFolder,
      flags: [...flags, "--ca", caFile],
      env: { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` },
    });
    assert.deepEqual([wrong.code, /the proxy .* did not let the connection through/.test(wrong.says)], [3, true], wrong.says);
    assert.deepEqual(proxy.asked, [host]);
    const env = { HTTPS_PROXY: `http://agent:of-proxy@127.0.0.1:${proxy.port}` };
    const agent = await startAgent({ dataFolder, flags: [...flags, "--ca", caFile], env });
    assert.equal(await agent.stop(), 0);
    assert.ok(proxy.asked.length >= 3, String(proxy.asked));
    assert.deepEqual(new Set(proxy.asked), new Set([host]));
    assert.doesNotMatch(agent.log(), /of-proxy/);
    const asked = proxy.asked.length;
    const direct = await startAgent({ dataFolder, env: { ...env, NO_PROXY: "127.0.0.1" } });
    assert.equal(await direct.stop(), 0, "the authority is kept with the identity");
    assert.equal(proxy.asked.length, asked);
  });
});

async function askSecurely({ endpoint, credentials }: RekeyServer, caFile: string, operation: string, input: object) {
  const { request } = await import("node:https");
  const headers = { authorization: `Bearer ${credentials.token}`, "content-type": "application/json" };
  const text = await new Promise<string>((resolve, reject) => {
    const sent = request(
      `${endpoint}/rekey/v1/${operation}`,
      { method: "POST", headers, ca: readFileSync(caFile) },
      (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          body += chunk;
        });
        response.on("end", () => resolve(body));
      },
    );
    sent.on("error", reject).end(JSON.stringify(input));
  });
  return JSON.parse(text) as Record<string, unknown>;
}
