// A running Rekey and a real PostgreSQL whose passwords it rotates.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import pg from "pg";
import { type Credentials, clientSettings, homeRegion, nativeOk, newName } from "./aws.ts";
import type { PostgresServer } from "./postgres-server.ts";
import type { RekeyServer } from "./rekey-server.ts";

export const functionArn = (server: RekeyServer, name: "SingleUser" | "MultiUser", region = homeRegion): string =>
  `arn:aws:lambda:${region}:${server.credentials.account}:function:SecretsManagerRDSPostgreSQLRotation${name}`;

/** A secret's JSON with AWS's keys. */
export interface DatabaseSecret {
  readonly engine: string;
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly masterarn?: string;
  readonly [key: string]: unknown;
}

export interface SeenRotation {
  readonly rotationId: string;
  readonly versionId: string;
  readonly state: string;
  readonly step: string;
  readonly failedTries: number;
  readonly testOnly: boolean;
  readonly origin: string;
  readonly startedDate?: string;
  readonly nextTryDate?: string;
  readonly outcome?: string;
  readonly reason?: string;
  readonly remedy?: string;
}

/** What tests of rotation do again and again, as root unless another's credentials are given. */
export function rotationWorld(server: RekeyServer, database: PostgresServer) {
  const secretsAs = (credentials: Credentials = server.credentials, region = homeRegion) =>
    new SecretsManager(clientSettings(server, credentials, region));
  const root = secretsAs();
  const loginAs = async (credential: Partial<DatabaseSecret>): Promise<pg.Client> => {
    const { host, port, username: user, password } = credential as DatabaseSecret;
    const client = new pg.Client({ host, port, user, password, database: "postgres", ssl: false });
    client.on("error", () => undefined);
    await client.connect();
    return client;
  };

  const world = {
    root,
    secretsAs,
    superuser: (): DatabaseSecret => ({
      engine: "postgres",
      host: database.host,
      port: database.port,
      username: database.user,
      password: database.password,
    }),

    async sql(text: string): Promise<pg.QueryResult> {
      const client = await loginAs(world.superuser());
      return client.query(text).finally(() => client.end());
    },

    /** A login role of its own, and its credential. */
    async newLogin(more: object = {}): Promise<DatabaseSecret> {
      const username = `app_${randomUUID().slice(0, 8)}`;
      await world.sql(`create role ${username} login password 'first-password'`);
      return { ...world.superuser(), username, password: "first-password", ...more };
    },

    async newSecret(value: object, name = newName("db")): Promise<{ SecretId: string; ARN: string; VersionId: string }> {
      const { ARN = "", VersionId = "" } = await root.createSecret({ Name: name, SecretString: JSON.stringify(value) });
      return { SecretId: name, ARN, VersionId };
    },

    async value(SecretId: string, label = "AWSCURRENT"): Promise<DatabaseSecret> {
      return JSON.parse((await root.getSecretValue({ SecretId, VersionStage: label })).SecretString ?? "");
    },

    /** Whether the server takes the credential: true, or the SQLSTATE of its refusal. */
    async logsIn(credential: DatabaseSecret): Promise<true | string> {
      try {
        await (await loginAs(credential)).end();
        return true;
      } catch (error) {
        return error instanceof pg.DatabaseError ? (error.code ?? "") : String(error);
      }
    },

    /** Labels of every version, by version id. */
    async labels(SecretId: string): Promise<Record<string, string[]>> {
      return (await root.describeSecret({ SecretId })).VersionIdsToStages ?? {};
    },

    /** Newest first. */
    async rotations(secretId: string): Promise<SeenRotation[]> {
      return (await nativeOk(server, "rotations/list", { secretId })).rotations as SeenRotation[];
    },

    /** The newest rotation once it is what is waited for; ended, unless told otherwise. */
    async rotationOf(secretId: string, is = ({ state }: SeenRotation) => state !== "running"): Promise<SeenRotation> {
      for (let asked = 0; ; asked++) {
        const rotations = await world.rotations(secretId);
        if (rotations[0] && is(rotations[0])) return rotations[0];
        // Far beyond what any of them takes: better a word than a test that hangs.
        if (asked > 5_000) throw new Error(`waited in vain: ${JSON.stringify(rotations)}\n${server.log().slice(-4_000)}`);
        await sleep(20);
      }
    },

    /** RotateSecret, and how it ended. */
    async rotated(SecretId: string, name: "SingleUser" | "MultiUser", more: object = {}): Promise<SeenRotation> {
      const token = randomUUID();
      const RotationLambdaARN = functionArn(server, name);
      await root.rotateSecret({ SecretId, RotationLambdaARN, ClientRequestToken: token, ...more });
      return world.rotationOf(SecretId, ({ versionId, state }) => versionId === token && state !== "running");
    },
  };
  return world;
}
