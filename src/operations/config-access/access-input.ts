import { z } from "zod";
import type { NewActivity } from "../../store/activity.ts";
import type { Config } from "../../store/configs.ts";
import type { Call } from "../operation.ts";

/** Blank is absent, and what is absent a service token fills in. */
export const projectMembers = { Project: z.string().max(128).optional() };
export const configMembers = { ...projectMembers, Config: z.string().max(128).optional() };
/** What people call a token or a webhook. */
export const givenName = z.string().min(1).max(128);
export const time = z.coerce.date();

/** Who did it, for the activity log. */
export function actor({ principal, services }: Call): Pick<NewActivity, "at" | "principal" | "principalName"> {
  const { arn, userName, kind } = principal;
  const name = kind === "root" ? "root" : (userName ?? arn.slice(arn.lastIndexOf("/") + 1));
  return { at: services.now(), principal: arn, principalName: name };
}

/** What it was done to, for the activity log. */
export function placeOf({ id, projectId, environment, name }: Config) {
  return { project: projectId, environment, config: name, configId: id };
}
