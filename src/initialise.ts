import { randomBytes, randomUUID } from "node:crypto";
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { ConfigError } from "./core/error.ts";
import { identityId, newSecretAccessKey, newTokenText, rootArn } from "./core/identity.ts";
import { Plaintext } from "./core/plaintext.ts";
import type { Envelope } from "./crypto/envelope.ts";
import type { KeyRing } from "./crypto/key-ring.ts";
import { credentialsFile } from "./open-store.ts";
import { ensureSigningKey } from "./signing-keys.ts";
import { createAccessKey, createToken, hashToken } from "./store/credentials.ts";
import type { Sql } from "./store/sql.ts";

/** Credentials of the account's root user, with where to use them. */
export interface RootCredentials {
  readonly endpoint: string;
  readonly region: string;
  readonly account: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly token: string;
}

export interface InitialiseOptions {
  readonly sql: Sql;
  readonly keys: KeyRing;
  readonly envelope: Envelope;
  readonly account: string;
  readonly region: string;
  readonly endpoint: string;
  now(): number;
}

/**
 * Gives a store its root user's credentials, once: undefined when it has them already. `keep` runs before the store takes
 * them, so that a crash in between leaves credentials without effect rather than a store that nobody can enter.
 */
export async function initialise(
  options: InitialiseOptions,
  keep: (credentials: RootCredentials) => void,
): Promise<RootCredentials | undefined> {
  if (await isInitialised(options.sql)) return undefined;
  await ensureSigningKey(options);
  const fresh = await newRootCredentials(options);
  keep(fresh.credentials);
  const first = await options.sql.transaction(async (tx) => {
    const [row] = await tx.query(
      "insert into meta (key, value) values ('initialised_at', $1) on conflict (key) do nothing returning key",
      [String(options.now())],
    );
    if (!row) return false;
    await tx.query("insert into meta (key, value) values ('account', $1)", [options.account]);
    await fresh.save(tx);
    return true;
  });
  return first ? fresh.credentials : undefined;
}

/** A further access key and token of root, for when the first are lost; `replace` ends all others. */
export async function addRootCredentials(options: InitialiseOptions, replace: boolean): Promise<RootCredentials> {
  const fresh = await newRootCredentials(options);
  await options.sql.transaction(async (tx) => {
    if (replace) {
      await tx.query("delete from access_keys where principal_arn = $1", [rootArn(options.account)]);
      await tx.query("delete from tokens where principal_arn = $1", [rootArn(options.account)]);
    }
    await fresh.save(tx);
  });
  return fresh.credentials;
}

export async function isInitialised(sql: Sql): Promise<boolean> {
  const rows = await sql.query("select 1 as found from meta where key = 'initialised_at'");
  return rows.length > 0;
}

/** @throws ConfigError when the store was made for another account: its number is part of every ARN. */
export async function checkAccount(sql: Sql, account: string): Promise<void> {
  const [row] = await sql.query<{ value: string }>("select value from meta where key = 'account'");
  if (row && row.value !== account)
    throw new ConfigError([`This store belongs to account ${row.value}; start with --account ${row.value}.`]);
}

async function newRootCredentials({ keys, envelope, account, region, endpoint, now }: InitialiseOptions) {
  const accessKeyId = identityId("AKIA", randomBytes);
  const secretAccessKey = newSecretAccessKey(randomBytes);
  const token = newTokenText("personal", randomBytes);
  const key = await keys.resolve(undefined, region);
  const secret = await envelope.seal(new Plaintext(secretAccessKey), { AccessKeyId: accessKeyId }, key.id);
  const principalArn = rootArn(account);
  const createdAt = now();
  const credentials: RootCredentials = { endpoint: reachable(endpoint), region, account, accessKeyId, secretAccessKey, token };
  return {
    credentials,
    async save(tx: Sql): Promise<void> {
      await createAccessKey(tx, { id: accessKeyId, principalArn, createdAt, secret });
      const stored = { hash: hashToken(token), id: randomUUID(), name: "root", principalArn, createdAt, expiresAt: undefined };
      await createToken(tx, stored);
    },
  };
}

/** Nobody can connect to "every address" but this machine itself. */
const reachable = (endpoint: string): string => endpoint.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");

/** Written whole or not at all. */
export function writeCredentialsFile(dataFolder: string, credentials: RootCredentials): void {
  const path = credentialsFile(dataFolder);
  const draft = `${path}.new`;
  rmSync(draft, { force: true }); // of a start that broke off, or put there by somebody
  const file = openSync(draft, "wx", 0o600);
  try {
    writeSync(file, `${JSON.stringify(credentials, undefined, 2)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
}
