// Rotations of targets that are reached through a network.
import { setTimeout as sleep } from "node:timers/promises";
import type { AnyCredential } from "../../../src/targets/index.ts";
import { nativeOk } from "../../support/aws.ts";
import { account, region, type World } from "../../support/engine-world.ts";
import type { RekeyServer } from "../../support/rekey-server.ts";
import { Application, type Met } from "./application.ts";
import type { FarEvent, FarWork } from "./far-campaign.ts";
import { network } from "./far-points.ts";
import { Inspector } from "./inspector.ts";
import type { Scenario } from "./scenarios.ts";
import type { Target } from "./targets.ts";

const secretsAtOnce = 2;
/** Through a network a rotation takes some hundred ms: more logins than these would only keep it waiting. */
const loginEveryMs = 15;
/** Reliability I2, after messages have been lost for as long as the campaign loses them. */
const longestGapMs = 45_000;
const keptLongSeconds = 3_600;

export class FarRotations implements FarWork {
  readonly #scenario: Scenario;
  readonly #target: Target;
  readonly #inspector: Inspector;
  readonly #met = { logins: 0, reads: 0, refused: 0, longestGapMs: 0 };
  #applications: Application[] = [];
  #secrets: string[] = [];
  #made = 0;
  #targetDeaths = 0;
  #targetIsDead = false;

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

  get met(): Met {
    return this.#met;
  }

  noted(event: FarEvent): void {
    if (event === "server died") for (const one of this.#applications) one.down();
    if (event === "server lives") for (const one of this.#applications) one.up();
    if (event === "target died") this.#targetDeaths += 1;
    if (event === "target died" || event === "target lives") this.#targetIsDead = event === "target died";
  }

  violated(invariant: string, what: string, where: string): void {
    this.#inspector.violated(invariant, what, where);
  }

  async prepare(server: RekeyServer): Promise<void> {
    await this.#endApplications();
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
    if (this.#hasApplications)
      this.#applications = this.#secrets.map(
        (name) => new Application(server, name, { ...this.#target, login: this.#login }, loginEveryMs),
      );
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

  /** The rest is looked at when the server is dead the next time. */
  async afterHealing(): Promise<void> {
    await Promise.all(this.#applications.map((one) => one.caughtUp()));
  }

  async finish(server: RekeyServer): Promise<void> {
    await this.round(server);
    while (!(await this.isQuiet(server))) await sleep(20);
    await this.afterHealing();
    await this.#endApplications();
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

  /** Where the old credential ends at once, whoever has not read yet is refused. */
  get #hasApplications(): boolean {
    const { overlap, retireAfterSeconds } = this.#scenario;
    return !overlap || retireAfterSeconds === undefined || retireAfterSeconds >= keptLongSeconds;
  }

  readonly #login = async (credential: AnyCredential): Promise<string> => {
    const deaths = this.#targetDeaths;
    const answer = await (this.#target.login ?? this.#target.logsIn)(credential);
    const wasDead = this.#targetIsDead || deaths !== this.#targetDeaths;
    if (answer === "timeout") return "down"; // the machine is busy
    return wasDead && answer !== "ok" && answer !== "refused" ? "down" : answer;
  };

  async #endApplications(): Promise<void> {
    const violated = (invariant: string, what: string) => this.violated(invariant, what, "kills");
    for (const one of this.#applications.splice(0)) {
      const met = await one.stop();
      this.#met.logins += met.logins;
      this.#met.reads += met.reads;
      this.#met.refused += met.refused;
      this.#met.longestGapMs = Math.max(this.#met.longestGapMs, Math.round(met.longestGapMs));
      const { overlap } = this.#scenario;
      if (overlap && met.refused > 0) violated("I1", `${met.refused} of ${met.logins} logins of an application were refused`);
      if (met.longestGapMs > longestGapMs) violated("I2", `an application could not log in for ${met.longestGapMs} ms`);
      for (const failure of met.failures) violated("I1", `a login failed otherwise: ${failure}`);
    }
  }
}

async function create(server: RekeyServer, name: string, value: object): Promise<string> {
  const clientRequestToken = crypto.randomUUID();
  const made = await nativeOk(server, "secrets/create", { name, clientRequestToken, secretString: JSON.stringify(value) });
  return String(made.arn);
}
