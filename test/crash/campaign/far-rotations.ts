// Rotations of targets that are reached through a network.
import { setTimeout as sleep } from "node:timers/promises";
import { nativeOk } from "../../support/aws.ts";
import { account, region, type World } from "../../support/engine-world.ts";
import type { RekeyServer } from "../../support/rekey-server.ts";
import type { FarWork } from "./far-campaign.ts";
import { network } from "./far-points.ts";
import { Inspector } from "./inspector.ts";
import type { Scenario } from "./scenarios.ts";
import type { Target } from "./targets.ts";

const secretsAtOnce = 2;

export class FarRotations implements FarWork {
  readonly #scenario: Scenario;
  readonly #target: Target;
  readonly #inspector: Inspector;
  #secrets: string[] = [];
  #made = 0;

  constructor(scenario: Scenario, target: Target) {
    this.#scenario = scenario;
    this.#target = target;
    this.#inspector = new Inspector(scenario, target);
  }

  get violations(): readonly string[] {
    return this.#inspector.violations;
  }

  get rotations(): number {
    return this.#inspector.rotations;
  }

  violated(invariant: string, what: string, where: string): void {
    this.#inspector.violated(invariant, what, where);
  }

  async prepare(server: RekeyServer): Promise<void> {
    const { admin } = this.#target;
    const master = admin && (await create(server, `master-${this.#made}`, admin));
    if (master !== undefined) await nativeOk(server, "rotations/put-policy", { secretId: master, network });
    this.#secrets = [];
    for (let count = 0; count < secretsAtOnce; count += 1, this.#made += 1) {
      const name = `user_${this.#made}`;
      await create(server, name, { ...(await this.#target.newAccount(name)), ...(master && { masterarn: master }) });
      const { retireAfterSeconds } = this.#scenario;
      const policy = { network, ...(retireAfterSeconds !== undefined && { retireAfterSeconds }) };
      await nativeOk(server, "rotations/put-policy", { secretId: name, ...policy });
      this.#secrets.push(name);
    }
  }

  async round(server: RekeyServer): Promise<void> {
    const begin = (secretId: string) =>
      nativeOk(server, "secrets/rotate", {
        secretId,
        clientRequestToken: crypto.randomUUID(),
        rotationLambdaArn: `arn:aws:lambda:${region}:${account}:function:${this.#scenario.functionName}`,
        rotationRules: { automaticallyAfterDays: 30 },
      }).catch(() => undefined); // killed before it could answer
    await Promise.all(this.#secrets.map(begin));
  }

  async isQuiet(server: RekeyServer): Promise<boolean> {
    const { rotations } = await nativeOk(server, "rotations/list", { state: "running" });
    return (rotations as unknown[]).length === 0;
  }

  async afterKill(world: World, where: string): Promise<void> {
    await this.#inspector.afterKill(world, this.#secrets, where);
  }

  async afterHealing(): Promise<void> {
    // Looked at when the server is dead the next time.
  }

  async finish(server: RekeyServer): Promise<void> {
    await this.round(server);
    while (!(await this.isQuiet(server))) await sleep(20);
    if (this.#scenario.retireAfterSeconds !== 0) return;
    for (let looks = 0; looks < 3_000; looks += 1) {
      const { retirements } = await nativeOk(server, "retirements/list", {});
      if ((retirements as { state: string }[]).every(({ state }) => state !== "waiting" && state !== "running")) return;
      await sleep(20);
    }
  }

  async atEnd(world: World, output: string, folder: string): Promise<void> {
    await this.#inspector.atEnd(world, this.#secrets);
    await this.#inspector.leaks(output, folder);
  }
}

async function create(server: RekeyServer, name: string, value: object): Promise<string> {
  const clientRequestToken = crypto.randomUUID();
  const made = await nativeOk(server, "secrets/create", { name, clientRequestToken, secretString: JSON.stringify(value) });
  return String(made.arn);
}
