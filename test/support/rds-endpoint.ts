// A small stand-in for Amazon RDS's address on loopback, for tests only: it keeps the wire form of DescribeDBInstances and
// DescribeDBClusters (Query protocol) and asks for signed requests.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

interface RdsPlace {
  readonly kind: "db" | "cluster";
  /** Absent while it is being created. */
  readonly host?: string;
  readonly port?: number;
}

export interface RdsEndpoint extends AsyncDisposable {
  /** Environment of a command that is to ask it. */
  readonly env: NodeJS.ProcessEnv;
  /** By identifier. */
  readonly places: Map<string, RdsPlace>;
  /** Whether it refuses to tell. */
  refuses: boolean;
}

const signature =
  /^AWS4-HMAC-SHA256 Credential=[A-Z0-9]+\/\d{8}\/[a-z0-9-]+\/rds\/aws4_request, SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}$/;

export async function startRdsEndpoint(): Promise<RdsEndpoint> {
  const server = createServer((incoming, response) => {
    void answer(incoming, response, endpoint).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const endpoint: RdsEndpoint = {
    env: {
      AWS_ENDPOINT_URL_RDS: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      AWS_REGION: "eu-central-1",
      AWS_ACCESS_KEY_ID: "AKIACALLERCALLERCALL",
      AWS_SECRET_ACCESS_KEY: "secret-of-the-caller",
      AWS_EC2_METADATA_DISABLED: "true",
    },
    places: new Map(),
    refuses: false,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return endpoint;
}

async function answer(incoming: IncomingMessage, response: ServerResponse, endpoint: RdsEndpoint): Promise<void> {
  const form = new URLSearchParams(await text(incoming));
  const action = form.get("Action") ?? "";
  const error = (status: number, code: string) =>
    response
      .writeHead(status, { "content-type": "text/xml" })
      .end(`<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>no</Message></Error></ErrorResponse>`);
  if (!signature.test(incoming.headers.authorization ?? "")) return void error(403, "IncompleteSignature");
  if (endpoint.refuses) return void error(403, "AccessDenied");
  const isInstance = action === "DescribeDBInstances";
  const [kind, noun] = isInstance ? (["db", "DBInstance"] as const) : (["cluster", "DBCluster"] as const);
  const asked = form.get(`${noun}Identifier`) ?? "";
  const place = endpoint.places.get(asked.split(":").at(-1) ?? "");
  if (place?.kind !== kind) return void error(404, isInstance ? "DBInstanceNotFound" : "DBClusterNotFoundFault");
  const { host, port } = place;
  const where = isInstance ? `<Address>${host}</Address><Port>${port}</Port>` : host;
  const told = `${host === undefined ? "" : `<Endpoint>${where}</Endpoint>`}${isInstance || port === undefined ? "" : `<Port>${port}</Port>`}`;
  response
    .writeHead(200, { "content-type": "text/xml" })
    .end(
      `<${action}Response xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><${action}Result><${noun}s><${noun}>${told}</${noun}></${noun}s></${action}Result></${action}Response>`,
    );
}
