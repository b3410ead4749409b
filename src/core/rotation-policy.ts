import { ServiceError } from "./error.ts";
import { parseBlackout } from "./schedule-blackout.ts";
import { isZone } from "./schedule-zone.ts";

/** What a secret's rotations keep to beyond AWS's rules; set through the native API alone. Absent members leave it to the defaults. */
export interface RotationPolicy {
  /** After a rotation the old credential is ended at the target so much later. */
  readonly retireAfterSeconds?: number | undefined;
  /** It is ended sooner when every reader was seen to have moved on, and later than its deadline never. */
  readonly retireOnEvidence?: boolean | undefined;
  /** IANA name, as `Europe/Berlin`; absent: schedule and blackouts are in UTC. */
  readonly timeZone?: string | undefined;
  /** When rotations may not start: `sat,sun`, `mon-fri 08:00-18:00`, `2026-12-20..2027-01-03`; see `parseBlackout`. */
  readonly blackouts?: readonly string[] | undefined;
  /** A rotation starts at a random moment of the first so many seconds of its window; 0: with it. Absent: of the whole window. */
  readonly jitterSeconds?: number | undefined;
  /** Further addresses of the target, replicas and poolers, that must accept a new credential before it becomes current. */
  readonly endpoints?: readonly PolicyEndpoint[] | undefined;
  /** How many of them must; absent: all. */
  readonly endpointQuorum?: number | undefined;
  /** The current credential is tried at the target so often; absent: never. */
  readonly heartbeatSeconds?: number | undefined;
  /** What a heartbeat finds broken may be set anew with the superuser's credential. */
  readonly repair?: boolean | undefined;
  readonly password?: PasswordShape | undefined;
  /** Whoever reads all candidates may see AWSPENDING's value too. */
  readonly readPending?: boolean | undefined;
  /** Rotations at once at the secret's target, where that is fewer than the server's own limit. */
  readonly maxPerTarget?: number | undefined;
  /** Where the target is, and the superuser that acts there: only what runs in that network reaches it. Absent: this server does. */
  readonly network?: string | undefined;
}

interface PolicyEndpoint {
  readonly host: string;
  /** Absent: as in the credential. */
  readonly port?: number | undefined;
}

/** What new passwords look like; adds to what the target itself asks for. */
export interface PasswordShape {
  /** At least. */
  readonly length?: number | undefined;
  /** Characters that are left out. */
  readonly exclude?: string | undefined;
  /** Only letters, digits and `-._~`, which a URL shows as they are. */
  readonly urlSafe?: boolean | undefined;
}

/** Names of the members, as callers write them. */
export const policyMembers = [
  "retireAfterSeconds",
  "retireOnEvidence",
  "timeZone",
  "blackouts",
  "jitterSeconds",
  "endpoints",
  "endpointQuorum",
  "heartbeatSeconds",
  "repair",
  "password",
  "readPending",
  "maxPerTarget",
  "network",
] as const satisfies readonly (keyof RotationPolicy)[];

const classes = ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "-._"] as const;
const notInUrls = " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}";
/** Fewer to choose from would make passwords of the usual length guessable. */
const fewestCharacters = 16;

/**
 * Checks what the shape of the input cannot say.
 * @throws ServiceError InvalidParameterException naming the member and its rule.
 */
export function checkRotationPolicy(policy: RotationPolicy): void {
  const { timeZone, blackouts = [], endpoints = [], endpointQuorum, password, repair, heartbeatSeconds } = policy;
  if (timeZone !== undefined && !isZone(timeZone))
    throw refused(`timeZone ${timeZone} is not known; give an IANA name such as Europe/Berlin.`);
  for (const text of blackouts)
    if (!parseBlackout(text))
      throw refused(
        `blackouts: ${text} cannot be read. Write weekdays, dates and hours, each where needed: sat,sun or mon-fri 08:00-18:00 or 2026-12-20..2027-01-03.`,
      );
  const places = endpoints.map(({ host, port }) => `${host.toLowerCase()} ${port ?? ""}`);
  if (new Set(places).size < places.length) throw refused("endpoints names the same host and port twice.");
  if (endpointQuorum !== undefined && endpointQuorum > endpoints.length)
    throw refused(`endpointQuorum is ${endpointQuorum}, but endpoints names ${endpoints.length}.`);
  if (repair === true && heartbeatSeconds === undefined)
    throw refused("repair needs heartbeatSeconds: it is the heartbeat that finds what is broken.");
  if (password?.exclude !== undefined && remaining(password.exclude) < fewestCharacters)
    throw refused(
      `password.exclude must leave at least ${fewestCharacters} letters, digits, hyphens, full stops or underscores.`,
    );
}

/** What is given stands in for what was there; `clear` names what goes. `undefined` when nothing is left. */
export function changedPolicy(
  before: RotationPolicy | undefined,
  given: RotationPolicy,
  clear: readonly (keyof RotationPolicy)[],
): RotationPolicy | undefined {
  const both = policyMembers.find((name) => given[name] !== undefined && clear.includes(name));
  if (both) throw refused(`${both} is both given and cleared.`);
  const members = policyMembers.flatMap((name) => {
    const value = given[name] ?? (clear.includes(name) ? undefined : before?.[name]);
    return value === undefined ? [] : [[name, value] as const];
  });
  const after: RotationPolicy = Object.fromEntries(members);
  checkRotationPolicy(after);
  return members.length === 0 ? undefined : after;
}

/** What a rotator asks for and what the policy adds: the greater length, and neither's excluded characters. */
export function shapedPassword(
  shape: PasswordShape | undefined,
  asked: { readonly length?: number; readonly exclude?: string } = {},
): { length?: number; exclude?: string } {
  if (!shape) return asked;
  const exclude = [asked.exclude ?? "", shape.exclude ?? "", shape.urlSafe === true ? notInUrls : ""].join("");
  const length = Math.max(asked.length ?? 0, shape.length ?? 0);
  return { ...(length > 0 && { length }), ...(exclude !== "" && { exclude: [...new Set(exclude)].join("") }) };
}

function remaining(exclude: string): number {
  return (
    classes.join("").length - new Set([...exclude].filter((character) => classes.some((all) => all.includes(character)))).size
  );
}

function refused(message: string): ServiceError {
  return new ServiceError("InvalidParameterException", message);
}
