import { callApi, rowsOf } from "../api-client.ts";
import { CommandError } from "../command-error.ts";
import type { ConfigConnection } from "../scope.ts";
import { ConfigSource } from "./fetch.ts";
import { OfflineFile } from "./offline-file.ts";

/** Writes an offline copy to a file of one's choice, without taking leases; gives how many values it holds. */
export async function writeOfflineCopy(connection: ConfigConnection, path: string): Promise<number> {
  const file = new OfflineFile(connection, { path });
  const source = new ConfigSource(connection, {}, () => undefined);
  const { values } = await source.fetch({ leases: false });
  const [project, config] = ["PROJECT", "CONFIG"].map((name) => values.get(`DOPPLER_${name}`));
  await file.write({
    values: Object.fromEntries(values),
    leasedNames: await dynamicNames(connection, project, config),
    confirmedAt: Date.now(),
    ...(project !== undefined && { project }),
    ...(config !== undefined && { config }),
  });
  return values.size;
}

/** What will be missing; nothing when the token may not know. */
async function dynamicNames(connection: ConfigConnection, project?: string, config?: string): Promise<string[]> {
  try {
    const answer = await callApi(connection, "dynamic-secrets/list", { project, config });
    return rowsOf(answer, "dynamicSecrets").map(({ name }) => `${String(name)}_*`);
  } catch (error) {
    if (error instanceof CommandError && error.exitCode === 1) return [];
    throw error;
  }
}
