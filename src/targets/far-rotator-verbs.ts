import { z } from "zod";
import type { Verb } from "./far-lease-verbs.ts";
import { comparison, findings, issuedList, nothing, outcome, strategy } from "./far-shapes.ts";
import type { Access, Rotator, RotatorTools, Strategy } from "./target.ts";

type Credential = Record<string, unknown>;
export type FarRotator = Rotator<Credential>;
type RotatorVerb = Verb<FarRotator, RotatorTools>;

const members = ({ credential, admin = credential }: FarRotator) => ({
  current: credential,
  admin: admin.optional(),
  pairIsProven: z.boolean().optional(),
});
const accessShape = (rotator: FarRotator) => z.strictObject(members(rotator));

interface Given {
  readonly current: Credential;
  readonly admin?: Credential | undefined;
  readonly pairIsProven?: boolean | undefined;
}
interface OfAccess {
  readonly access: Given;
}
interface OfStrategy extends OfAccess {
  readonly strategy: Strategy;
}
interface OfSet {
  readonly versions: Given & { readonly pending: Credential; readonly previous?: Credential | undefined };
  readonly strategy: Strategy;
}
interface OfCheck {
  readonly access: Given & { readonly previous?: Credential | undefined };
  readonly strategy: Strategy;
}
interface OfOne {
  readonly credential: Credential;
}

const accessOf = (given: Given): Access<Credential> => ({ ...given, admin: given.admin });
const always = (): boolean => true;
const ofOne = ({ credential }: FarRotator) => z.strictObject({ credential });
const ofAccess = (rotator: FarRotator) => z.strictObject({ access: accessShape(rotator) });
const issues = ({ issuer }: FarRotator): boolean => issuer !== undefined;

export const rotatorVerbs = {
  prefer: {
    repeatable: true,
    has: ({ prefer }) => prefer !== undefined,
    input: (rotator) => z.strictObject({ access: accessShape(rotator), strategy }),
    output: strategy,
    run: async (rotator, { access, strategy: asked }: OfStrategy, tools) => rotator.prefer?.(accessOf(access), asked, tools),
  },
  set: {
    repeatable: true,
    has: always,
    input: (rotator) =>
      z.strictObject({
        versions: z.strictObject({
          ...members(rotator),
          pending: rotator.credential,
          previous: rotator.credential.optional(),
        }),
        strategy,
      }),
    output: nothing,
    run: (rotator, { versions, strategy: by }: OfSet, tools) =>
      rotator.set({ ...accessOf(versions), pending: versions.pending, previous: versions.previous }, by, tools),
  },
  test: {
    repeatable: true,
    has: always,
    input: ofOne,
    output: nothing,
    run: (rotator, { credential }: OfOne, tools) => rotator.test(credential, tools),
  },
  probe: {
    repeatable: true,
    has: always,
    input: ofOne,
    output: outcome,
    run: (rotator, { credential }: OfOne, tools) => rotator.probe(credential, tools),
  },
  retire: {
    repeatable: true,
    has: ({ retire }) => retire !== undefined,
    input: (rotator) => z.strictObject({ old: rotator.credential, access: accessShape(rotator), strategy }),
    output: nothing,
    run: async (rotator, { old, access, strategy: by }: OfStrategy & { old: Credential }, tools) =>
      rotator.retire?.(old, accessOf(access), by, tools),
  },
  check: {
    repeatable: true,
    has: ({ check }) => check !== undefined,
    input: (rotator) =>
      z.strictObject({
        access: z.strictObject({ ...members(rotator), previous: rotator.credential.optional() }),
        strategy,
      }),
    output: findings,
    run: async (rotator, { access, strategy: by }: OfCheck, tools) =>
      rotator.check?.({ ...accessOf(access), previous: access.previous }, by, tools),
  },
  compare: {
    repeatable: true,
    has: ({ compare }) => compare !== undefined,
    input: ofAccess,
    output: comparison,
    run: async (rotator, { access }: OfAccess, tools) => rotator.compare?.(accessOf(access), tools),
  },
  "issuer.list": {
    repeatable: true,
    has: issues,
    input: ofAccess,
    output: issuedList,
    run: async (rotator, { access }: OfAccess, tools) => rotator.issuer?.list(accessOf(access), tools),
  },
  "issuer.issue": {
    repeatable: false,
    has: issues,
    input: ofAccess,
    output: z.record(z.string(), z.unknown()),
    run: async (rotator, { access }: OfAccess, tools) => rotator.issuer?.issue(accessOf(access), tools),
  },
  "issuer.delete": {
    repeatable: true,
    has: issues,
    input: (rotator) => z.strictObject({ id: z.string().min(1).max(4_096), access: accessShape(rotator) }),
    output: nothing,
    run: async (rotator, { id, access }: OfAccess & { id: string }, tools) => rotator.issuer?.delete(id, accessOf(access), tools),
  },
} satisfies Readonly<Record<string, RotatorVerb>> as Readonly<
  Record<
    "prefer" | "set" | "test" | "probe" | "retire" | "check" | "compare" | "issuer.list" | "issuer.issue" | "issuer.delete",
    RotatorVerb
  >
>;
