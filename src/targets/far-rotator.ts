import type { OutcomeClass } from "../core/error.ts";
import { RotatorError } from "../core/error.ts";
import { keyIn } from "../core/network.ts";
import type { FarRoute } from "./far.ts";
import { askFar, type FarTarget } from "./far-call.ts";
import type { FarRotator } from "./far-rotator-verbs.ts";
import type { Comparison, Finding, Issued, Issuer, Rotator, RotatorTools, Strategy } from "./target.ts";

type Credential = Record<string, unknown>;

/**
 * The same rotator, whose verbs with a target are run at the far side of a route, one message each; what is pure stays here.
 * What reaches no target is given back as it is. `network` becomes part of accounts: equal host names in two networks are two
 * hosts. `declaration`: of an HTTP API.
 */
export function farRotator(
  local: FarRotator,
  route: FarRoute,
  { network, declaration }: { readonly network?: string; readonly declaration?: unknown } = {},
): FarRotator {
  if (local.strategies.every((strategy) => strategy === "generator")) return local;
  const target: FarTarget = { route, kind: local.kind, declaration };
  const ask = <Answer>(verb: string, input: object, { rotationId, password, deadlineAt, fence }: RotatorTools) =>
    askFar<Answer>(
      target,
      `rotator.${verb}`,
      { ...input, ...(password && { password }) },
      { subject: rotationId, deadlineAt, fence },
    );
  const { issuer, prefer, retire, check, compare } = local;
  return {
    ...local,
    callsOutliveMs: clockDifferenceMs,
    logsInEarly: false, // what is sent there is done there
    account(current, strategy) {
      const account = local.account(current, strategy);
      return account === undefined ? undefined : keyIn(network, account);
    },
    set: (versions, strategy, tools) => ask("set", { versions, strategy }, tools),
    test: (credential, tools) => ask("test", { credential }, tools),
    probe: (credential, tools) => outcomeOf(ask<OutcomeClass>("probe", { credential }, tools)),
    ...(prefer && { prefer: (access, strategy, tools) => ask<Strategy>("prefer", { access, strategy }, tools) }),
    ...(retire && { retire: (old, access, strategy, tools) => ask("retire", { old, access, strategy }, tools) }),
    ...(check && { check: (access, strategy, tools) => ask<Finding[]>("check", { access, strategy }, tools) }),
    ...(compare && { compare: (access, tools) => ask<Comparison>("compare", { access }, tools) }),
    ...(issuer && { issuer: farIssuer(issuer, local, ask) }),
  } satisfies Rotator<Credential>;
}

/** Clocks of both sides may differ by so much: what is refused as too late there may begin that much later than here. */
const clockDifferenceMs = 30_000;

function farIssuer(
  local: Issuer<Credential>,
  { kind, credential, account }: FarRotator,
  ask: <Answer>(verb: string, input: object, tools: RotatorTools) => Promise<Answer>,
): Issuer<Credential> {
  const accountOf = (value: Credential) => account(value, "issuer");
  return {
    ...local,
    list: async (access, tools) => (await ask<Issued[] | null>("issuer.list", { access }, tools)) ?? undefined,
    async issue(access, tools) {
      const { data } = credential.safeParse(await ask("issuer.issue", { access }, tools));
      // The near side's own word on whose it is: a far side must not lead the secret to another account or superuser.
      if (data && data.masterarn === access.current.masterarn && accountOf(data) === accountOf(access.current)) return data;
      throw new RotatorError(
        "unknown",
        `the far side's answer to issuer.issue holds no credential of ${kind} for the same account`,
      );
    },
    delete: (id, access, tools) => ask("issuer.delete", { id, access }, tools),
  };
}

const silences: readonly OutcomeClass[] = ["unreachable", "timeout", "tls", "unknown"];

/**
 * The target's answer comes as a value: what is thrown is of the way there, or of a far side that did not ask the target. It
 * is a silence, and never read as the target's word on the credential.
 */
async function outcomeOf(answer: Promise<OutcomeClass>): Promise<OutcomeClass> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    return silences.includes(error.outcome) ? error.outcome : "unreachable";
  }
}
