import { RotatorError, ServiceError } from "../core/error.ts";
import { loginAdvice } from "../core/login-outcome.ts";
import { isOwned } from "../core/rotated-secret.ts";
import { planRotation } from "../core/rotation-schedule.ts";
import { isPending, type Secret, versionWith } from "../core/secret.ts";
import type { JobData } from "../store/target-jobs.ts";
import { busyAccount } from "../store/target-jobs.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Endpoint, Finding, Rotator } from "../targets/target.ts";
import type { Caps } from "./caps.ts";
import { checkOwnFunction, ownFunction } from "./check-function.ts";
import { Notes } from "./check-notes.ts";
import { type HeldJob, JobRefused } from "./held-job.ts";
import {
  accountOf,
  atTarget,
  failedLogin,
  findTarget,
  type JobTarget,
  type OpenTarget,
  readAdmin,
  readCredential,
} from "./job-target.ts";

type Step = Finding["step"];

/** What a pre-flight found, and what it found in order. */
export interface Preflight {
  readonly findings: readonly Finding[];
  readonly passed: readonly string[];
  /** The target, when as much could be told of it. */
  readonly target?: OpenTarget | undefined;
  /** Nothing was found that would make a rotation fail. */
  readonly ok: boolean;
}

/** A rotation's pre-flight: nothing is changed, here or at the target. */
export async function check(held: HeldJob, caps: Caps): Promise<JobData> {
  const { findings, passed, target, ok } = await preflight(held, caps, await held.readSecret());
  return {
    ok,
    findings,
    passed,
    ...(target && { kind: target.rotator.kind, strategy: target.strategy, account: target.account }),
  };
}

/** Everything that a rotation would meet, in the order of its steps. */
export async function preflight(held: HeldJob, caps: Caps, secret: Secret): Promise<Preflight> {
  const notes = new Notes();
  checkFunction(held, notes);
  await checkKey(held, secret, notes);
  const own = await ownFunction(held, secret);
  checkLabels(secret, own !== undefined, notes);
  checkSchedule(held, secret, notes);
  if (own) await checkOwnFunction(held, secret, own, notes);
  const target = own ? undefined : await openForCheck(held, secret, notes);
  if (target) await atTarget(caps, target.account, () => checkTarget(held, target, notes));
  const { findings, passed } = notes;
  return { findings, passed, target, ok: findings.every(({ warning }) => warning === true) };
}

/** Whether the service may invoke the function was found out when the check was asked for. */
function checkFunction({ job }: HeldJob, notes: Notes): void {
  const { functionRefusal } = job.input;
  if (typeof functionRefusal === "string") {
    notes.fail("createSecret", functionRefusal, "Name a function that is there, and let the service invoke it for this secret.");
  } else if (job.input.functionArn !== undefined && job.input.functionPlanned !== true)
    notes.passed.push("the function is there and may be invoked");
}

async function checkKey({ parts }: HeldJob, secret: Secret, notes: Notes): Promise<void> {
  const remedy = "Enable the secret's encryption key, or give the secret another one.";
  await notes.during("createSecret", remedy, async () => {
    const key = await parts.keys.resolve(secret.kmsKeyId, secret.region);
    if (key.state !== "enabled") throw new JobRefused(`the secret's encryption key is ${key.state}: no new value can be sealed`);
  });
}

/** A function of one's own may make the first value. */
function checkLabels(secret: Secret, makesFirst: boolean, notes: Notes): void {
  const pending = versionWith(secret, "AWSPENDING");
  if (!makesFirst && !versionWith(secret, "AWSCURRENT")?.kind) {
    notes.fail(
      "createSecret",
      "the secret has no current value to start from",
      "Put the credential that is in force as its value.",
    );
  }
  if (!pending || !isPending(secret, pending.id)) return;
  notes.warn(
    "createSecret",
    `AWSPENDING is on version ${pending.id}, which a rotation that has not finished left there`,
    "The next rotation goes on with it; to begin afresh, cancel the rotation and take the label away.",
  );
}

function checkSchedule({ parts }: HeldJob, secret: Secret, notes: Notes): void {
  if (secret.rotationEnabled !== true) return;
  if (!secret.rotationRules) {
    notes.warn("createSecret", "rotation is on, but has no schedule", "Give it one, or rotate by hand.");
    return;
  }
  try {
    const { nextRotationAt } = planRotation(secret, parts.now(), 0);
    if (nextRotationAt === undefined) {
      notes.warn("createSecret", "the schedule has no further window", "Give another schedule, or fewer blackouts.");
    } else notes.passed.push(`the schedule's next window ends at ${new Date(nextRotationAt).toISOString()}`);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    notes.fail("createSecret", `the schedule cannot be followed: ${error.message}`, "Give another schedule.");
  }
}

/** The target with its current credential, as far as both can be told. */
async function openForCheck(held: HeldJob, secret: Secret, notes: Notes): Promise<OpenTarget | undefined> {
  const target = await findForCheck(held, secret, notes);
  const version = versionWith(secret, "AWSCURRENT");
  if (!target || !version?.kind) return undefined;
  let current: AnyCredential | undefined;
  const remedy = "Put a value with the keys that the function reads.";
  await notes.during("createSecret", remedy, async () => {
    const credential = withSuperuser(held, await readCredential(held, target, version));
    const account = credential && accountOf(target, credential); // a value of the right shape may still be wrong within
    if (account !== undefined) current = credential;
  });
  if (!current) return undefined;
  notes.passed.push(`the current value has the shape that ${target.rotator.kind} needs`);
  return { ...target, current, account: accountOf(target, current) };
}

/** As if the value named this superuser: setting a rotation up is looked at before anything is changed. */
function withSuperuser({ job }: HeldJob, credential: AnyCredential | undefined): AnyCredential | undefined {
  const { superuserArn } = job.input;
  return credential && typeof superuserArn === "string" ? { ...credential, masterarn: superuserArn } : credential;
}

async function findForCheck(held: HeldJob, secret: Secret, notes: Notes): Promise<JobTarget | undefined> {
  try {
    return await findTarget(held, secret);
  } catch (error) {
    if (!(error instanceof JobRefused)) throw error;
    if (held.job.input.functionRefusal === undefined) {
      notes.fail(
        "createSecret",
        error.message,
        "Name a function that is there; rekey rotation setup finds the one for the secret's engine.",
      );
    }
    return undefined;
  }
}

async function checkTarget(held: HeldJob, target: OpenTarget, notes: Notes): Promise<void> {
  const { rotator, strategy, current, account } = target;
  if (strategy !== "generator") await checkAccount(held, target, notes);
  const made = strategy === "issuer" || (await checkCreate(held, target, notes));
  const login = { credential: current, who: "the current credential", earliest: asksBefore(target) };
  const works = strategy === "generator" || (await checkLogin(held, rotator, login, notes));
  const admin = await checkAdmin(held, target, notes);
  await checkEndpoints(held, target, works, notes);
  if (!made || !works || admin === "unusable" || !rotator.check) return;
  const pairIsProven = isOwned(target.secret);
  const access = { current, admin, previous: await previousOf(held, target), pairIsProven };
  const unanswered = `What the rest of the rotation needs at ${account} is not known: see the reason.`;
  await notes.during("setSecret", unanswered, async () => {
    const found = (await rotator.check?.(access, strategy, await held.tools())) ?? [];
    notes.findings.push(...found);
    if (found.length === 0) notes.passed.push(`nothing at ${rotator.kind} stands against a rotation`);
  });
}

/** Of the same account only. */
async function previousOf(held: HeldJob, target: OpenTarget): Promise<AnyCredential | undefined> {
  const version = versionWith(target.secret, "AWSPREVIOUS");
  try {
    const previous = version && (await readCredential(held, target, version));
    return previous && accountOf(target, previous) === target.account ? previous : undefined;
  } catch (error) {
    if (error instanceof RotatorError) return undefined; // a value of another shape
    throw error;
  }
}

/** The name may be too long, or the value wrong within. What is made here is thrown away. */
async function checkCreate(held: HeldJob, { rotator, strategy, current }: OpenTarget, notes: Notes): Promise<boolean> {
  const remedy = "Shorten the name, or correct the value, as the reason says.";
  return notes.during("createSecret", remedy, async () => rotator.create(current, strategy, await held.tools()));
}

/** Some are asked what they can do, or to issue, before anything is set: there a login that fails is met first. */
function asksBefore({ rotator, strategy }: OpenTarget): Step {
  return strategy === "issuer" || (strategy === "single-user" && rotator.prefer) ? "createSecret" : "setSecret";
}

async function checkAccount({ parts, job }: HeldJob, { account, secret }: OpenTarget, notes: Notes): Promise<void> {
  const busy = await busyAccount(parts.sql, account, { jobId: job.id, secretId: secret.id });
  if (busy === "own rotation") notes.warn("createSecret", "a rotation of this secret is running", "Wait for its end.");
  else if (busy !== undefined) {
    notes.warn(
      "createSecret",
      `another ${busy === "other rotation" ? "secret's rotation" : busy} is changing ${account}`,
      "Only one secret should rotate an account: remove one of them.",
    );
  } else notes.passed.push(`nobody else is changing ${account}`);
}

interface Login {
  readonly credential: AnyCredential;
  readonly who: string;
  /** The step at which it is logged in with first; a refusal counts with setSecret only. */
  readonly earliest: Step;
}

async function checkLogin(
  held: HeldJob,
  rotator: Rotator<AnyCredential>,
  { credential, who, earliest }: Login,
  notes: Notes,
): Promise<boolean> {
  const failed = await failedLogin(held, rotator, credential);
  if (!failed) {
    notes.passed.push(`${who} logs in`);
    return true;
  }
  const step = failed.outcome === "refused" ? "setSecret" : earliest;
  notes.fail(step, `${who} does not log in: ${failed.reason}`, loginAdvice(failed.outcome).remedy);
  return false;
}

/** The superuser's credential; `unusable` when there should be one that works. */
async function checkAdmin(held: HeldJob, target: OpenTarget, notes: Notes): Promise<AnyCredential | "unusable" | undefined> {
  const { rotator, strategy, account } = target;
  let admin: AnyCredential | undefined;
  const remedy = "Name a secret in masterarn that whoever configures the rotation may read.";
  const read = await notes.during("setSecret", remedy, async () => {
    admin = await readAdmin(held, target);
  });
  if (!read) return "unusable";
  if (!admin) {
    // Of a config's own secret that names none, each user changes itself.
    if (strategy !== "alternating-users" || isOwned(target.secret)) return undefined;
    notes.fail(
      "setSecret",
      "alternating users need masterarn, the ARN of a superuser's secret",
      "Add masterarn to the value, as rekey rotation setup --superuser does.",
    );
    return "unusable";
  }
  if (rotator.admin) return admin;
  const there = accountOf(target, admin);
  if (targetOf(there) !== targetOf(account)) {
    const problem = `the superuser's secret is for ${targetOf(there)}, this one for ${targetOf(account)}`;
    notes.fail("setSecret", problem, "Give both the same host and port.");
    return "unusable";
  }
  return (await checkLogin(held, rotator, { credential: admin, who: "the superuser's credential", earliest: "setSecret" }, notes))
    ? admin
    : "unusable";
}

const targetOf = (account: string): string => account.slice(0, account.lastIndexOf("/"));

/** The new credential must pass testSecret at each further address, or at as many as the policy says. */
async function checkEndpoints(held: HeldJob, target: OpenTarget, works: boolean, notes: Notes): Promise<void> {
  const { rotator, current, secret } = target;
  const { endpoints = [], endpointQuorum } = secret.rotationPolicy ?? {};
  if (endpoints.length === 0 || !works) return;
  if (!rotator.at) {
    notes.fail("testSecret", `${rotator.kind} has one address only`, "Take the endpoints out of the rotation policy.");
    return;
  }
  const failures: string[] = [];
  const at = rotator.at;
  // At once, as testSecret does: each may take its time to say nothing, and others wait for their checks.
  const logins = await Promise.all(endpoints.map((endpoint) => failedLogin(held, rotator, at(current, endpoint))));
  for (const [index, endpoint] of endpoints.entries()) {
    const failed = logins[index];
    if (failed) failures.push(`${place(endpoint)}: ${failed.reason}`);
    else notes.passed.push(`the current credential logs in at ${place(endpoint)}`);
  }
  const enough = endpoints.length - failures.length >= (endpointQuorum ?? endpoints.length);
  for (const failure of failures) {
    const remedy = "Check the replica: it must be reached and follow the primary.";
    if (enough) notes.warn("testSecret", failure, remedy);
    else notes.fail("testSecret", failure, remedy);
  }
}

const place = ({ host, port }: Endpoint): string => (port === undefined ? host : `${host}:${port}`);
