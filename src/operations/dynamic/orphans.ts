import type { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { installationId } from "../../store/installation.ts";
import { type Integration, newestVersion } from "../../store/integrations.ts";
import { anySettings, planOrphanLook, queueOrphans } from "../../store/lease-orphans.ts";
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
    const version = await newestVersion(services.sql, integration);
    if (!version) throw new ServiceError("ResourceNotFoundException", "The integration was deleted meanwhile.");
    const users = await usersAt(call, integration);
    if (!users) {
      await planOrphanLook(services.sql, integration.id, undefined);
      return { CanList: false, Orphans: [], RemoveByHand: [] };
    }
    const settings = await anySettings(services.sql, integration.id);
    const orphans = await queueOrphans(services.sql, services, { integration, version, users, settings }, services.now());
    services.wakeEngine();
    return {
      CanList: true,
      UsersFound: users.length,
      Orphans: orphans.queued.map(({ leaseId, name }) => ({ LeaseId: leaseId, User: name })),
      RemoveByHand: orphans.byHand,
      TooYoungToTell: orphans.young,
    };
  },
});

async function usersAt({ services }: Call, integration: Integration) {
  const target = await targetOf(services, integration.type);
  const connection = parseMembers(target.connection, await openIntegration(services, integration), "Data");
  try {
    return await target.list?.(connection, await installationId(services.sql), toolsFor(listMs));
  } catch (error) {
    throw targetRefusal(error, `The ${target.kind} target could not be looked at`);
  }
}
