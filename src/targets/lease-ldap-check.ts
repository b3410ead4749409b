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

/** What at the directory stands against leases; leaves nothing there. @throws RotatorError */
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

/**
 * An entry without a password is made and deleted. OpenLDAP's No-Op control would make none, but its mdb backend (2.5) then counts attributes
 * that it did not keep, writes the next entries with them, and can read these no more.
 */
async function tryEntry(db: Session, { baseDn, rdn }: Place, settings: LdapLeaseSettings): Promise<LeaseFinding[]> {
  const mark = { installation: "preflght", leaseId: randomUUID(), secretName: "preflight" };
  const user = { mark, name: leaseName(mark, 64), handle: undefined, expiresAt: Date.now() + 3_600_000 };
  const dn = `${rdn}=${user.name},${baseDn}`;
  const finding = async (work: Promise<void>, problem: string, remedy: string): Promise<LeaseFinding[]> => {
    try {
      await work;
      return [];
    } catch (error) {
      if (!(error instanceof RotatorError) || !["denied", "invalid"].includes(error.outcome)) throw error;
      return [{ problem: `${problem}: ${error.message}`, remedy }];
    }
  };
  const made = await finding(
    db.add(dn, { ...attributesOf(settings, user, dn), [rdn]: [user.name] }),
    "an entry of these attributes cannot be made",
    "Give the managing user the right, or change attributes.",
  );
  if (made.length > 0) return made;
  return await finding(
    db.remove(dn),
    `an entry can be made, and not deleted; ${dn}, which has no password, is left`,
    "Give the managing user the right, and delete that entry.",
  );
}
