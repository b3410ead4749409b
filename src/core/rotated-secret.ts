import { ServiceError } from "./error.ts";
import { parseRotationRules } from "./schedule.ts";
import type { RotationRules, Secret } from "./secret.ts";

/** OwningService of secrets that a config owns: nobody changes them but through the config. */
export const ownService = "rekey";

/** Secrets of configs act for whoever made them even when that one is gone: the right to was asked for then. */
export const isOwned = ({ owningService }: Pick<Secret, "owningService">): boolean => owningService === ownService;

/** Name of the secret behind a config's rotated secret. What the config is called later is not followed. */
export const ownedName = (project: string, config: string, name: string): string => `rekey!${project}/${config}/${name}`;

/** How often the credential is tried at its target: what was changed there by hand is found. */
export const heartbeatSeconds = 900;

const units = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
] as const;

/**
 * The schedule of a rotated secret. `extended`: as for other secrets, less than 4 hours too.
 * @throws ServiceError ValidationException
 */
export function periodRules(seconds: number, extended: boolean): RotationRules {
  const [unit, size] = units.find(([, one]) => seconds % one === 0) ?? ["second", 1];
  const count = seconds / size;
  const rules = { scheduleExpression: `rate(${count} ${unit}${count === 1 ? "" : "s"})` };
  try {
    parseRotationRules(rules, { extended });
    return rules;
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    const rule = extended ? "up to 999 of seconds, minutes, hours or days" : "whole hours, 4 at least, or days, up to 999";
    throw new ServiceError("ValidationException", `RotationPeriodSeconds must be ${rule}.`, { cause: error });
  }
}
