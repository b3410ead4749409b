import type { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { installationId } from "../../store/installation.ts";
import { type Integration, newestVersion } from "../../store/integrations.ts";
import { anySettings, type Orphans, placesOfLeases, planOrphanLook, queueOrphans } from "../../store/lease-orphans.ts";
import { type Call, defineOperation } from "../operation.ts";
import { openIntegration, parseMembers, targetOf, targetRefusal, toolsFor } from "./connection.ts";
import { existing, type IntegrationResource, integrationResource, named } from "./integration-input.ts";
import { requireNoQuarantine } from "./issue.ts";

const listMs = 45_000;

/** What the engine does every hour by itself. */
export const findOrphans = defineOperation<z.infer<typeof named>, IntegrationResource>({
  name: "FindOrphans",
  action: "rekey:FindOrphans",
  noun: "leases",
  verb: "find-orphans",
  mode: "write",
  summary: "Looks at an integration's target for users that bear this deployment's mark and have no lease, and has them ended.",
  input: named,
  resource: integrationResource,
  async run(_input, found, call) {
    const integration = existing(found);
    const { services } = call;
    await requireNoQuarantine(services.sql);
    const newest = await newestVersion(services.sql, integration);
    if (!newest) throw new ServiceError("ResourceNotFoundException", "The integration was deleted meanwhile.");
    const { list } = await targetOf(services, integration.type);
    if (!list) {
      await planOrphanLook(services.sql, integration.id, undefined);
      return { CanList: false, Orphans: [], RemoveByHand: [] };
    }
    const settings = await anySettings(services.sql, integration.id);
    const looked: { users: number; orphans: Orphans }[] = [];
    for (const version of await placesOfLeases(services.sql, newest)) {
      const users = await usersAt(call, integration, version.network);
      if (!users) {
        await planOrphanLook(services.sql, integration.id, undefined);
        return { CanList: false, Orphans: [], RemoveByHand: [] };
      }
      const marked = { integration, version, users, settings };
      looked.push({ users: users.length, orphans: await queueOrphans(services.sql, services, marked, services.now()) });
    }
    services.wakeEngine();
    const all = looked.map(({ orphans }) => orphans);
    return {
      CanList: true,
      UsersFound: looked.reduce((sum, { users }) => sum + users, 0),
      Orphans: all.flatMap(({ queued }) => queued.map(({ leaseId, name }) => ({ LeaseId: leaseId, User: name }))),
      RemoveByHand: all.flatMap(({ byHand }) => byHand),
      TooYoungToTell: all.reduce((sum, { young }) => sum + young, 0),
    };
  },
});

async function usersAt({ services }: Call, integration: Integration, network: string | undefined) {
  const target = await targetOf(services, integration.type, network);
  const { data } = await openIntegration(services, integration);
  const connection = parseMembers(target.connection, data, "Data");
  try {
    return await target.list?.(connection, await installationId(services.sql), toolsFor(listMs));
  } catch (error) {
    throw targetRefusal(error, `The ${target.kind} target could not be looked at`);
  }
}
