import { z } from "zod";
import { serialiseDocument } from "../../core/config-document.ts";
import { checkBranchName } from "../../core/config-names.ts";
import { ServiceError } from "../../core/error.ts";
import { Plaintext } from "../../core/plaintext.ts";
import { configArn } from "../../core/rekey-arn.ts";
import { recordConfigChange } from "../../store/config-changes.ts";
import { lockConfigNames } from "../../store/config-generations.ts";
import { parentIds, replaceParents } from "../../store/config-inherits.ts";
import { addVersion, replaceReferences, versionContext } from "../../store/config-versions.ts";
import { type Config, loadConfig, loadConfigs } from "../../store/configs.ts";
import { lockProject } from "../../store/projects.ts";
import type { Sql } from "../../store/sql.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { type Call, defineOperation, type Operation, type Permission } from "../operation.ts";
import { hintConfigs, who } from "./activity.ts";
import { referencesIn, requireReferred } from "./change-values.ts";
import { arnOf, configMembers, refused, requireReading } from "./config-input.ts";
import { type ConfigResource, configResource, existingConfig, ofSameConfig } from "./config-resource.ts";
import { ConfigReader } from "./config-values.ts";
import { rootOf, tellOf } from "./configs.ts";
import { addConfig, newConfig } from "./new-configs.ts";
import { shownConfig } from "./shown.ts";

const input = z.object({ ...configMembers, Name: z.string().max(60) });
type Input = z.infer<typeof input>;

/** Source: Doppler API reference, "Configs", Clone; documentation, "Branch configs". */
const cloneConfig = defineOperation<Input, ConfigResource>({
  name: "CloneConfig",
  action: "rekey:CloneConfig",
  noun: "configs",
  verb: "clone",
  mode: "write",
  summary: "Makes a branch config of the same environment with the same values of its own, and what it inherits.",
  input,
  resource: configResource,
  permissions: copied,
  async run({ Name }, found, call) {
    const source = existingConfig(found);
    refuseUntrusted(call, source);
    checkBranchName(Name, source.environment);
    const { projectId, environment } = source;
    const config = newConfig({ projectId, environment, name: Name, isRoot: false, createdAt: call.startedAt });
    const own = await new ConfigReader(call.services).own(source);
    // Who copies a reference writes it.
    await requireReferred(call, referencesIn(config, own));
    const { envelope, keys, region } = call.services;
    const key = await keys.resolve(undefined, region);
    const document = await envelope.seal(new Plaintext(serialiseDocument(own)), versionContext(config.id, 1), key.id);
    const done = await call.transaction(async (tx) => {
      await lockConfigNames(tx);
      if (!(await lockProject(tx, projectId))) throw gone();
      const now = await loadConfig(tx, source.id);
      if (!now) throw gone();
      if (now.version !== source.version || now.name !== source.name)
        throw refused("The config was changed while it was copied. Try again.");
      await rootOf(tx, projectId, environment);
      const { raised } = await addConfig(tx, { ...config, version: 0, trustedIps: source.trustedIps });
      await copyParents(tx, call, source, config);
      await tellOf(tx, call, config, { type: "config.created", text: `Cloned config ${source.name} as ${Name}` });
      if (own.size === 0) return { version: 0, raised };
      await addVersion(tx, { configId: config.id, number: 1, createdAt: call.startedAt }, document);
      await replaceReferences(tx, config.id, referencesIn(config, own));
      const names = [...own.keys()];
      const about = {
        ...who(call),
        at: call.startedAt,
        config,
        arn: arnOf(call, config),
        names,
        diff: { added: names, removed: [], updated: [] },
      };
      const text = `Copied the values of config ${source.name}`;
      const change = await recordConfigChange(tx, { ...about, text, fromVersion: 0, toVersion: 1 });
      return { version: 1, raised: [...raised, ...change.raised] };
    });
    hintConfigs(call, done.raised);
    return shownConfig(call.sql, { ...config, version: done.version });
  },
});

/** A copy shows what its source does: who makes one must be allowed to read that, and to make the config. */
function copied({ Name }: Input, found: ConfigResource, { services }: Call): readonly Permission[] {
  const made = ofSameConfig(found, (project) => configArn(services, project, Name));
  return [
    { action: "rekey:GetConfigSecrets", resource: found },
    { action: "rekey:CreateConfig", resource: { ...made, context: { ...found.context, "rekey:Config": [Name] } } },
  ];
}

async function copyParents(tx: Sql, call: Call, source: Config, config: Config): Promise<void> {
  const ids = await parentIds(tx, source.id);
  for (const parent of (await loadConfigs(tx, ids)).values()) requireReading(call, parent);
  await replaceParents(tx, config, ids);
}

function gone(): ServiceError {
  return new ServiceError("ResourceNotFoundException", "Could not find the config: it was deleted meanwhile.");
}

export const cloneOperations: readonly Operation[] = [cloneConfig];
