// Leases of targets that are reached through a network.
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { native, nativeOk } from "../../support/aws.ts";
import type { World } from "../../support/engine-world.ts";
import type { RekeyServer } from "../../support/rekey-server.ts";
import type { FarEvent, FarWork } from "./far-campaign.ts";
import { LeaseEnds } from "./far-lease-ends.ts";
import { network } from "./far-points.ts";
import { LeaseInspector, type LeaseRow, liveLeases } from "./lease-inspector.ts";
import type { LeasePlace } from "./lease-places.ts";

interface Lease {
  readonly id: string;
  readonly user: string;
  readonly expiresAt: string;
}

const config = { project: "shop", config: "dev" };
const dynamicSecret = "DB";
const mostKept = 4;
/** Of one round: what was killed in the first one is met by the second. */
const passes = 2;
/** Calls at the target that the server makes at once; not looked at here. */
const anyNumber = 1_000;
/** As short as a lease can be. */
const shortSeconds = 60;

export class FarLeases implements FarWork {
  readonly #place: LeasePlace;
  readonly #inspector: LeaseInspector;
  readonly ends: LeaseEnds;
  #kept: Lease[] = [];
  #prepared = false;

  constructor(place: LeasePlace) {
    this.#place = place;
    this.#inspector = new LeaseInspector(place, anyNumber);
    const outlived = (what: string) => this.violated("I8", what, "its time");
    this.ends = new LeaseEnds(() => place.users(), outlived);
  }

  get violations(): readonly string[] {
    return this.#inspector.violations;
  }

  get issued(): number {
    return this.#inspector.issued;
  }

  violated(invariant: string, what: string, where: string): void {
    this.#inspector.violated(invariant, what, where);
  }

  noted(event: FarEvent): void {
    if (event === "target died") this.#inspector.close(); // the sessions died with it
    if (event === "trouble") this.ends.trouble();
    if (event === "calm") this.ends.calm();
  }

  async prepare(server: RekeyServer): Promise<void> {
    if (this.#prepared) return;
    this.#prepared = true;
    const { Type: type, Data: data } = this.#place.integration;
    await nativeOk(server, "projects/create", { name: config.project });
    await nativeOk(server, "integrations/create", { name: "main", type, data, network });
    const { settings } = this.#place;
    await nativeOk(server, "dynamic-secrets/create", { ...config, name: dynamicSecret, integration: "main", settings });
    await this.round(server);
  }

  async round(server: RekeyServer): Promise<void> {
    for (let pass = 0; pass < passes; pass += 1) await this.#pass(server);
  }

  async #pass(server: RekeyServer): Promise<void> {
    const [kept, ended, timed] = await Promise.all([this.#issue(server), this.#issue(server), this.#issue(server, shortSeconds)]);
    if (timed) this.ends.expect(timed.user, Date.parse(timed.expiresAt));
    const oldest = this.#kept.length >= mostKept ? this.#kept.shift() : undefined;
    await Promise.all([
      kept && this.#renew(server, kept),
      ended && this.#revoke(server, ended),
      oldest && this.#revoke(server, oldest),
    ]);
    if (kept) this.#kept.push(kept);
  }

  async isQuiet(server: RekeyServer): Promise<boolean> {
    const inState = async (state: string): Promise<readonly Lease[]> => {
      const { leases } = await nativeOk(server, "leases/list", { ...config, dynamicSecret, state });
      return leases as Lease[];
    };
    const isOver = ({ expiresAt }: Lease) => Date.parse(expiresAt) <= Date.now();
    if ((await inState("active")).some(isOver)) return false;
    return (await inState("creating")).length === 0 && (await inState("revoking")).length === 0;
  }

  async afterKill(world: World, where: string): Promise<void> {
    await this.#inspector.afterKill(world, where);
  }

  async afterHealing(storeFile: string, where: string): Promise<void> {
    using store = new DatabaseSync(storeFile, { readOnly: true, timeout: 5_000 });
    const rows = store.prepare(liveLeases);
    await this.#inspector.afterHealing(async () => rows.all() as unknown as LeaseRow[], where);
    await this.ends.settled();
  }

  async finish(server: RekeyServer): Promise<void> {
    await this.round(server);
    for (const { user } of this.#kept) this.#inspector.take(`revoking ${user}`);
    await nativeOk(server, "leases/revoke-all", { ...config, dynamicSecret });
    for (let looks = 0; looks < 3_000 && (await this.#place.users()).length > 0; looks += 1) await sleep(20);
    const left = await this.#place.users();
    if (left.length > 0) this.violated("I7", `left at the end: ${left}`, "the end");
  }

  async atEnd(_world: World, output: string, folder: string): Promise<void> {
    this.#inspector.close();
    await this.ends.close();
    await this.#inspector.leaks(output, folder);
  }

  async #issue(server: RekeyServer, ttlSeconds = 1_800): Promise<Lease | undefined> {
    const lease = await this.#ask(server, "leases/issue", { ...config, dynamicSecret, ttlSeconds });
    if (lease) this.#inspector.take(`issued ${lease.user} ${Date.parse(lease.expiresAt)}`);
    return lease;
  }

  async #renew(server: RekeyServer, { id }: Lease): Promise<void> {
    const lease = await this.#ask(server, "leases/renew", { leaseId: id, ttlSeconds: 2_400 });
    if (lease) this.#inspector.take(`renewed ${lease.user} ${Date.parse(lease.expiresAt)}`);
  }

  async #revoke(server: RekeyServer, { id, user }: Lease): Promise<void> {
    this.#inspector.take(`revoking ${user}`);
    const lease = await this.#ask(server, "leases/revoke", { leaseId: id });
    if (lease) this.#inspector.take(`revoked ${user}`);
  }

  /** `undefined`: the server was killed before it answered, or could not do it in time. */
  async #ask(server: RekeyServer, path: string, input: object): Promise<Lease | undefined> {
    const answer = await native(server, path, input).catch(() => undefined);
    if (answer?.status !== 200) return undefined;
    if (path === "leases/revoke" && answer.json?.revoked !== true) return undefined;
    return answer.json?.lease as unknown as Lease | undefined;
  }
}
