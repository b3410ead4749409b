// The stream of changes as Doppler's command line reads it: raw chunks, one event in each.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assertShape, cli, reference, shapes } from "../support/doppler.ts";
import { endProcess, workersOf } from "../support/processes.ts";
import { open, requestText } from "../support/raw-http.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

interface Listening {
  readonly status: number;
  readonly type: string;
  /** What the server wrote at once, as chunks of HTTP tell; undefined once the stream is over. */
  next(): Promise<string | undefined>;
  stop(): void;
}

async function watch(server: RekeyServer, token: string, query = "?project=&config="): Promise<Listening> {
  const socket = await open(server.endpoint);
  let text = "";
  let heard = () => undefined as unknown;
  socket.setEncoding("utf8").on("data", (more: string) => {
    text += more;
    heard();
  });
  socket.on("close", () => heard());
  /** Takes what the pattern finds at the beginning, once it is there. */
  const take = async (pattern: RegExp): Promise<RegExpExecArray | undefined> => {
    for (;;) {
      const found = pattern.exec(text);
      if (found) text = text.slice(found[0].length);
      if (found || socket.closed) return found ?? undefined;
      await new Promise((resolve) => {
        heard = () => resolve(undefined);
      });
    }
  };
  const lines = [`Authorization: Bearer ${token}`, "Accept: text/event-stream", "Connection: close"];
  socket.write(requestText(`GET /v3/configs/config/secrets/watch${query}`, lines));
  const [head = ""] = (await take(/^.*?\r\n\r\n/s)) ?? [];
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]),
    type: /content-type: (.*)\r\n/i.exec(head)?.[1] ?? "",
    async next() {
      const [, size = "0"] = (await take(/^([0-9a-f]+)\r\n/)) ?? [];
      const [, chunk] = (await take(new RegExp(`^(.{${Number.parseInt(size, 16)}})\r\n`, "s"))) ?? [];
      return chunk || undefined;
    },
    stop: () => socket.destroy(),
  };
}

const event = (type: string) => `event: message\ndata: {"type":"${type}"}\n\n`;

describe("the stream of changes", { concurrency: true }, () => {
  for (const flags of [[], ["--processes", "2"]])
    describe(flags.join(" ") || "one process", { concurrency: true }, () => {
      let server: RekeyServer;
      let token: string;
      before(async () => {
        server = await startRekey({ flags });
        token = server.credentials.token;
      });
      after(() => server[Symbol.asyncDispose]());

      async function asked(endpoint: string, body?: object) {
        const answer = await cli(server, endpoint, { token, ...(body ? { body } : {}) });
        assert.ok(answer.status < 300, `${endpoint}: ${answer.text}`);
        return answer.json;
      }
      /** A project with a further config, dev_one. */
      async function newProject(name: string) {
        await asked("POST /v3/projects", { name });
        await asked("POST /v3/configs", { project: name, environment: "dev", name: "dev_one" });
        return {
          at: (config: string) => `?project=${name}&config=${config}`,
          set: (config: string, secrets: object) => asked("POST /v3/configs/config/secrets", { project: name, config, secrets }),
          newToken: async (config: string): Promise<{ key: string; slug: string }> =>
            (await asked("POST /v3/configs/config/tokens", { project: name, config, name: "w", access: "read" })).token,
        };
      }

      test("tells of changes to the config and to what it reads, each in a write of its own", async () => {
        const { set, newToken } = await newProject("api");
        const { key } = await newToken("dev_one");
        // One for each process: connections are dealt out in turn.
        const streams = [await watch(server, key), await watch(server, key)];
        const hear = async (type: string) => {
          for (const stream of streams) assert.equal(await stream.next(), event(type));
        };
        for (const { status, type } of streams) assert.deepEqual([status, type], [200, "text/event-stream"]);
        await hear("connected");
        await set("dev_one", { OWN: "1" });
        await hear("secrets.update");
        await set("dev", { ROOT: "1" });
        await hear("secrets.update");
        await set("stg", { OTHER: "1" });
        await set("dev_one", { LINK: reference("stg.OTHER") });
        await hear("secrets.update");
        await set("stg", { OTHER: "2" });
        await hear("secrets.update");
        for (const stream of streams) stream.stop();
      });

      test("says that it is alive, and of a burst of changes no two things at once", async () => {
        const { set, newToken } = await newProject("burst");
        const stream = await watch(server, (await newToken("prd")).key);
        assert.equal(await stream.next(), event("connected"));
        const beganAt = performance.now();
        for (let round = 0; round < 5; round++) await set("prd", { ROUND: `${round}` });
        let text = await stream.next();
        assert.equal(text, event("secrets.update"));
        for (let further = 0; text === event("secrets.update"); further++) {
          assert.ok(performance.now() - beganAt >= (further - 1) * 900, "a second apart, at the least");
          text = await stream.next();
        }
        assert.equal(text, event("ping"));
        stream.stop();
      });

      test("ends when the token is revoked or the config is deleted", async () => {
        const { at, newToken } = await newProject("ends");
        const revoked = await newToken("stg");
        const streams = [await watch(server, revoked.key), await watch(server, token, at("dev_one"))];
        for (const stream of streams) assert.equal(await stream.next(), event("connected"));
        await asked("DELETE /v3/configs/config/tokens/token", { project: "ends", config: "stg", slug: revoked.slug });
        await asked(`DELETE /v3/configs/config${at("dev_one")}`);
        for (const stream of streams) assert.equal(await stream.next(), undefined);
        assert.equal((await watch(server, revoked.key)).status, 401);
        assert.equal((await watch(server, token, at("dev_one"))).status, 404);
      });

      test("is refused to who may not read the values", async () => {
        const { at, newToken } = await newProject("refused");
        const other = await watch(server, (await newToken("stg")).key, at("prd"));
        assert.equal(other.status, 403);
        assert.match(other.type, /^application\/json/);
        assert.equal((await watch(server, "dp.pt.nobody", at("prd"))).status, 401);
        assert.equal((await watch(server, token, "?project=refused")).status, 400);
        assert.equal((await cli(server, "POST /v3/configs/config/secrets/watch", { token })).status, 404);
      });
    });

  test("while the process that writes is away, the answer is a failure in JSON, and never that something is not there", async () => {
    await using server = await startRekey({ flags: ["--processes", "2"] });
    const { token } = server.credentials;
    const made = await cli(server, "POST /v3/projects", { token, body: { name: "api" } });
    assert.equal(made.status, 200);
    endProcess(workersOf(server, "writer")[0] ?? 0, "SIGKILL");
    const seen = new Set<number>();
    while (!seen.has(500) || !seen.has(200)) {
      const answer = await cli(server, "GET /v3/configs/config?project=api&config=dev", { token }).catch(() => undefined);
      await sleep(10);
      if (!answer) continue; // the connection was that of the process that died
      seen.add(answer.status);
      assertShape(answer.json, answer.status === 200 ? { config: shapes.config } : shapes.failure);
    }
    assert.deepEqual([...seen].toSorted(), [200, 500]);
  });

  // Half of the connections of one process, and half of that for one caller.
  for (const flags of [
    ["--max-connections", "16"],
    ["--max-connections", "32", "--processes", "2"],
  ])
    test(`streams are bounded, and end when the server stops: ${flags.join(" ")}`, async () => {
      await using server = await startRekey({ flags });
      const { token } = server.credentials;
      const made = await cli(server, "POST /v3/projects", { token, body: { name: "api" } });
      assert.equal(made.status, 200);
      const query = "?project=api&config=dev";
      const streams = [];
      for (let n = 0; n < 4; n++) streams.push(await watch(server, token, query));
      assert.deepEqual(
        streams.map(({ status }) => status),
        [200, 200, 200, 200],
      );
      const refused = await cli(server, `GET /v3/configs/config/secrets/watch${query}`, { token });
      assert.deepEqual([refused.status, refused.headers["retry-after"]], [429, "1"]);
      streams[0]?.stop();
      for (;;) {
        const again = await watch(server, token, query);
        if (again.status === 200) break;
      }
      const stopped = server.stop();
      for (const stream of streams.slice(1)) {
        assert.equal(await stream.next(), event("connected"));
        assert.equal(await stream.next(), undefined);
      }
      assert.equal(await stopped, 0);
    });
});
