import { z } from "zod";
import { RotatorError, ServiceError, UnfitCredential } from "../core/error.ts";
import { shapedPassword } from "../core/rotation-policy.ts";
import { type Address, addressesOf, addressText } from "./addresses.ts";
import { leaseVerbs, type Verb } from "./far-lease-verbs.ts";
import { type FarRotator, rotatorVerbs } from "./far-rotator-verbs.ts";
import { outcome, passwordShape } from "./far-shapes.ts";
import type { LeaseTarget } from "./lease-target.ts";
import type { RotatorTools } from "./target.ts";

/** What a request for a verb holds; which verb, whose it is, until when and under which fence, the message itself says. */
export const farBody = z.strictObject({
  kind: z.string().min(1).max(64),
  declaration: z.unknown().optional(),
  input: z.record(z.string(), z.unknown()),
});

/** What is to be run. */
interface Asked extends z.output<typeof farBody> {
  readonly verb: string;
}

/** What the far side brings. */
export interface FarTools {
  /** The request's step. */
  readonly verb: string;
  /** The request's. */
  readonly subject: string;
  /** Epoch ms, by the far side's own clock. */
  readonly deadlineAt: number;
  readonly generatePassword: RotatorTools["generatePassword"];
  /** `undefined` for a kind that this far side does not have. @throws ServiceError for a declaration that is not valid */
  findRotator(kind: string, declaration?: unknown): Promise<FarRotator | undefined>;
  findLeaseTarget(kind: string): Promise<LeaseTarget | undefined>;
  /** Whether a connection may be made to it; absent: to any. */
  allow?(address: Address): boolean;
}

/** JSON: what the verb gave, or that the target's rules refuse this very credential. To be handed on as it is. */
export type FarAnswer =
  | { readonly answer: unknown }
  | { readonly unfit: { readonly outcome: UnfitCredential["outcome"]; readonly message: string } };

/** As it is read near, where `answer` has the shape of its verb. */
export const farAnswer = (answer: z.ZodType) =>
  z.union([
    z.strictObject({ answer }),
    z.strictObject({ unfit: z.strictObject({ outcome: outcome.exclude(["ok"]), message: z.string().max(4_096) }) }),
  ]);

/** Every verb that is run near its target, by its name in messages. */
export const farVerbs = {
  ...Object.fromEntries(Object.entries(rotatorVerbs).map(([name, verb]) => [`rotator.${name}`, verb])),
  ...Object.fromEntries(Object.entries(leaseVerbs).map(([name, verb]) => [`lease.${name}`, verb])),
} as Readonly<Record<string, Pick<Verb<never, never>, "repeatable" | "output">>>;

const own = <T>(table: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(table, name) ? table[name] : undefined;

/**
 * Runs what a request asks for, with the very rotator or lease target that would run it near. The input is checked by the
 * kind's own shapes, and no connection is made before every address is allowed.
 * @throws RotatorError and nothing else: its class and its sentence may be told
 */
export async function runFarVerb(body: unknown, tools: FarTools): Promise<FarAnswer> {
  const { data } = farBody.safeParse(body);
  if (!data) throw new RotatorError("invalid", "the request does not consist of kind and input");
  const asked = { ...data, verb: tools.verb };
  try {
    return { answer: (await run(asked, tools)) ?? null };
  } catch (error) {
    if (error instanceof UnfitCredential) return { unfit: { outcome: error.outcome, message: error.message } };
    if (error instanceof RotatorError) throw error;
    throw new RotatorError("unknown", `${asked.kind}: ${asked.verb} ended in an internal error; its log says more`, {
      cause: error,
    });
  }
}

async function run(body: Asked, tools: FarTools): Promise<unknown> {
  const [family, name = ""] = /^(rotator|lease)\.(.+)$/.exec(body.verb)?.slice(1) ?? [];
  const { password, ...input } = body.input;
  const shape = passwordShape.optional().safeParse(password);
  if (!shape.success) throw new RotatorError("invalid", `${body.verb}: password is no shape of a password`);
  const { subject, deadlineAt, generatePassword } = tools;
  const given = {
    rotationId: subject,
    subject,
    deadlineAt,
    generatePassword: (asked?: Parameters<RotatorTools["generatePassword"]>[0]) =>
      generatePassword(shapedPassword(shape.data, asked)),
  };
  if (family === "rotator") {
    const rotator = await found(body, () => tools.findRotator(body.kind, body.declaration));
    return perform(body, input, own(rotatorVerbs, name), { target: rotator, given, allow: tools.allow });
  }
  if (body.declaration !== undefined) throw new RotatorError("invalid", `${body.verb}: leases have no declaration`);
  const target = await found(body, () => tools.findLeaseTarget(body.kind));
  return perform(body, input, own(leaseVerbs, name), { target, given, allow: tools.allow });
}

async function perform<Target, Tools>(
  { kind, verb: name, declaration }: Asked,
  given: Readonly<Record<string, unknown>>,
  verb: Verb<Target, Tools> | undefined,
  by: { readonly target: Target; readonly given: Tools; readonly allow: FarTools["allow"] },
): Promise<unknown> {
  if (!verb?.has(by.target)) throw new RotatorError("invalid", `${kind} has no verb ${name} here: it may have to be updated`);
  const parsed = verb.input(by.target).safeParse(given);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => `${path.join(".")} ${message}`.trim());
    throw new RotatorError("invalid", `${kind}: the input of ${name} is not valid: ${problems.slice(0, 10).join("; ")}`);
  }
  if (by.allow) mustBeAllowed(addressesOf(kind, parsed.data as object, declaration), by.allow);
  return verb.run(by.target, parsed.data as never, by.given);
}

function mustBeAllowed(addresses: readonly Address[], allow: (address: Address) => boolean): void {
  const refused = addresses.find((address) => !allow(address));
  if (!refused) return;
  const where = `${addressText(refused)} is not on the allow-list of this network's far side`;
  throw new RotatorError("denied", `${where}: allow it there, if it should be reached`);
}

async function found<T>({ kind }: Asked, find: () => Promise<T | undefined>): Promise<T> {
  try {
    const target = await find();
    if (target) return target;
  } catch (error) {
    if (error instanceof ServiceError) throw new RotatorError("invalid", error.message);
    throw error;
  }
  throw new RotatorError("invalid", `this far side does not run ${kind}: it may have to be updated`);
}
