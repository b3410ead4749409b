// Rotated secrets of a config, for the kill campaign: what the config shows is what is current, and its log tells of each
// rotation once.
import assert from "node:assert/strict";
import { ownedName } from "../../../src/core/rotated-secret.ts";
import { openRootKey } from "../../../src/crypto/key-provider.ts";
import type { Sql } from "../../../src/store/sql.ts";
import type { World } from "../../support/engine-world.ts";
import { findByName } from "../../support/engine-world.ts";
import { type LeaseWorld, leaseWorld, place } from "../../support/lease-world.ts";
import type { Target } from "./targets.ts";

type Call = LeaseWorld["call"];

export class ConfigSecrets {
  readonly #folder: string;
  readonly #rootKey: string;
  #isSetUp = false;

  /** Of the store in `folder`. */
  constructor(folder: string, rootKey: string) {
    this.#folder = folder;
    this.#rootKey = rootKey;
  }

  /** A rotated secret of two users that the integration's user rotates; the name of the secret behind it. */
  async create(sql: Sql, target: Target, name: string): Promise<string> {
    const { usernames, password } = await target.newAccount(name);
    assert.ok(Array.isArray(usernames) && target.admin);
    const { engine, ...Data } = target.admin;
    const Name = name.toUpperCase();
    await this.#calling(sql, async (call) => {
      if (!this.#isSetUp) await call("CreateProject", { Name: place.Project });
      if (!this.#isSetUp) await call("CreateIntegration", { Name: "main", Type: engine, Data });
      this.#isSetUp = true;
      const Credentials = usernames.map((USERNAME) => ({ USERNAME, PASSWORD: password }));
      await call("CreateRotatedSecret", { ...place, Name, Integration: "main", RotationPeriodSeconds: 86_400, Credentials });
    });
    return ownedName(place.Project, place.Config, Name);
  }

  async inspect(world: World, names: readonly string[], violated: (invariant: string, what: string) => void): Promise<void> {
    const { sql } = world;
    const shown = await this.#calling(sql, async (call) => {
      const { Body } = await call("DownloadConfigSecrets", place);
      return JSON.parse(String(Body)) as Record<string, string>;
    });
    for (const name of names) {
      const secret = await findByName(sql, name);
      const current = secret && (await world.credential(secret, "AWSCURRENT"));
      const Name = name.slice(name.lastIndexOf("/") + 1);
      if (!current || shown[`${Name}_USERNAME`] !== current.username || shown[`${Name}_PASSWORD`] !== current.password)
        violated("I5", `${Name}: the config does not show what is current`);
      const [row] = await sql.query<{ told: number; done: number }>(
        `select (select count(*) from activity_logs where text = $1) as told,
           (select count(*) from rotations where secret_id = $2 and state = 'succeeded') as done`,
        [`rotated ${Name}`, secret?.id ?? ""],
      );
      if (row?.told !== row?.done) violated("I13", `${Name}: the log tells of ${row?.told} rotations of ${row?.done}`);
    }
  }

  async #calling<T>(sql: Sql, work: (call: Call) => Promise<T>): Promise<T> {
    const rootKey = await openRootKey("env:KEY", { env: { KEY: this.#rootKey } });
    await using world = await leaseWorld(sql, this.#folder, { rootKey });
    return await work(world.call);
  }
}
