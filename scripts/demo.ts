// Rotates passwords of a real PostgreSQL while an application keeps logging in. `--keep` leaves everything running.
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type PostgresServer, startPostgres } from "../test/support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../test/support/rekey-server.ts";
import { Application } from "./demo/application.ts";
import { type Credential, prepareDatabase } from "./demo/database.ts";
import { keepRunning } from "./demo/keep.ts";
import { readFolder, verifyAudit } from "./demo/proofs.ts";
import { Screen } from "./demo/screen.ts";
import { type Rotated, Story, StoryEnded } from "./demo/story.ts";
import { Vault } from "./demo/vault.ts";

const orders: Rotated = {
  secret: "demo/orders",
  functionName: "SecretsManagerRDSPostgreSQLRotationSingleUser",
  table: "orders",
};
const billing: Rotated = {
  secret: "demo/billing",
  functionName: "SecretsManagerRDSPostgreSQLRotationMultiUser",
  table: "billing",
};
const adminSecret = "demo/admin";
const rotationsEach = 3;
const schedule = "rate(4 seconds)";

interface World {
  readonly postgres: PostgresServer;
  readonly rekey: RekeyServer;
  readonly vault: Vault;
  readonly application: Application;
  readonly story: Story;
}

const screen = new Screen();
/** Settings of a Rekey that the person has elsewhere are no business of the demo's. */
const env = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, isOurs(name) ? undefined : value]));

const interrupted = Promise.withResolvers<undefined>();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => interrupted.resolve(undefined));
process.exit(await demo());

function isOurs(name: string): boolean {
  return name.startsWith("REKEY_");
}

async function demo(): Promise<number> {
  const { keep } = parseArgs({ options: { keep: { type: "boolean", default: false } } }).values;
  screen.raw(screen.paint("bold", "Rekey: passwords of a real database change while an application keeps logging in."));
  await using opened = new AsyncDisposableStack();
  const world = await Promise.race([start(opened), interrupted.promise]);
  const told = world && (await Promise.race([tell(world), interrupted.promise]));
  if (!told) {
    screen.raw("\ndemo: interrupted");
    return 130;
  }
  if (!keep) return finish(world);
  summarise(world);
  await keepRunning({ ...world, screen, secrets: [orders, billing], interrupted: interrupted.promise });
  return finish(world);
}

/** Everything that the story needs, ended again by `opened`. */
async function start(opened: AsyncDisposableStack): Promise<World> {
  screen.scene("A database, and Rekey");
  screen.line("Starting PostgreSQL on this machine. Every login needs its password.");
  const postgres = opened.use(await startPostgres({ settings: ["log_statement=all"] }));
  screen.line("Starting `rekey server`, with an empty embedded store.");
  const folder = mkdtempSync(join(tmpdir(), "rekey-demo-"));
  opened.defer(() => rmSync(folder, { recursive: true, force: true }));
  const rekey = opened.use(await startRekey({ dataFolder: join(folder, "data"), flags: ["--extended-schedules"], env }));
  const vault = opened.adopt(new Vault(rekey), (client) => client.close());
  const application = opened.use(new Application(vault));
  return { postgres, rekey, vault, application, story: new Story(screen, vault, application) };
}

/** All scenes, or as many as go well. */
async function tell(world: World): Promise<true> {
  try {
    const first = await storeCredentials(world);
    world.application.start(orders.secret, orders.table);
    world.application.start(billing.secret, billing.table);
    await rotateByHand(world, first);
    await rotateBySchedule(world);
    await prove(world, first);
  } catch (error) {
    world.story.check(false, error instanceof Error ? error.message : String(error));
    if (!(error instanceof StoryEnded)) screen.line(error instanceof Error ? (error.stack ?? "") : "");
    const log = world.rekey.log().trim();
    screen.line(log === "" ? "Rekey's log is empty." : "The last lines of Rekey's log:");
    if (log !== "") screen.raw(log.split("\n").slice(-5).join("\n"));
  }
  return true;
}

async function storeCredentials({ postgres, rekey, vault }: World): Promise<Credential[]> {
  const place = { engine: "postgres", host: postgres.host, port: postgres.port, dbname: "postgres" } as const;
  const newUser = (username: string): Credential => ({ ...place, username, password: randomBytes(18).toString("hex") });
  const superuser = { ...place, username: postgres.user, password: postgres.password };
  const [one, two] = [newUser(orders.table), newUser(billing.table)];
  const version = await prepareDatabase(superuser, [one, two]);
  screen.line(`PostgreSQL ${version} is at ${postgres.host}:${postgres.port}, Rekey at ${rekey.endpoint}.`);

  screen.scene("Three credentials go into Rekey, through the AWS SDK");
  const masterarn = await vault.store(adminSecret, superuser);
  await vault.store(orders.secret, one);
  await vault.store(billing.secret, { ...two, masterarn });
  screen.line(`${adminSecret}    the database's superuser`);
  screen.line(`${orders.secret}   user orders: one user, whose password gets replaced (single-user)`);
  screen.line(`${billing.secret}  user billing: two users who take turns (alternating-users); Rekey makes the`);
  screen.line("              second one with the superuser's credential, which masterarn names");
  return [superuser, one, two];
}

async function rotateByHand({ story }: World, [, , firstOfBilling]: readonly Credential[]): Promise<void> {
  screen.scene("An application begins to log in, and one user's password is rotated");
  screen.line("For every connection it asks Rekey for the password, logs in, reads a table and hangs up.");
  screen.line("After each rotation we try old and new password at the database ourselves:");
  for (let turn = 0; turn < rotationsEach; turn += 1) await story.rotateSingleUser(orders);

  screen.scene("Two users take turns");
  screen.line("Here the password before the new one stays good for one turn, so that clients that keep it");
  screen.line("for a while are not locked out either.");
  let retired: Credential | undefined;
  for (let turn = 0; turn < rotationsEach; turn += 1) retired = await story.rotateAlternating(billing, retired);
  if (!firstOfBilling) return;
  await story.probe(billing, firstOfBilling, false, "very first password");
}

async function rotateBySchedule({ story, vault }: World): Promise<void> {
  screen.scene(`A schedule, ${schedule}, rotates by itself`);
  await vault.rotate(orders.secret, orders.functionName, {
    RotationRules: { ScheduleExpression: schedule },
    RotateImmediately: false,
  });
  await story.watchSchedule(orders, 2);
  await vault.stopSchedule(orders.secret);
}

async function prove({ story, postgres, rekey, application }: World, first: readonly Credential[]): Promise<void> {
  screen.scene("What is left behind");
  const passwords = [...first.map(({ password }) => password), ...story.made];
  const data = readFolder(rekey.dataFolder);
  story.check(data.includes(orders.secret), `Rekey's files name the secrets (${data.length >> 10} KiB searched),`);
  story.check(!passwords.some((password) => data.includes(password)), `but show none of the ${passwords.length} passwords;`);
  story.check(!passwords.some((password) => rekey.log().includes(password)), "nor does its log.");
  const statements = readFileSync(postgres.logFile);
  story.check(statements.includes("SCRAM-SHA-256$"), "PostgreSQL's log of statements shows verifiers (SCRAM-SHA-256),");
  story.check(![...story.made].some((password) => statements.includes(password)), "but no password: it was never told one.");
  const { whole, said } = await verifyAudit(rekey.dataFolder, env);
  story.check(whole, `rekey audit verify: ${said}`);
  for (const problem of new Set(application.problems)) story.check(false, `the application met: ${problem}`);
}

async function finish(world: World): Promise<number> {
  await world.application.stop();
  return summarise(world) ? 0 : 1;
}

/** The last line; true when every check held and nobody was locked out. */
function summarise({ story, application }: World): boolean {
  const { logins, refused, firstRefusals } = application.counts;
  const failed = story.failed + (logins === 0 ? 1 : 0);
  screen.raw("");
  if (refused > 0) screen.check(false, `${refused} logins were refused although the secret had been read again`);
  if (failed > 0) screen.raw(screen.paint("red", failed === 1 ? "One check did not hold." : `${failed} checks did not hold.`));
  screen.raw(
    screen.paint("bold", `demo: ${story.rotations} rotations, ${logins} logins, ${refused} refused`) +
      ` (${firstRefusals} refused at first and accepted after one re-read)`,
  );
  return failed === 0 && refused === 0;
}
