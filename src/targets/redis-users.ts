import { createHash } from "node:crypto";
import { RotatorError } from "../core/error.ts";
import { type Command, type Session, said } from "./redis-session.ts";
import type { Finding } from "./target.ts";

/** As the server keeps passwords. Source: Redis documentation, ACL, "How passwords are stored internally". */
export const hashOf = ({ password }: { readonly password: string }): string =>
  createHash("sha256").update(password).digest("hex");

/** The hashes of a user's passwords. @throws RotatorError when none of them would open it alone: `invalid`, `locked` */
export async function passwordsOf(db: Session, username: string): Promise<readonly string[]> {
  const reply = await db.read<unknown[] | null>(["ACL", "GETUSER", username]);
  if (!reply) throw new RotatorError("invalid", `user ${username} does not exist`);
  const listed = (name: string): string[] => {
    const value = reply[reply.indexOf(name) + 1];
    return Array.isArray(value) ? value.map(String) : [];
  };
  const flags = listed("flags");
  if (flags.includes("nopass")) throw new RotatorError("invalid", `any password opens user ${username}: take its nopass away`);
  if (flags.includes("off")) throw new RotatorError("locked", `user ${username} is off: acl setuser ${username} on`);
  return listed("passwords");
}

/** Hashes of passwords. */
export interface Difference {
  readonly add: readonly string[];
  readonly remove: readonly string[];
}

/**
 * Every password that goes is named: a call of a rotation that is over, arriving late, fails as a whole instead of undoing this.
 * With `persist`, that the change will outlive a restart is tried out first: once a password logs in, nobody asks again.
 * @throws RotatorError
 */
export async function changePasswords(db: Session, username: string, difference: Difference, persist: boolean): Promise<void> {
  const save = persist ? [await savingCommand(db)] : [];
  const { add, remove } = difference;
  const setting = settingCommand(username, difference);
  const failures = await db.change([...setting, ...save]);
  const unsaved = failures[setting.length];
  if (unsaved && failures.indexOf(unsaved) === setting.length)
    await db.change(settingCommand(username, { add: remove, remove: add }));
  const failure = failures.find((one) => one !== undefined);
  if (failure) throw failure;
}

function settingCommand(username: string, { add, remove }: Difference): Command[] {
  const rules = [...add.map((hash) => `#${hash}`), ...remove.map((hash) => `!${hash}`)];
  return rules.length === 0 ? [] : [["ACL", "SETUSER", username, ...rules]];
}

const noFile = {
  problem: "the server has neither an aclfile nor a configuration file: a restart would bring the users of before back",
  remedy: 'start it with a file, or say "persist": false if it never restarts, or gets its users from elsewhere',
};

/** Saves users as they are, and gives the command that did. @throws RotatorError when a restart would bring those of before back */
export async function savingCommand(db: Session): Promise<Command> {
  const saved = async (command: Command, exception: string): Promise<boolean> => {
    try {
      await db.read(command);
      return true;
    } catch (error) {
      if (said(error, exception)) return false;
      throw error;
    }
  };
  if (await saved(["ACL", "SAVE"], "not configured to use an ACL file")) return ["ACL", "SAVE"];
  if (await saved(["CONFIG", "REWRITE"], "running without a config file")) return ["CONFIG", "REWRITE"];
  throw new RotatorError("invalid", `${noFile.problem}; ${noFile.remedy}`);
}

/** What `manager` would meet when it changes the user's passwords, as far as it may ask; changes nothing. */
export async function findProblems(
  db: Session,
  { username, manager, persist, known }: { username: string; manager: string; persist: boolean; known: readonly string[] },
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const step = "setSecret";
  try {
    const others = (await passwordsOf(db, username)).filter((hash) => !known.includes(hash)).length;
    if (others > 0) {
      const count = others === 1 ? "a password" : `${others} passwords`;
      const problem = `user ${username} has ${count} that the secret does not know: the next rotation ends them`;
      findings.push({ step, problem, remedy: "move whoever uses them to this secret first", warning: true });
    }
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    findings.push({
      step,
      problem: error.message,
      remedy: `see that ${manager} may run acl getuser, and that ${username} is on`,
    });
  }
  const lacks = await lackingRights(db, manager, [["ACL", "SETUSER", username, "on"]], persist);
  return [...findings, ...lacks.map((one) => ({ step, ...one }) as const)];
}

interface Lack {
  readonly problem: string;
  readonly remedy: string;
}

/** Which of these commands, and of what saves users when they are to be saved, `manager` could not run, as far as it may ask. */
export async function lackingRights(
  db: Session,
  manager: string,
  commands: readonly Command[],
  persist: boolean,
): Promise<Lack[]> {
  const lacks: Lack[] = [];
  const save = persist ? await plannedSave(db) : undefined;
  if (save === "none") lacks.push(noFile);
  for (const command of [...commands, ...(save === undefined || save === "none" ? [] : [save])]) {
    const answer = await db.read(["ACL", "DRYRUN", manager, ...command]).catch(ignoreAnswer);
    if (answer === undefined || answer === "OK") continue;
    const name = `${command[0]}|${command[1]}`.toLowerCase();
    lacks.push({ problem: `${manager} may not run ${name}`, remedy: `acl setuser ${manager} +${name}` });
  }
  return lacks;
}

/** `undefined` when the server does not tell. */
async function plannedSave(db: Session): Promise<Command | "none" | undefined> {
  const setting = await db.read<string[]>(["CONFIG", "GET", "aclfile"]).catch(ignoreAnswer);
  if (setting?.[1]) return ["ACL", "SAVE"];
  const info = await db.read<string>(["INFO", "server"]).catch(ignoreAnswer);
  if (setting === undefined || info === undefined) return undefined;
  return /^config_file:\S/m.test(info) ? ["CONFIG", "REWRITE"] : "none";
}

/** Not everybody may ask, and not every server knows the question. */
function ignoreAnswer(error: unknown): undefined {
  if (!(error instanceof RotatorError && (error.outcome === "denied" || error.outcome === "invalid"))) throw error;
}
