import type pg from "pg";
import { type ScramKeys, ScramLogin } from "./scram.ts";

const mechanism = "SCRAM-SHA-256";
const requests = ["authenticationSASL", "authenticationSASLContinue", "authenticationSASLFinal"] as const;

export interface ScramProof {
  readonly password: string;
  /** Keys of the password that may be those which the server asks for. */
  readonly known?: ScramKeys | undefined;
  /** The server has shown that it knows the password. */
  onProven(): void;
}

/**
 * Answers the server's questions by SCRAM for a connection that has just been begun. The driver would do so too, but derives
 * each key in another thread, and cannot be given keys that are known already.
 */
export function proveByScram(connection: pg.Connection, { password, known, onProven }: ScramProof): void {
  for (const request of requests) connection.removeAllListeners(request);
  const login = new ScramLogin(password, known);
  const orFail = (work: () => void) => {
    try {
      work();
    } catch (error) {
      connection.emit("error", error);
    }
  };
  connection.on("authenticationSASL", ({ mechanisms }: { mechanisms: readonly string[] }) =>
    orFail(() => {
      if (!mechanisms.includes(mechanism)) throw new Error(`SASL: the server does not offer ${mechanism}`);
      const first = Buffer.from(login.first);
      send(connection, Buffer.concat([Buffer.from(`${mechanism}\0`), int32(first.length), first]));
    }),
  );
  connection.on("authenticationSASLContinue", ({ data }: { data: string }) => {
    login.answer(data).then(
      (answer) => send(connection, Buffer.from(answer)),
      (error: unknown) => connection.emit("error", error),
    );
  });
  connection.on("authenticationSASLFinal", ({ data }: { data: string }) =>
    orFail(() => {
      login.accept(data);
      onProven();
    }),
  );
}

/** Source: PostgreSQL documentation, message formats: SASLInitialResponse, SASLResponse. */
function send({ stream }: pg.Connection, body: Buffer): void {
  stream.write(Buffer.concat([Buffer.from("p"), int32(body.length + 4), body]));
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}
