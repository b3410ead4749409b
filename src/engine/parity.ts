import type { JobData } from "../store/target-jobs.ts";
import type { Caps } from "./caps.ts";
import { type HeldJob, JobRefused } from "./held-job.ts";
import { atTarget, openTarget, readAdmin } from "./job-target.ts";

/** What the two users of an alternating pair do not have alike. Changes nothing. */
export async function compareUsers(held: HeldJob, caps: Caps): Promise<JobData> {
  const target = await openTarget(held, await held.readSecret());
  const { rotator, strategy, current, account } = target;
  if (strategy !== "alternating-users") {
    throw new JobRefused(`${target.functionArn} does not let users take turns: there are no two to compare`);
  }
  const { compare } = rotator;
  if (!compare) throw new JobRefused(`Rekey cannot compare users of ${rotator.kind}`);
  return atTarget(caps, account, async () => {
    const admin = await readAdmin(held, target);
    const { users, differences, advice } = await compare({ current, admin }, await held.tools());
    return { ok: differences.length === 0 && users.every(({ exists }) => exists), users, differences, advice };
  });
}
