import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { PostgresServer } from "../../test/support/postgres-server.ts";
import type { RekeyServer } from "../../test/support/rekey-server.ts";
import type { Application } from "./application.ts";
import type { Screen } from "./screen.ts";
import type { Rotated } from "./story.ts";
import type { Vault } from "./vault.ts";

interface Kept {
  readonly screen: Screen;
  readonly postgres: PostgresServer;
  readonly rekey: RekeyServer;
  readonly vault: Vault;
  readonly application: Application;
  readonly secrets: readonly Rotated[];
  readonly interrupted: Promise<unknown>;
}

/** Leaves everything running and says what can be typed, until Ctrl-C; tells when a version becomes current. */
export async function keepRunning(kept: Kept): Promise<void> {
  const { screen, application, secrets } = kept;
  application.slowDown(10);
  tell(kept);
  let over = false;
  void kept.interrupted.then(() => {
    over = true;
  });
  const seen = new Map<string, string>();
  while (!over) {
    for (const { secret } of secrets) {
      const { id, credential } = await kept.vault.read(secret);
      if (seen.has(secret) && seen.get(secret) !== id)
        screen.line(`${secret}: version ${id.slice(0, 8)} is current, user ${credential.username}`);
      seen.set(secret, id);
    }
    const { logins, refused } = application.counts;
    screen.counter(`application: ${logins} logins, ${refused} refused — Ctrl-C ends everything`);
    await Promise.race([sleep(250), kept.interrupted]);
  }
}

function tell({ screen, rekey, postgres, secrets }: Kept): void {
  const { endpoint, credentials, dataFolder } = rekey;
  const field = (name: string) => `$(sed -n 's/.*"${name}": "\\(.*\\)".*/\\1/p' $REKEY_FILE)`;
  const aws = (words: string) => `aws secretsmanager ${words} --endpoint-url ${endpoint}`;
  const [first] = secrets;
  screen.scene("Everything keeps running; in another terminal, paste");
  screen.raw("");
  screen.raw(`REKEY_FILE=${join(dataFolder, "root-credentials.json")}`);
  screen.raw(`export AWS_ACCESS_KEY_ID=${field("accessKeyId")}`);
  screen.raw(`export AWS_SECRET_ACCESS_KEY=${field("secretAccessKey")}`);
  screen.raw(`export AWS_DEFAULT_REGION=${credentials.region}`);
  screen.raw("");
  screen.raw(aws("list-secrets"));
  for (const { secret } of secrets) {
    screen.raw(aws(`get-secret-value --secret-id ${secret}`));
    screen.raw(aws(`rotate-secret --secret-id ${secret}`));
  }
  screen.raw(aws(`describe-secret --secret-id ${first?.secret}`));
  screen.raw("");
  screen.line(`PostgreSQL answers on ${postgres.host}:${postgres.port}. The application goes on, ten logins a second.`);
  screen.line("Press Ctrl-C here to stop everything and remove its files.");
  screen.raw("");
}
