// What the kill campaign does through agents and functions of AWS Lambda.

import type { Met } from "./application.ts";
import type { CampaignOptions, Report } from "./campaign.ts";
import { startAgents } from "./far-agents.ts";
import { type FarPlace, type FarReport, runFarCampaign } from "./far-campaign.ts";
import { startLambda } from "./far-lambda.ts";
import { FarLeases } from "./far-leases.ts";
import { FarRotations } from "./far-rotations.ts";
import type { FarSides } from "./far-sides.ts";
import { leaseScenarios } from "./lease-places.ts";
import { type Scenario, scenarios } from "./scenarios.ts";
import type { Target } from "./targets.ts";

interface FarScenario {
  readonly name: string;
  readonly skip: string | false;
  run(options: CampaignOptions): Promise<Report & FarReport & Partial<Met> & Partial<OfLeases>>;
}

interface OfLeases {
  readonly leases: number;
  /** By their time. */
  readonly endedByTime: number;
  readonly slowestEndMs: number;
  readonly slowestCalmEndMs: number;
}

/** `rules`: what agents may connect to. */
type StartSides = (place: FarPlace, rules: readonly string[]) => Promise<FarSides>;

/** Of agents that are to die, those that are stopped instead, unless all are. */
const someStops = 0.3;

const byAgents: StartSides = (place, rules) => startAgents({ ...place, rules, stopRate: 0 });
/** Sessions of PostgreSQL are ended by whoever takes over, so that one who was stopped does nothing late. */
const byStoppedAgents: StartSides = (place, rules) => startAgents({ ...place, rules, stopRate: someStops });
const byAgentsThatOnlyStop: StartSides = (place, rules) => startAgents({ ...place, rules, stopRate: 1 });
const byLambda =
  (kind: string): StartSides =>
  ({ random }) =>
    startLambda(kind, random);

function named<One extends { readonly name: string }>(all: readonly One[], name: string): One {
  const found = all.find((one) => one.name === name);
  if (!found) throw new Error(`no scenario ${name}`);
  return found;
}

/** Where the targets of a scenario are, as an agent's rules name them. */
async function rulesOf(target: Target): Promise<string[]> {
  const { engine, host, port, endpoint } = target.admin ?? (await target.newAccount("user_of_no_secret"));
  return [`${engine}://${endpoint === undefined ? `${host}:${port}` : new URL(String(endpoint)).host}`];
}

function rotations(far: string, rotates: Scenario, start: StartSides, onlySides = false): FarScenario {
  const name = `${far}, ${rotates.name}`;
  return {
    name,
    skip: rotates.skip,
    async run(options) {
      await using target = await rotates.start();
      const work = new FarRotations(rotates, target);
      const rules = await rulesOf(target);
      const { server } = target;
      const begin = async (place: FarPlace) => ({ sides: await start(place, rules), work, target: server, onlySides });
      const report = await runFarCampaign(name, options, begin);
      return { scenario: name, ...report, rotations: work.rotations, ...work.met, violations: work.violations };
    },
  };
}

function leases(far: string, kind: string, start: StartSides, onlySides = false): FarScenario {
  const scenario = named(leaseScenarios, `leases, ${kind}`);
  const name = `${far}, ${scenario.name}`;
  return {
    name,
    skip: scenario.skip,
    async run(options) {
      await using target = await scenario.start();
      const work = new FarLeases(target);
      const { host, port } = target.integration.Data as { host?: string; port?: number };
      const rules = [`${kind}://${host}:${port}`];
      const { server } = target;
      const begin = async (place: FarPlace) => ({ sides: await start(place, rules), work, target: server, onlySides });
      const report = await runFarCampaign(name, options, begin);
      const { ended: endedByTime, slowestMs: slowestEndMs, slowestCalmMs: slowestCalmEndMs } = work.ends;
      const ofLeases = { leases: work.issued, endedByTime, slowestEndMs, slowestCalmEndMs };
      return { scenario: name, ...report, rotations: 0, ...ofLeases, violations: work.violations };
    },
  };
}

export const farScenarios: readonly FarScenario[] = [
  rotations("agents", named(scenarios, "postgres/single-user"), byStoppedAgents),
  rotations("agents", named(scenarios, "postgres/alternating-users"), byStoppedAgents),
  rotations("agents", named(scenarios, "redis/dual-slot"), byStoppedAgents),
  rotations("agents", named(scenarios, "aws-iam/issuer"), byAgents),
  rotations("agents", named(scenarios, "ldap/single-user"), byAgents),
  leases("agents", "postgres", byStoppedAgents),
  leases("agents", "redis", byAgents),
  rotations("functions", named(scenarios, "postgres/single-user"), byLambda("postgres")),
  rotations("functions", named(scenarios, "postgres/alternating-users"), byLambda("postgres")),
  leases("functions", "postgres", byLambda("postgres")),
];

/** Agents that are stopped in the middle of a verb, while others take over, and then go on as if nothing had been. */
export const stoppedScenarios: readonly FarScenario[] = [
  ...["postgres/single-user", "postgres/alternating-users", "redis/dual-slot"].map((name) =>
    rotations("stopped agents", named(scenarios, name), byAgentsThatOnlyStop, true),
  ),
  leases("stopped agents", "postgres", byAgentsThatOnlyStop, true),
];
