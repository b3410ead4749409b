import { RotatorError } from "./core/error.ts";
import type { Network } from "./core/network.ts";
import { findNetwork } from "./store/networks.ts";
import type { Sql } from "./store/sql.ts";
import type { FarRoute } from "./targets/far.ts";
import { farLeaseTarget } from "./targets/far-lease.ts";
import { farRotator } from "./targets/far-rotator.ts";
import { type AnyCredential, findRotator } from "./targets/index.ts";
import type { LeaseTarget } from "./targets/lease-target.ts";
import { findLeaseTarget } from "./targets/lease-targets.ts";
import type { Rotator } from "./targets/target.ts";

/** The ways that this server has into networks. */
export interface Ways {
  /** To the agents of a network. */
  agents?(network: string): FarRoute;
  /** To a registered function of AWS Lambda, by its ARN. */
  lambda?(functionArn: string): FarRoute;
  /** What of a rotator that function can do: not every one runs all verbs. */
  fit?(functionArn: string, far: Rotator<AnyCredential>): Promise<Rotator<AnyCredential>>;
}

/** The way into a network, chosen anew for each call: as the network is by then. */
function routeInto(sql: Sql, ways: Ways, name: string): FarRoute {
  return {
    async call(call) {
      const network = await findNetwork(sql, name);
      if (!network)
        throw new RotatorError("invalid", `there is no network ${name}: name another one, or make it with rekey network create`);
      const functionArn = functionFor(network, call.kind);
      const route = functionArn === undefined ? ways.agents?.(name) : ways.lambda?.(functionArn);
      if (route) return route.call(call);
      throw new RotatorError("unreachable", `network ${name} has no agent and no function for ${call.kind}`);
    },
  };
}

const functionFor = ({ functions }: Network, kind: string): string | undefined =>
  Object.hasOwn(functions, kind) ? functions[kind] : undefined;

/** Rotators and lease targets by kind; of a network, those that work in it. */
export interface Targets {
  findRotator(kind: string, declaration?: unknown, network?: string): Promise<Rotator<AnyCredential> | undefined>;
  findLeaseTarget(kind: string, network?: string): Promise<LeaseTarget | undefined>;
}

export function createTargets(sql: Sql, ways: Ways): Targets {
  return {
    async findRotator(kind, declaration, network) {
      const local = await findRotator(kind, declaration);
      if (!local || network === undefined) return local;
      const far = farRotator(local, routeInto(sql, ways, network), { network, declaration });
      const found = await findNetwork(sql, network);
      const functionArn = found && functionFor(found, kind);
      return functionArn !== undefined && ways.fit ? ways.fit(functionArn, far) : far;
    },
    async findLeaseTarget(kind, network) {
      const local = await findLeaseTarget(kind);
      return local && network !== undefined ? farLeaseTarget(local, routeInto(sql, ways, network), network) : local;
    },
  };
}
