// What the kill campaign does through agents and functions.

import type { CampaignOptions, Report } from "./campaign.ts";
import { startAgents } from "./far-agents.ts";
import { type FarReport, runFarCampaign } from "./far-campaign.ts";
import { FarRotations } from "./far-rotations.ts";
import { type Scenario, scenarios } from "./scenarios.ts";
import type { Target } from "./targets.ts";

export interface FarScenario {
  readonly name: string;
  readonly skip: string | false;
  run(options: CampaignOptions): Promise<Report & Pick<FarReport, "faults"> & { readonly leases?: number }>;
}

function rotating(name: string): Scenario {
  const found = scenarios.find((one) => one.name === name);
  if (!found) throw new Error(`no scenario ${name}`);
  return found;
}

/** Where the targets of a scenario are, as an agent's rules name them. */
const rulesOf = ({ admin }: Target, one: Record<string, unknown>): string[] => {
  const { engine, host, port, endpoint } = admin ?? one;
  return endpoint === undefined ? [`${engine}://${host}:${port}`] : [`${engine}://${new URL(String(endpoint)).host}`];
};

function throughAgents(rotates: Scenario): FarScenario {
  const name = `agents, ${rotates.name}`;
  return {
    name,
    skip: rotates.skip,
    async run(options) {
      await using target = await rotates.start();
      const work = new FarRotations(rotates, target);
      const rules = rulesOf(target, target.admin ?? (await target.newAccount("user_of_no_secret")));
      const report = await runFarCampaign(name, options, async (place) => ({
        sides: await startAgents({ ...place, rules }),
        work,
      }));
      return { scenario: name, ...report, rotations: work.rotations, violations: work.violations };
    },
  };
}

export const farScenarios: readonly FarScenario[] = [
  throughAgents(rotating("postgres/single-user")),
  throughAgents(rotating("postgres/alternating-users")),
  throughAgents(rotating("redis/dual-slot")),
  throughAgents(rotating("aws-iam/issuer")),
];
