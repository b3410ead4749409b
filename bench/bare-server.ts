// What `node:http` alone costs: every measurement of Rekey is a share of what this one does in the same minute.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

process.on("disconnect", () => process.exit(0));
process.once("message", ({ headers, body }: { headers: Record<string, string>; body: string }) => {
  const server = createServer({ keepAliveTimeout: 65_000 }, (request, response) => {
    request.on("data", () => undefined);
    request.on("end", () => {
      response.writeHead(200, { ...headers, "Content-Length": Buffer.byteLength(body) });
      response.end(body);
    });
  });
  server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as AddressInfo).port }));
});
