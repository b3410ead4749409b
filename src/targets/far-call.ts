import { RotatorError, UnfitCredential } from "../core/error.ts";
import type { FarRoute } from "./far.ts";
import { farAnswer, farVerbs } from "./far-verbs.ts";

/** Where a kind of target is reached. */
export interface FarTarget {
  readonly route: FarRoute;
  readonly kind: string;
  readonly declaration?: unknown;
}

interface Call {
  readonly subject: string;
  readonly deadlineAt: number;
  readonly fence?: number | undefined;
}

/** One verb, run at the far side; its answer in the verb's own shape. @throws RotatorError */
export async function askFar<Answer>(
  { route, kind, declaration }: FarTarget,
  verb: string,
  input: object,
  { subject, deadlineAt, fence = 0 }: Call,
): Promise<Answer> {
  const known = farVerbs[verb];
  if (!known) throw new Error(`there is no verb ${verb}`);
  const { repeatable, output } = known;
  const answer = await route.call({
    kind,
    ...(declaration !== undefined && { declaration }),
    verb,
    subject,
    fence,
    input,
    deadlineAt,
    repeatable,
  });
  const { data } = farAnswer(output).safeParse(answer);
  if (!data) throw new RotatorError("unknown", `the far side's answer to ${verb} at ${kind} is not one`);
  if ("unfit" in data) throw new UnfitCredential(data.unfit.outcome, data.unfit.message);
  return data.answer as Answer;
}
