import type { BoundConfig } from "./principal.ts";

export type ServiceTokenAccess = "read" | "read/write";

const readActions = ["GetConfig", "GetConfigSecrets", "ListConfigSecretNames"];
const writeActions = ["SetConfigSecrets", "SetSecretNote"];
const projectActions = ["GetProject", "ListProjects", "ListEnvironments", "ListConfigs"];
const environmentActions = ["GetEnvironment", "ListConfigs"];
const dynamicSecretActions = ["IssueLease"];
const leaseActions = ["GetLease", "RenewLease", "RevokeLease"];

/**
 * What a service token may do: its one config, and leases of that config's dynamic secrets; those that it issued itself, as
 * others live by theirs. `arn` is its own. It is both its identity policy and
 * its session policy, so that no resource policy or trust policy that means everyone lets it further.
 */
export function serviceTokenPolicy(arn: string, account: string, bound: BoundConfig, access: ServiceTokenAccess): string {
  const { project, environment, config } = bound;
  const allow = (names: readonly string[], ...resources: readonly string[]) => ({
    Effect: "Allow",
    Action: names.map((name) => `rekey:${name}`),
    Resource: resources.map((resource) => `arn:aws:rekey:*:${account}:${resource}`),
  });
  return JSON.stringify({
    Version: "2012-10-17",
    Statement: [
      allow(access === "read" ? readActions : [...readActions, ...writeActions], `config/${project}/${config}`),
      allow(projectActions, `project/${project}`),
      allow(environmentActions, `environment/${project}/${environment}`),
      allow(dynamicSecretActions, `dynamic-secret/${project}/${config}/*`),
      {
        ...allow(leaseActions, `lease/${project}/${config}/*`),
        Condition: { StringEquals: { "rekey:LeasePrincipal": arn } },
      },
    ],
  });
}
