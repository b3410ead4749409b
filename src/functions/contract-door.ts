import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { ServiceError } from "../core/error.ts";

/** Members by AWS's names. */
export type Members = Readonly<Record<string, unknown>>;

/** Where secrets really lie: makes an operation of Secrets Manager with the rights of whoever tests. @throws ServiceError */
export type ContractStore = (operation: string, input: Members) => Promise<Members>;

/** What the function is shown of the secret that it is tested with, in place of what the store says. */
interface ContractView {
  /** Labelled AWSPENDING, though the store may not know the version yet: as a rotation that has begun. */
  pending?: string | undefined;
  /** In place of the pending version's value. */
  pendingValue?: string | undefined;
  /** Of values that go out, and back for those that come in. */
  outward(value: string): string;
  inward(value: string): string;
}

/** Stands between a call of the function and its answer; may forward it or not, and answers `cut` to break the connection. */
type Between = (operation: string, forward: () => Promise<Members>) => Promise<Members | "cut">;

export interface ContractDoor extends AsyncDisposable {
  readonly endpoint: string;
  /** Shows that a call comes from the function: other users of the machine can reach the port, too. */
  readonly sessionToken: string;
  readonly view: ContractView;
  between: Between | undefined;
  /** Operations that were asked for, since somebody emptied it. */
  readonly asked: string[];
  /** Rises with every change that is asked for. */
  writes: number;
  /** Every value that went through, and every password that was made. */
  readonly values: Set<string>;
}

const operations: ReadonlySet<string> = new Set([
  "DescribeSecret",
  "GetSecretValue",
  "PutSecretValue",
  "UpdateSecretVersionStage",
  "GetRandomPassword",
]);
const asIs = (value: string) => value;

/** Secrets Manager as the function under test finds it, on a port of its own on loopback. */
export async function openContractDoor(secret: { arn: string; name: string }, store: ContractStore): Promise<ContractDoor> {
  const view: ContractView = { outward: asIs, inward: asIs };
  const [asked, values]: [string[], Set<string>] = [[], new Set()];
  const isOurs = ({ SecretId }: Members) => SecretId === secret.arn || SecretId === secret.name;

  const run = async (operation: string, input: Members): Promise<Members> => {
    if (!operations.has(operation)) throw new ServiceError("UnknownOperationException", `${operation} is not for functions.`);
    if (operation === "GetRandomPassword") return store(operation, input);
    if (operation === "GetSecretValue") return readValue(input);
    if (!isOurs(input)) throw new ServiceError("AccessDeniedException", "A rotation function may change its own secret only.");
    if (operation === "DescribeSecret") return describe(await store(operation, input), view);
    door.writes += 1;
    const { RotationToken: _given, ...members } = input; // of a rotation that the store knows nothing of
    const text = members.SecretString;
    if (typeof text === "string") values.add(view.inward(text));
    const sent = typeof text === "string" ? { ...members, SecretString: view.inward(text) } : members;
    return store(operation, sent).finally(() => {
      door.writes += 1; // who looked meanwhile has to look again
    });
  };
  const readValue = async (input: Members): Promise<Members> => {
    const { pending, pendingValue } = view;
    const isPending = input.VersionId === undefined ? input.VersionStage === "AWSPENDING" : input.VersionId === pending;
    const copied = isOurs(input) && isPending && pending !== undefined ? pendingValue : undefined;
    const answer =
      copied === undefined
        ? await store("GetSecretValue", input)
        : { ARN: secret.arn, Name: secret.name, VersionId: pending, VersionStages: ["AWSPENDING"], SecretString: copied };
    if (typeof answer.SecretString !== "string") return answer;
    values.add(answer.SecretString);
    return { ...answer, SecretString: view.outward(answer.SecretString) };
  };

  const server = createServer((request, response) => {
    void answer(request, response).catch(() => response.destroy());
  });
  const sessionToken = randomUUID() + randomUUID();
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (request.headers["x-amz-security-token"] !== sessionToken) {
      return send(response, 400, { __type: "UnrecognizedClientException", message: "The security token is invalid." });
    }
    const input = (await json(request)) as Members;
    const operation = String(request.headers["x-amz-target"]).replace(/^secretsmanager\./, "");
    asked.push(operation);
    const forward = async () => {
      const done = await run(operation, input);
      if (typeof done.RandomPassword === "string") values.add(done.RandomPassword);
      return done;
    };
    try {
      const done = await (door.between?.(operation, forward) ?? forward());
      if (done === "cut") response.destroy();
      else send(response, 200, done);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      send(response, error.status, { __type: error.code, Message: error.message });
    }
  };
  server.listen(0, "127.0.0.1");
  await new Promise<void>((resolve, reject) => {
    server.once("listening", resolve);
    server.once("error", reject);
  });
  const door: ContractDoor = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sessionToken,
    view,
    between: undefined,
    asked,
    writes: 0,
    values,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
  return door;
}

/** As it would be while a rotation to `pending` is under way. */
function describe(described: Members, { pending }: ContractView): Members {
  const stored = (described.VersionIdsToStages ?? {}) as Readonly<Record<string, readonly string[]>>;
  if (pending === undefined) return { ...described, RotationEnabled: true };
  const labels = Object.entries(stored).map(([id, stages]) => [id, stages.filter((stage) => stage !== "AWSPENDING")] as const);
  const shown = Object.fromEntries(labels.filter(([, stages]) => stages.length > 0));
  const own = shown[pending] ?? [];
  return { ...described, RotationEnabled: true, VersionIdsToStages: { ...shown, [pending]: [...own, "AWSPENDING"] } };
}

function send(response: ServerResponse, status: number, body: Members): void {
  if (response.destroyed) return;
  response.writeHead(status, { "Content-Type": "application/x-amz-json-1.1" }).end(JSON.stringify(body));
}
