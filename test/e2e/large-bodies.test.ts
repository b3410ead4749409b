import assert from "node:assert/strict";
import { once } from "node:events";
import type { Socket } from "node:net";
import { test } from "node:test";
import { rawRequest } from "../support/aws.ts";
import { hear, open, requestText } from "../support/raw-http.ts";
import { startRekey } from "../support/rekey-server.ts";

const maxBodyBytes = 16 * 1024 * 1024;
const roomFor = 16;

test("strangers who begin large bodies get no more memory than there is, and hold up nobody with a small one", async () => {
  await using server = await startRekey({ flags: ["--max-body-bytes", `${maxBodyBytes}`] });
  const sockets: Socket[] = [];
  const begin = async (path: string, header: string) => {
    const socket = await open(server.endpoint);
    sockets.push(socket);
    socket.write(requestText(`POST ${path}`, [header]));
    return socket;
  };
  try {
    const sized = `Content-Length: ${maxBodyBytes}`;
    for (let begun = 0; begun < roomFor; begun++) await begin(begun % 2 ? "/" : "/rekey/v1/users/list", sized);
    await answersOthers(); // they have arrived
    for (const path of ["/", "/rekey/v1/users/list"])
      for (const header of [sized, "Transfer-Encoding: chunked"]) {
        const [reply] = await hear(await begin(path, header));
        assert.equal(reply?.status, 429, `${path} ${header}`);
      }
    assert.equal((await rawRequest(server, "secretsmanager.ListSecrets", "{}")).status, 200);
    const [first] = sockets;
    assert.ok(first);
    first.destroy();
    await once(first, "close");
    for (;;) {
      const socket = await begin("/", sized);
      const refused = await Promise.race([once(socket, "data").then(() => true), answersOthers()]);
      if (!refused) break;
    }
  } finally {
    for (const socket of sockets) socket.destroy();
  }

  // Those that are over take no room any more.
  const answers = new Set<number>();
  for (let asked = 0; asked <= roomFor; asked++)
    answers.add((await rawRequest(server, "secretsmanager.ListSecrets", " ".repeat(maxBodyBytes - 2))).status);
  assert.deepEqual([...answers], [400]);

  /** By then a refusal would have come. */
  async function answersOthers(): Promise<false> {
    for (let asked = 0; asked < 20; asked++) await rawRequest(server, "secretsmanager.ListSecrets", "{}");
    return false;
  }
});
