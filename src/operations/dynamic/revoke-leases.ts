import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { leaseArn } from "../../core/rekey-arn.ts";
import { dynamicSecretsOf } from "../../store/dynamic-secrets.ts";
import { beginRevocations, type LeaseScope } from "../../store/leases.ts";
import { type ConfigResource, configResource, existingConfig, ofSameConfig } from "../configs/config-resource.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { configMembers, dynamicSecretName } from "./dynamic-secret-input.ts";

const input = z.object({
  ...configMembers,
  DynamicSecret: dynamicSecretName.optional(),
  /** ARN. */
  Principal: z.string().min(1).max(2048).optional(),
});
type Input = z.infer<typeof input>;

interface ScopedResource extends Resource {
  readonly of: ConfigResource | undefined;
}

const isOfPrincipal = ({ Principal, Project, Config, DynamicSecret }: Input) =>
  Principal !== undefined && !Project && !Config && DynamicSecret === undefined;

/** Those of a principal may be of any config: that asks for a right to all. */
async function scopedResource(given: Input, call: Call): Promise<ScopedResource> {
  const all = (project: string, config: string) => leaseArn(call.services, project, config, given.DynamicSecret ?? "*", "*");
  if (isOfPrincipal(given)) return { arn: all("*", "*"), shown: all("*", "*"), context: {}, of: undefined };
  const of = await configResource(given, call);
  return { ...ofSameConfig(of, all), context: {}, of };
}

/** Each at most 1,000 rows a statement. */
export const revokeLeases = defineOperation<Input, ScopedResource>({
  name: "RevokeLeases",
  action: "rekey:RevokeLeases",
  noun: "leases",
  verb: "revoke-all",
  mode: "write",
  summary:
    "Ends all leases of a dynamic secret, of a config or of a principal; the answer tells how many, and does not wait for their end.",
  input,
  resource: scopedResource,
  async run(given, { of }, call) {
    const scopes = await scopesOf(given, of, call);
    // The first page is on record with the request; the others follow it.
    let count = await call.transaction(async (tx) =>
      scopes[0] ? beginRevocations(tx, scopes[0], "revoked", call.services.now()) : 0,
    );
    call.services.wakeEngine();
    for (const scope of scopes)
      for (;;) {
        const page = await call.services.sql.transaction((tx) => beginRevocations(tx, scope, "revoked", call.services.now()));
        count += page;
        if (page === 0) break;
      }
    call.services.wakeEngine();
    return { LeasesEnding: count };
  },
});

async function scopesOf(given: Input, of: ConfigResource | undefined, call: Call): Promise<LeaseScope[]> {
  const { Principal: principal, DynamicSecret } = given;
  if (!of) return [{ principal }];
  const secrets = await dynamicSecretsOf(call.sql, existingConfig(of).id);
  const wanted = DynamicSecret === undefined ? secrets : secrets.filter(({ name }) => name === DynamicSecret);
  if (DynamicSecret !== undefined && wanted.length === 0)
    throw new ServiceError("ResourceNotFoundException", `Could not find dynamic secret ${DynamicSecret} of the config.`);
  return wanted.map(({ id }) => ({ dynamicSecretId: id, principal }));
}
