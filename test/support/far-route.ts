// The way to a far side that is in this process: everything crosses as JSON, and is run as an agent would run it.

import { randomInt } from "node:crypto";
import { generatePassword, rotationPasswordOptions } from "../../src/core/password.ts";
import type { FarCall, FarRoute } from "../../src/targets/far.ts";
import { type FarTools, runFarVerb } from "../../src/targets/far-verbs.ts";
import { findRotator } from "../../src/targets/index.ts";
import { findLeaseTarget } from "../../src/targets/lease-targets.ts";

export interface LoopRoute extends FarRoute {
  /** All that was called, in order. */
  readonly calls: FarCall[];
}

/** A server as its network knows it. */
type Places = Readonly<Record<string, { readonly host: string; readonly port: number }>>;

/** `allow`: as an agent's allow-list; absent: everything. `places`: what host names mean there, and nowhere else. */
export function loopRoute(allow?: FarTools["allow"], places: Places = {}): LoopRoute {
  const calls: FarCall[] = [];
  return {
    calls,
    async call(call) {
      calls.push(call);
      const { kind, declaration, input, verb, subject, deadlineAt } = JSON.parse(JSON.stringify(call), (_name, value) => {
        const { host, port } = (value && places[value.host]) || {};
        return host === undefined ? value : { ...value, host, port };
      }) as FarCall;
      const answer = await runFarVerb(
        { kind, ...(declaration !== undefined && { declaration }), input },
        {
          verb,
          subject,
          deadlineAt,
          generatePassword: (asked) => generatePassword(rotationPasswordOptions(asked), randomInt),
          findRotator,
          findLeaseTarget,
          ...(allow && { allow }),
        },
      );
      return crossed(answer);
    },
  };
}

const crossed = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
