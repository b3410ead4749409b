import { randomUUID } from "node:crypto";
import { RotatorError } from "../core/error.ts";
import { isResult, passwordModifyOid, type Session } from "./ldap-session.ts";
import { attributesOf, type Group, type LdapLeaseSettings } from "./lease-ldap-settings.ts";
import { leaseName } from "./lease-name.ts";
import type { LeaseFinding } from "./lease-target.ts";

interface Place {
  readonly baseDn: string;
  readonly rdn: string;
}

/** What at the directory stands against leases; makes nothing. @throws RotatorError */
export async function checkLdapLeases(db: Session, place: Place, settings: LdapLeaseSettings): Promise<LeaseFinding[]> {
  const findings: LeaseFinding[] = [];
  if (!(await db.extensions()).includes(passwordModifyOid)) {
    const problem = "the server does not offer Password Modify (RFC 3062)";
    findings.push({ problem, remedy: "Allow the extended operation there." });
  }
  if (!(await isThere(db, place.baseDn))) findings.push(hidden(place.baseDn, "below which leased users would live"));
  for (const group of settings.groups) findings.push(...(await checkGroup(db, group)));
  return findings.length > 0 ? findings : await tryEntry(db, place, settings);
}

const hidden = (dn: string, what: string): LeaseFinding => ({
  problem: `${dn}, ${what}, does not exist, or the managing user may not see it`,
  remedy: "Make the entry, and let the managing user write there.",
});

async function isThere(db: Session, dn: string): Promise<boolean> {
  return (await lookAt(db, dn, "1.1")) !== undefined;
}

async function lookAt(db: Session, base: string, attribute: string): Promise<readonly string[] | undefined> {
  try {
    const [entry] = await db.search({ base, scope: "base", attributes: [attribute] });
    return entry?.values(attribute);
  } catch (error) {
    if (isResult(error, 32) || (error instanceof RotatorError && error.outcome === "denied")) return undefined;
    throw error;
  }
}

async function checkGroup(db: Session, { dn, attribute }: Group): Promise<LeaseFinding[]> {
  const members = await lookAt(db, dn, attribute);
  if (members === undefined) return [hidden(dn, "a group of leased users")];
  if (members.length > 0 || attribute === "memberUid") return [];
  const problem = `${dn} has no ${attribute} that the managing user may see`;
  return [{ problem, remedy: "Let it read and write that attribute; keep one member that is no leased user.", warning: true }];
}

async function tryEntry(db: Session, { baseDn, rdn }: Place, settings: LdapLeaseSettings): Promise<LeaseFinding[]> {
  const mark = { installation: "preflght", leaseId: randomUUID(), secretName: "preflight" };
  const user = { mark, name: leaseName(mark, 64), handle: undefined, expiresAt: Date.now() + 3_600_000 };
  const dn = `${rdn}=${user.name},${baseDn}`;
  try {
    const told = await db.tryAdd(dn, { ...attributesOf(settings, user, dn), [rdn]: [user.name] });
    if (told) return [];
    const problem = "the server lets nobody try out an entry without making it";
    return [
      { problem, remedy: "Issue a lease to see whether the managing user may add, change and delete entries.", warning: true },
    ];
  } catch (error) {
    if (!(error instanceof RotatorError) || !["denied", "invalid"].includes(error.outcome)) throw error;
    return [
      {
        problem: `an entry of these attributes cannot be made: ${error.message}`,
        remedy: "Give the managing user the right, or change attributes.",
      },
    ];
  }
}
