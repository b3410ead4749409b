// What `node:http` alone costs: every measurement of Rekey is a share of what this one does in the same minute.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface BareAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

process.on("disconnect", () => process.exit(0));
process.once("message", ({ status, headers, body }: BareAnswer) => {
  const server = createServer({ keepAliveTimeout: 65_000 }, (request, response) => {
    request.on("data", () => undefined);
    request.on("end", () => {
      response.writeHead(status, status === 304 ? headers : { ...headers, "Content-Length": Buffer.byteLength(body) });
      response.end(body);
    });
  });
  server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as AddressInfo).port }));
});
