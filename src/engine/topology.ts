import { RotatorError } from "../core/error.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Endpoint, RotatorTools } from "../targets/target.ts";
import type { HeldRotation } from "./held-rotation.ts";
import type { Turn } from "./turn.ts";

const endpointRemedy =
  "Check that these replicas and poolers run and follow the target, or lower endpointQuorum in the rotation policy.";

/** A replica or pooler does not take the new credential yet; the target itself does. */
export class EndpointError extends RotatorError {
  readonly remedy = endpointRemedy;
}

/**
 * The new credential must be good at the target, and at its other addresses, at all or as many as the policy says, before
 * it becomes current. @throws RotatorError of the target itself; EndpointError naming the addresses where it is not good yet
 */
export async function testEverywhere(held: HeldRotation, turn: Turn, pending: AnyCredential): Promise<void> {
  await turn.rotator.test(pending, await held.tools());
  const { endpoints = [], endpointQuorum: quorum = endpoints.length } = turn.secret.rotationPolicy ?? {};
  if (quorum === 0) return;
  const tools = await held.tools();
  const failures = await Promise.all(endpoints.map((endpoint) => failureAt(turn, pending, endpoint, tools)));
  const missing = failures.filter((failure) => failure !== undefined);
  const passed = endpoints.length - missing.length;
  if (passed >= quorum) return;
  const needed = quorum < endpoints.length ? ` of ${quorum} that must` : "";
  // Not `refused`, whatever a replica says: the target itself takes it, and readers are to get it.
  const outcome = missing.every(({ error }) => error.outcome === "unreachable") ? "unreachable" : "timeout";
  const text = `the target takes the new credential, but only ${passed}${needed} of its ${endpoints.length} endpoints do`;
  const where = missing.map(({ place, error }) => `${place}: ${error.message}`).join("; ");
  throw new EndpointError(outcome, `${text}: ${where}`);
}

async function failureAt(
  { rotator }: Turn,
  pending: AnyCredential,
  endpoint: Endpoint,
  tools: RotatorTools,
): Promise<{ place: string; error: RotatorError } | undefined> {
  if (!rotator.at) {
    const text = `${rotator.kind} has one address only: clear endpoints in the rotation policy`;
    throw new RotatorError("invalid", text);
  }
  try {
    await rotator.test(rotator.at(pending, endpoint), tools);
    return undefined;
  } catch (error) {
    if (error instanceof RotatorError) return { place: placeText(endpoint), error };
    throw error;
  }
}

function placeText({ host, port }: Endpoint): string {
  return port === undefined ? host : `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
