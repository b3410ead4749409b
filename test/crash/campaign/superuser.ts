// Statements of PostgreSQL's superuser, who comes back after the server was killed.
import pg from "pg";

export interface Superuser extends AsyncDisposable {
  query(text: string): Promise<pg.QueryResult>;
}

export function superuserOf(url: string): Superuser {
  let open: Promise<pg.Client> | undefined;
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client(url);
    client.on("error", () => {
      open = undefined;
    });
    try {
      await client.connect();
      return client;
    } catch (error) {
      open = undefined;
      throw error;
    }
  };
  return {
    async query(text) {
      open ??= connect();
      return (await open).query(text);
    },
    async [Symbol.asyncDispose]() {
      await open?.then(
        (client) => client.end(),
        () => undefined,
      );
    },
  };
}
