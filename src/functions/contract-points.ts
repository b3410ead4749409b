import type { Step } from "../core/rotation.ts";

/** One thing that a rotation function has to do right. */
export interface ContractPoint {
  readonly id: string;
  readonly title: string;
  /** When it fails: what that means in operation, and what to change. */
  readonly remedy: string;
}

export const contractSteps = ["createSecret", "setSecret", "testSecret", "finishSecret"] as const satisfies readonly Step[];

const ofStep: Readonly<Record<(typeof contractSteps)[number], string>> = {
  createSecret:
    "Ask first for the value of VersionId=ClientRequestToken with AWSPENDING, and return when it is there; else a second value is made, and one of the two is lost.",
  setSecret:
    "Log in with AWSPENDING first, and return when that works; else log in with AWSCURRENT, then AWSPREVIOUS. A repeat finds the password changed already.",
  testSecret: "It must only log in with AWSPENDING, and change nothing: then it may run any number of times.",
  finishSecret: "Return without a word when the token's version has AWSCURRENT already; else move the label with one call.",
};

const point = (id: string, title: string, remedy: string): ContractPoint => ({ id, title, remedy });
const ofEachStep = (kind: string, title: (step: string) => string): ContractPoint[] =>
  contractSteps.map((step) => point(`${kind}-${step}`, title(step), ofStep[step]));

/** All of them, in the order in which they are looked at. */
export const contractPoints: readonly ContractPoint[] = [
  point(
    "plain-createSecret",
    "createSecret stores a new value under its token, labelled AWSPENDING",
    "Call PutSecretValue with ClientRequestToken = the event's token and VersionStages [AWSPENDING].",
  ),
  point(
    "test-refuses",
    "testSecret refuses a value that was not set yet",
    "Log in to the target with AWSPENDING: a test that always passes lets a password that does not work become AWSCURRENT.",
  ),
  point("plain-setSecret", "setSecret answers", "See the reason; the secret must be of a user that may change its own password."),
  point("plain-testSecret", "testSecret accepts the value that was set", "See the reason: setSecret said that it was done."),
  point(
    "untouched",
    "AWSCURRENT stays where it is until finishSecret",
    "Move AWSCURRENT in finishSecret only, after testSecret: readers must not get a password that is not known to work.",
  ),
  point(
    "plain-finishSecret",
    "finishSecret moves AWSCURRENT to the token's version",
    "Call UpdateSecretVersionStage with VersionStage AWSCURRENT, MoveToVersionId the token, RemoveFromVersionId the version that has it.",
  ),
  point("previous", "the version before is AWSPREVIOUS then", "Leave AWSPREVIOUS alone: it moves by itself with AWSCURRENT."),
  ...ofEachStep("again", (step) => `${step}, repeated, ends the same`),
  point(
    "again-all",
    "create, set and test once more, as after a failed try, keep the value",
    "A rotation that is tried again begins at createSecret with the same token: the value that is stored already counts.",
  ),
  point(
    "again-finished",
    "the whole of it after its end changes nothing",
    "Return when the token's version has AWSCURRENT: look at the labels (DescribeSecret) before anything else.",
  ),
  ...ofEachStep("lost", (step) => `${step} done but its answer lost: repeated, it ends the same`),
  point(
    "cut-put",
    "the answer of PutSecretValue is lost",
    "Let the step fail, or the SDK try again: the same token with the same value is accepted. Never make another value then.",
  ),
  point(
    "cut-label",
    "the answer of UpdateSecretVersionStage is lost",
    "Let the step fail: repeated, it finds AWSCURRENT where it belongs, and returns.",
  ),
  ...ofEachStep("kill-ask", (step) => `${step} killed as it asks Secrets Manager, then repeated`),
  ...ofEachStep("kill-answer", (step) => `${step} killed as Secrets Manager answers, then repeated`),
  ...ofEachStep("kill-work", (step) => `${step} killed at three moments of its work, then repeated`),
  point("twice-createSecret", "createSecret twice at once: one value counts", ofStep.createSecret),
  point("twice-setSecret", "setSecret twice at once: AWSPENDING works then", ofStep.setSecret),
  point("twice-finishSecret", "finishSecret twice at once", ofStep.finishSecret),
  point(
    "unknown-token",
    "a token that the secret has no version of is refused",
    "Fail when VersionIdsToStages does not have the token.",
  ),
  point(
    "not-pending",
    "a version without AWSPENDING is refused",
    "Fail when the token's version has not AWSPENDING: else an old password comes back into force.",
  ),
  point(
    "no-value",
    "set, test and finish refuse AWSPENDING without a value",
    "Read the value of VersionId=ClientRequestToken, and fail when there is none; never take AWSCURRENT's in its place.",
  ),
  point("unknown-step", "a step that does not exist is refused", "Fail for every Step but the four."),
  point(
    "unreachable-setSecret",
    "setSecret fails when the target does not answer",
    "No answer is not a refusal, and not a success: throw it, and the step is tried again later.",
  ),
  point(
    "unreachable-testSecret",
    "testSecret fails when the target does not answer",
    "A login that could not be tried has not succeeded: throw what went wrong.",
  ),
  point(
    "unreachable-after",
    "once the target answers again, the same value is rotated to",
    "Change neither the value nor a label because the target was away.",
  ),
  point(
    "silent-setSecret",
    "setSecret gives up in time when the target says nothing",
    "Set a timeout on connecting and reading, all together shorter than the function's.",
  ),
  point(
    "silent-testSecret",
    "testSecret gives up in time when the target says nothing",
    "Set a timeout on connecting and reading, all together shorter than the function's.",
  ),
  point("target-lost", "the target's answers are lost during setSecret, which is then repeated", ofStep.setSecret),
  point(
    "one-version",
    "each rotation makes one version",
    "Give PutSecretValue the event's ClientRequestToken: without it the SDK makes one up, and each try leaves a version.",
  ),
  point(
    "secrecy",
    "nothing that it writes or answers shows a value",
    "Log neither values nor what libraries say about them; whoever reads the logs could log in.",
  ),
  point(
    "current-works",
    "AWSCURRENT works after all of that",
    "The target and the secret have gone apart: see the first point that failed.",
  ),
];
