import { RotatorError } from "../core/error.ts";
import type { Rotator } from "./target.ts";

/** The verbs that an issuer has no use for: its target makes a credential and puts it in force in one. */
export function issuesOnly<Credential, Admin>(kind: string): Pick<Rotator<Credential, Admin>, "create" | "set"> {
  const refuse = async (): Promise<never> => {
    throw new RotatorError("invalid", `${kind} makes new credentials itself; none can be set there`);
  };
  return { create: refuse, set: refuse };
}
