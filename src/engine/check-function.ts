import { once } from "node:events";
import { connect } from "node:net";
import { RotatorError } from "../core/error.ts";
import { functionRouteText, loginAdvice } from "../core/login-outcome.ts";
import { type Secret, versionWith } from "../core/secret.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Notes } from "./check-notes.ts";
import type { HeldJob } from "./held-job.ts";
import type { InvokedFunction } from "./invoke.ts";
import { credentialOf } from "./values.ts";

/** A function that answers rotation events itself. */
interface OwnFunction {
  /** Absent: it is still to be made, to run here. */
  readonly called?: InvokedFunction | undefined;
  /** What it needs is still to be given to it. */
  readonly isPlanned: boolean;
}

/** The one that the job or the secret names; `undefined` when that is another kind, or nothing. */
export async function ownFunction({ parts, job }: HeldJob, secret: Secret): Promise<OwnFunction | undefined> {
  const { functionArn = secret.rotationFunctionArn, functionRefusal } = job.input;
  if (typeof functionArn !== "string" || functionRefusal !== undefined) return undefined;
  const isPlanned = job.input.functionPlanned === true;
  const called = await parts.findInvoked(functionArn);
  if (called) return { called, isPlanned };
  return isPlanned && !(await parts.findFunction(functionArn)) ? { isPlanned } : undefined;
}

/**
 * What would keep a function from being called, and from doing its work: its file, role, rights, timeout and the way to
 * the target. It is not called. What it does at its target it alone knows.
 */
export async function checkOwnFunction(
  held: HeldJob,
  secret: Secret,
  { called, isPlanned }: OwnFunction,
  notes: Notes,
): Promise<void> {
  const value = await currentValue(held, secret);
  const masterarn = held.job.input.superuserArn ?? value?.masterarn;
  if (called && !isPlanned) {
    const { findings, passed } = await called.inspect(secret, typeof masterarn === "string" ? masterarn : undefined);
    notes.findings.push(...findings);
    notes.passed.push(...passed);
  }
  await checkRoute(held, value, called?.outlivesServer === true, notes);
  notes.warn(
    "setSecret",
    "what the function does at its target it alone knows",
    "Try it out with rekey function test, and see rekey function logs after a rotation.",
  );
}

/** Functions read whatever they like: a value that is no JSON object tells nothing here. */
async function currentValue({ parts }: HeldJob, secret: Secret): Promise<AnyCredential | undefined> {
  try {
    return await credentialOf(parts, secret, versionWith(secret, "AWSCURRENT"), "the current value");
  } catch (error) {
    if (error instanceof RotatorError) return undefined;
    throw error;
  }
}

async function checkRoute(held: HeldJob, value: AnyCredential | undefined, runsElsewhere: boolean, notes: Notes): Promise<void> {
  const { host } = value ?? {};
  const port = Number(value?.port);
  if (typeof host !== "string" || host === "" || !Number.isInteger(port) || port < 1 || port > 65_535) return;
  const place = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  if (runsElsewhere) {
    notes.warn(
      "setSecret",
      `whether the function reaches ${place} from its own network is not seen from here`,
      functionRouteText,
    );
    return;
  }
  const { deadlineAt } = await held.tools();
  const problem = await connectionProblem(host, port, Math.max(1, deadlineAt - Date.now()));
  if (problem === undefined) notes.passed.push(`this server, which runs the function, reaches ${place}`);
  else
    notes.fail(
      "setSecret",
      `this server, which runs the function, does not reach ${place} (${problem})`,
      loginAdvice("unreachable").remedy,
    );
}

/** `undefined`: something listens there. */
async function connectionProblem(host: string, port: number, withinMs: number): Promise<string | undefined> {
  const socket = connect({ host, port });
  try {
    await once(socket, "connect", { signal: AbortSignal.timeout(withinMs) });
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ABORT_ERR" ? `no answer within ${Math.round(withinMs / 1_000)} s` : String(code);
  } finally {
    socket.destroy();
  }
}
