import type { OutcomeClass } from "./error.ts";

const steps = ["createSecret", "setSecret", "testSecret", "finishSecret"] as const;
export type Step = (typeof steps)[number];

/** `blocked`: nothing that Rekey may do would help; `remedy` says in words what would. */
export type RotationState = "running" | "succeeded" | "failed" | "canceled" | "abandoned" | "blocked";

/**
 * `single-user` changes one user's password; `alternating-users` changes the user that is not in use; `dual-slot` gives one
 * user a second credential beside the one in use; `issuer` has the target make a new one and deletes the old one later;
 * `generator` makes a value that no target knows.
 */
export type Strategy = "single-user" | "alternating-users" | "dual-slot" | "issuer" | "generator";

/** What an issuer's target held before it was asked for one more: what no answer told of is found by it. */
export interface Intent {
  /** Ids at the target; absent: the target cannot say. */
  readonly before?: readonly string[] | undefined;
  /** Epoch ms of the first and of the last time of asking. */
  readonly firstAt: number;
  readonly lastAt: number;
  /** It was asked more than once: what came of an earlier time may not be known. */
  readonly doubtful: boolean;
  /** Id of the one whose value is stored. */
  readonly issuedId?: string | undefined;
}

/** One try that failed. */
interface Try {
  readonly at: number;
  readonly step: Step;
  readonly outcome: OutcomeClass;
  readonly reason?: string | undefined;
}

/** One run of the four steps for one version of a secret. */
export interface Rotation {
  readonly id: string;
  /** The secret's row id. */
  readonly secretId: string;
  /** Its AWSPENDING: the rotation's token. */
  readonly versionId: string;
  /** The secret's when the rotation began. */
  readonly generation: number;
  readonly origin: "request" | "schedule" | "retry" | "repair";
  /** Only testSecret, against a copy of the current value. */
  readonly testOnly: boolean;
  readonly functionArn: string;
  /** ARN of the principal that configured the rotation: whose rights a built-in function acts with. */
  readonly principal: string;
  readonly step: Step;
  readonly state: RotationState;
  /** Tries that failed, in all and of this step. */
  readonly attempt: number;
  readonly stepAttempt: number;
  readonly runAt: number;
  /** After a failure no further try begins later than this. */
  readonly windowEndsAt: number;
  readonly startedAt: number;
  readonly endedAt?: number | undefined;
  readonly lastStepAt?: number | undefined;
  /** What came of the last try; `error` and `remedy` in words, without values. */
  readonly outcome?: OutcomeClass | undefined;
  readonly error?: string | undefined;
  readonly remedy?: string | undefined;
  /** The target that did not answer; set while the rotation waits for it to do so. */
  readonly waitsFor?: string | undefined;
  /** How this rotation is done; absent until it was decided. Whoever goes on with it does it so. */
  readonly strategy?: Strategy | undefined;
  /** Of `issuer`. */
  readonly intent?: Intent | undefined;
  /** Probes that the target answered with anything but a login. */
  readonly failedProbes: number;
  /** The last ones that failed, oldest first. */
  readonly tries: readonly Try[];
  /** Version ids: of the rotation whose value was given up for this one's, and of the one that began in this one's place. */
  readonly follows?: string | undefined;
  readonly followedBy?: string | undefined;
}

/** What came of one try of a step. `blocked` set: trying again would not help before somebody did what it says. */
export interface StepOutcome {
  readonly class: OutcomeClass;
  readonly error?: string | undefined;
  readonly blocked?: string | undefined;
  /** What would help, where the outcome's own remedy does not say it. */
  readonly remedy?: string | undefined;
  /** The target has been silent for long: tried again then, and not counted. */
  readonly againAt?: number;
}

export const maxAttempts = 60;
/** So many are kept. */
export const maxTries = 20;
/** Targets lock accounts after some failed logins: from here on a rotation asks no sooner than after the longest pause, … */
export const quickProbes = 6;
/** … and from here on no more. */
export const maxProbes = 20;
const firstPauseMs = 1_000;
const longestPauseMs = 15 * 60_000;

/** Full jitter: anything from nothing to a pause that doubles with each failure. `seed` is in [0, 1). */
export function pauseMs(failures: number, seed: number): number {
  return Math.floor(seed * Math.min(firstPauseMs * 2 ** Math.min(failures, 20), longestPauseMs));
}

/** The first moment from `at` on at which something may be tried. */
export type FreeAt = (at: number) => number;

/**
 * The rotation after one try of its step. The caller saves it under the fence of its claim. `seed` is in [0, 1); `freeAt` leaves
 * out when nothing may be tried.
 */
export function advance(
  rotation: Rotation,
  outcome: StepOutcome,
  nowMs: number,
  seed: number,
  freeAt: FreeAt = (at) => at,
): Rotation {
  if (rotation.state !== "running") return rotation;
  if (outcome.class === "ok") return onward(rotation, nowMs);
  return waitForTarget(rotation, outcome, nowMs, freeAt) ?? tryLater(rotation, outcome, { nowMs, seed, freeAt });
}

/** Until the end of its window; `undefined` when there is nothing to wait for. */
function waitForTarget(
  rotation: Rotation,
  { class: said, error, againAt }: StepOutcome,
  nowMs: number,
  freeAt: FreeAt,
): Rotation | undefined {
  if (againAt === undefined || rotation.testOnly || nowMs >= rotation.windowEndsAt) return undefined;
  const waiting = runningAt(rotation, againAt, freeAt);
  return { ...waiting, runAt: Math.min(waiting.runAt, rotation.windowEndsAt), outcome: said, error, remedy: remedies[said] };
}

/** Tried again then, or when it may be: before that the target's answer does not wake it. */
export function runningAt(rotation: Rotation, at: number, freeAt: FreeAt): Rotation {
  const runAt = freeAt(at);
  return { ...rotation, runAt, waitsFor: runAt > at ? undefined : rotation.waitsFor };
}

function onward(rotation: Rotation, nowMs: number): Rotation {
  const done = {
    ...rotation,
    stepAttempt: 0,
    runAt: nowMs,
    lastStepAt: nowMs,
    outcome: "ok",
    error: undefined,
    remedy: undefined,
  } as const;
  const next = rotation.testOnly ? undefined : steps[steps.indexOf(rotation.step) + 1];
  return next ? { ...done, step: next } : { ...done, state: "succeeded", endedAt: nowMs };
}

function tryLater(
  rotation: Rotation,
  outcome: StepOutcome,
  { nowMs, seed, freeAt }: { readonly nowMs: number; readonly seed: number; readonly freeAt: FreeAt },
): Rotation {
  const tried: Rotation = {
    ...withTry(rotation, outcome, nowMs),
    attempt: rotation.attempt + 1,
    stepAttempt: rotation.stepAttempt + 1,
    lastStepAt: nowMs,
    outcome: outcome.class,
    error: outcome.error,
    remedy: outcome.blocked ?? outcome.remedy ?? remedies[outcome.class],
  };
  if (outcome.blocked !== undefined) return { ...tried, state: "blocked", endedAt: nowMs };
  const again = nowMs + Math.max(pauseMs(rotation.stepAttempt, seed), leastPauseMs(rotation, outcome.class));
  const next = runningAt(tried, again, freeAt);
  const spent = tried.attempt >= maxAttempts || rotation.failedProbes >= maxProbes;
  const over = rotation.testOnly || spent || next.runAt > rotation.windowEndsAt;
  return over ? { ...tried, state: "failed", endedAt: nowMs } : next;
}

/** The rotation with one more of the tries that people are shown. */
export function withTry(rotation: Rotation, outcome: StepOutcome, nowMs: number): Rotation {
  const { tries, step } = rotation;
  const last = { at: nowMs, step, outcome: outcome.class, reason: outcome.error };
  return { ...rotation, tries: [...tries, last].slice(-maxTries) };
}

/** A target that cannot be reached counts no logins. */
function leastPauseMs({ failedProbes }: Rotation, outcome: OutcomeClass): number {
  return failedProbes >= quickProbes && isAnswered(outcome) ? longestPauseMs : 0;
}

/** Whether the target itself said so of a login. */
function isAnswered(outcome: OutcomeClass): boolean {
  return outcome === "refused" || outcome === "locked" || outcome === "expired" || outcome === "denied";
}

/** The rotation after a probe: those that may count towards locking the account are counted. */
export function probed(rotation: Rotation, outcome: OutcomeClass): Rotation {
  return isAnswered(outcome) ? { ...rotation, failedProbes: rotation.failedProbes + 1 } : rotation;
}

/** Whether what the target accepts must be found out before anything else is done there: after every failure, and after a silence. */
export function mustProbe(rotation: Rotation, takenOver: boolean): boolean {
  return takenOver || (rotation.outcome !== undefined && rotation.outcome !== "ok");
}

/** What each version met when it tried to log in; `undefined` where there is none. */
export interface Probes {
  readonly pending: OutcomeClass;
  readonly current: OutcomeClass;
  readonly previous?: OutcomeClass | undefined;
  /** A superuser's credential may be used. */
  readonly admin: boolean;
}

/** `set` again with what logs in, or `reset` with the superuser's credential; `wait` while any version may yet be in force. */
export type Decision = "proceed" | "set" | "reset" | "wait" | "blocked";

/** Only when both versions are refused for sure is anything forced; nothing is ever done because a target was silent. */
export function decide({ pending, current, previous, admin }: Probes): Decision {
  if (pending === "ok") return "proceed";
  if (current === "ok" || previous === "ok") return "set";
  if (pending !== "refused" || current !== "refused" || (previous ?? "refused") !== "refused") return "wait";
  return admin ? "reset" : "blocked";
}

const remedies: Readonly<Partial<Record<OutcomeClass, string>>> = {
  refused:
    "The target accepts none of the secret's passwords: put the one that is in force as a new value, or name a superuser's secret in masterarn.",
  locked: "Let the user log in again at the target.",
  expired: "Extend the user's validity at the target.",
  unreachable: "Check host, port, network and whether the target runs.",
  timeout: "Check host, port, network and the target's load.",
  tls: "Give the authority of the target's certificate in sslrootcert, or say ssl: false for a server without TLS.",
  denied: "Give the rights that the error names.",
  invalid: "Correct the secret's value, or the target's configuration, as the error says.",
};

export const blockedRemedy = remedies.refused ?? "";

/** What helps against an outcome, in words; `undefined` where nothing but time does. */
export function remedyOf(outcome: OutcomeClass): string | undefined {
  return remedies[outcome];
}
