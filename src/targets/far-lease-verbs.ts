import { z } from "zod";
import { created, foundUsers, identity, leasedUser, leaseFindings, nothing } from "./far-shapes.ts";
import type { LeasedUser, LeaseTarget, LeaseTools } from "./lease-target.ts";

/** One verb of a rotator or a lease target, as both sides know it. */
export interface Verb<Target, Tools> {
  /** Running it twice ends the same as once. */
  readonly repeatable: boolean;
  /** Whether the target has it. */
  has(target: Target): boolean;
  /** Strict: unknown members are refused. */
  input(target: Target): z.ZodType;
  /** Of its answer as JSON; `null` in place of nothing. */
  readonly output: z.ZodType;
  run(target: Target, input: never, tools: Tools): Promise<unknown>;
}

type LeaseVerb = Verb<LeaseTarget, LeaseTools>;

const ofUser = (target: LeaseTarget) =>
  z.strictObject({ connection: target.connection, settings: target.settings, user: leasedUser });

interface OfUser {
  readonly connection: unknown;
  readonly settings: unknown;
  readonly user: Omit<LeasedUser, "handle"> & { readonly handle?: string | undefined };
}

const userOf = ({ user }: OfUser): LeasedUser => ({ ...user, handle: user.handle });
const always = (): boolean => true;

export const leaseVerbs = {
  verify: {
    repeatable: true,
    has: always,
    input: ({ connection }) => z.strictObject({ connection }),
    output: identity,
    run: (target, { connection }: { connection: unknown }, tools) => target.verify(connection, tools),
  },
  check: {
    repeatable: true,
    has: always,
    input: ({ connection, settings }) => z.strictObject({ connection, settings }),
    output: leaseFindings,
    run: (target, { connection, settings }: Omit<OfUser, "user">, tools) => target.check(connection, settings, tools),
  },
  create: {
    repeatable: false,
    has: always,
    input: ofUser,
    output: created,
    run: (target, input: OfUser, tools) => target.create(input.connection, input.settings, userOf(input), tools),
  },
  renew: {
    repeatable: true,
    has: ({ renew }) => renew !== undefined,
    input: ofUser,
    output: nothing,
    run: async (target, input: OfUser, tools) => target.renew?.(input.connection, input.settings, userOf(input), tools),
  },
  revoke: {
    repeatable: true,
    has: always,
    input: ofUser,
    output: nothing,
    run: (target, input: OfUser, tools) => target.revoke(input.connection, input.settings, userOf(input), tools),
  },
  list: {
    repeatable: true,
    has: ({ list }) => list !== undefined,
    input: ({ connection }) => z.strictObject({ connection, installation: z.string().max(64) }),
    output: foundUsers,
    run: async (target, { connection, installation }: { connection: unknown; installation: string }, tools) =>
      target.list?.(connection, installation, tools),
  },
} satisfies Readonly<Record<string, LeaseVerb>> as Readonly<
  Record<"verify" | "check" | "create" | "renew" | "revoke" | "list", LeaseVerb>
>;
