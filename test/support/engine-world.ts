// A store with secrets in it and an engine over it, as the server would wire them.
import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { ServiceError } from "../../src/core/error.ts";
import { Plaintext } from "../../src/core/plaintext.ts";
import type { Rotation } from "../../src/core/rotation.ts";
import { addPending, addVersion, type RotationRules, type Secret, versionWith } from "../../src/core/secret.ts";
import { Envelope } from "../../src/crypto/envelope.ts";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import { type KeyRing, openKeyRing } from "../../src/crypto/key-ring.ts";
import { type EngineParts, engineDefaults } from "../../src/engine/parts.ts";
import { openVersion, sealVersion } from "../../src/engine/values.ts";
import { builtinFunction, kindOfEngine } from "../../src/functions/builtin.ts";
import { Hints } from "../../src/store/hints.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import { insertRotation, listRotations } from "../../src/store/rotations.ts";
import { changeSecret, findSecret, insertSecret, loadSecret, newSecretId } from "../../src/store/secrets.ts";
import type { Sql } from "../../src/store/sql.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { findRotator } from "../../src/targets/index.ts";
import { findLeaseTarget } from "../../src/targets/lease-targets.ts";

export const account = "123456789012";
export const region = "eu-central-1";
export const owner = { arn: `arn:aws:iam::${account}:user/owner`, id: "AIDAOWNER" };
const arnOfFunction = (name: string) => `arn:aws:lambda:${region}:${account}:function:${name}`;
export const functionArn = (name: "SingleUser" | "MultiUser") => arnOfFunction(`SecretsManagerRDSPostgreSQLRotation${name}`);

export interface World {
  readonly sql: Sql;
  readonly parts: EngineParts;
  readonly keys: KeyRing;
  /** ARNs of secrets that `owner` may not read. */
  readonly forbidden: Set<string>;
  /** JSON lines of the log. */
  readonly log: string[];
  newSecret(name: string, credential: object, more?: Partial<Secret>): Promise<Secret>;
  /** As RotateSecret queues it. Gives the rotation's id. */
  begin(secret: Secret, how: Begin): Promise<string>;
  rotationOf(id: string): Promise<Rotation>;
  /** Waits for the engine to end it. */
  ended(id: string): Promise<Rotation>;
  reload(secret: Secret): Promise<Secret>;
  credential(secret: Secret, label: string): Promise<DatabaseCredential | undefined>;
  put(secret: Secret, credential: object, versionId?: string): Promise<void>;
  /** Fills the version of a rotation that has begun. */
  putPending(secret: Secret, credential: object, versionId: string): Promise<void>;
}

interface Begin {
  /** Of PostgreSQL; default SingleUser. */
  readonly function?: "SingleUser" | "MultiUser";
  /** Any other, by its name. */
  readonly functionName?: string;
  readonly testOnly?: boolean;
  readonly windowMs?: number;
  readonly rules?: RotationRules;
}

export const newRootKey = (): string => randomBytes(32).toString("base64");

export async function openWorld(
  sql: Sql,
  { rootKey = newRootKey(), settings = {} }: { rootKey?: string; settings?: Partial<EngineParts["settings"]> } = {},
): Promise<World> {
  const now = () => Date.now();
  const key = await openRootKey("env:ROOT", { env: { ROOT: rootKey } });
  const keys = await openKeyRing({ store: ringKeyStore(sql), rootKey: key, account, now, initialise: true });
  const digestKey = keys.deriveKey("value digest");
  const forbidden = new Set<string>();
  const log: string[] = [];
  const parts: EngineParts = {
    sql,
    account,
    region,
    keys,
    envelope: new Envelope(keys, { maxDataKeys: 100 }),
    log: pino({ level: "info" }, { write: (line: string) => void log.push(line) }),
    audit: { append: async () => undefined, inTransaction: async () => undefined },
    hints: new Hints(),
    digest: (value, context) => createHmac("sha256", digestKey).update(`${context}\n`).update(value).digest(),
    now,
    random: Math.random,
    generatePassword: () => randomBytes(24).toString("base64url"),
    findLeaseTarget,
    findRotator,
    findFunction: async (arn) => builtinFunction(arn),
    kindOfEngine,
    findInvoked: async () => undefined,
    mayRun: async () => undefined,
    mayRead: async (_configured, { arn }) =>
      forbidden.has(arn) ? new ServiceError("AccessDeniedException", "not authorized") : undefined,
    settings: { ...engineDefaults, node: "test", ownsStore: true, settleMs: 0, ...settings },
  };
  const current = async (secret: Secret): Promise<Secret> => {
    const found = await loadSecret(sql, secret.id);
    if (!found) throw new Error(`${secret.name} is gone`);
    return found;
  };
  const sealed = async (secret: Secret, versionId: string, credential: object) =>
    sealVersion(parts, secret, versionId, { kind: "string", plaintext: new Plaintext(JSON.stringify(credential)) });
  const rotationOf = async (id: string): Promise<Rotation> => {
    const found = (await listRotations(sql, { limit: 1_000 })).find((rotation) => rotation.id === id);
    if (!found) throw new Error("no such rotation");
    return found;
  };

  return {
    sql,
    parts,
    keys,
    forbidden,
    log,
    rotationOf,
    reload: current,
    async newSecret(name, credential, more = {}) {
      const id = newSecretId();
      const arn = `arn:aws:secretsmanager:${region}:${account}:secret:${name}-${randomBytes(3).toString("hex")}`;
      const at = Date.now();
      const empty: Secret = {
        id,
        region,
        name,
        arn,
        createdAt: at,
        lastChangedAt: at,
        generation: 0,
        rowVersion: 1,
        versions: [],
        ...more,
      };
      const versionId = randomUUID();
      const value = await sealed(empty, versionId, credential);
      const { secret } = addVersion(empty, { id: versionId, value, createdAt: at });
      await sql.transaction((tx) => insertSecret(tx, secret));
      return current(secret);
    },
    async begin(secret, { function: name = "SingleUser", functionName, testOnly = false, windowMs = 60_000, rules }) {
      const arn = functionName === undefined ? functionArn(name) : arnOfFunction(functionName);
      const [id, versionId, at] = [randomUUID(), randomUUID(), Date.now()];
      await sql.transaction(async (tx) => {
        const set = {
          rotationEnabled: true,
          rotationFunctionArn: arn,
          rotationPrincipal: owner,
          ...(rules && { rotationRules: rules }),
        };
        const saved = await changeSecret(tx, secret.id, (before) => addPending({ ...before, ...set }, versionId, at));
        const about = {
          secretId: secret.id,
          versionId,
          generation: saved?.generation ?? 0,
          functionArn: arn,
          principal: owner.arn,
        };
        const times = { runAt: at, startedAt: at, windowEndsAt: at + windowMs };
        if (!(await insertRotation(tx, { id, origin: "request", testOnly, ...about, ...times })))
          throw new Error("one is running");
      });
      return id;
    },
    async ended(id) {
      for (;;) {
        const rotation = await rotationOf(id);
        if (rotation.state !== "running") return rotation;
        await sleep(5);
      }
    },
    async credential(secret, label) {
      const latest = await current(secret);
      const version = versionWith(latest, label);
      const value = version && (await openVersion(parts, latest, version.id));
      return value && JSON.parse(value.plaintext.revealText());
    },
    async putPending(secret, credential, id) {
      const added = { id, stages: ["AWSPENDING"], value: await sealed(secret, id, credential), createdAt: Date.now() };
      await sql.transaction((tx) => changeSecret(tx, secret.id, (before) => addVersion(before, added).secret));
    },
    async put(secret, credential, versionId = randomUUID()) {
      const value = await sealed(secret, versionId, credential);
      await sql.transaction((tx) =>
        changeSecret(tx, secret.id, (before) => addVersion(before, { id: versionId, value, createdAt: Date.now() }).secret),
      );
    },
  };
}

export async function findByName(sql: Sql, name: string): Promise<Secret | undefined> {
  return findSecret(sql, region, name);
}
