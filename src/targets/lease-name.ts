import { RotatorError } from "../core/error.ts";
import type { LeaseMark } from "./lease-target.ts";

const shape = /^rk_([a-z0-9]{8})_[a-z0-9_]+_([0-9a-f]{16})$/;
const idLength = 16;

/** What all names of an installation begin with. */
export const leasePrefix = (installation: string): string => `rk_${installation}_`;

/** `rk_<installation>_<slug of the secret's name>_<16 hex digits of the lease>`; only the slug is cut to what the target takes. */
export function leaseName({ installation, leaseId, secretName }: LeaseMark, maxLength: number): string {
  const prefix = leasePrefix(installation);
  const slug = secretName
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^_/, "")
    .slice(0, maxLength - prefix.length - idLength - 1)
    .replace(/_$/, "");
  return `${prefix}${slug || "x"}_${leaseId.replaceAll("-", "").slice(-idLength)}`; // the end of a UUID is random in every version
}

/** Whether it is exactly of that form, and of this installation. */
export const isLeaseName = (name: string, installation: string): boolean => shape.exec(name)?.[1] === installation;

/** @throws RotatorError `invalid` for a name that is not exactly ours: nobody else's user is ever ended */
export function requireLeaseName(name: string, installation: string): void {
  if (!isLeaseName(name, installation)) throw new RotatorError("invalid", "the user's name is none that this installation gives");
}

/** What our own sessions at the target are called while they work for the lease. */
export const leaseSessionName = (name: string): string => `rekey lease ${name.slice(-idLength)}`;
