import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { defineOperation, type Operation } from "../operation.ts";
import { configMembers } from "./config-input.ts";
import { type ConfigResource, configResource, existingConfig } from "./config-resource.ts";
import { ConfigReader, literalValue } from "./config-values.ts";
import { askedDynamicSecrets, leasedFields, leaseMembers } from "./leased-values.ts";
import { readValues, shownValues } from "./shown-values.ts";

/** The names asked for: at most as many as a config shows. */
export const names = z.array(z.string().min(1).max(200)).max(5000);

const listInput = z.object({
  ...configMembers,
  ...leaseMembers,
  Names: names.optional(),
  IncludeManagedSecrets: z.boolean().default(true),
});

/** Source: Doppler API reference, "Config secrets", List. */
const listConfigSecrets = defineOperation<z.infer<typeof listInput>, ConfigResource>({
  name: "ListConfigSecrets",
  action: "rekey:GetConfigSecrets",
  noun: "config-secrets",
  verb: "list",
  mode: "read",
  summary:
    "Lists a config's secrets with their values, as written and with references put in. Values for machines only are null for people.",
  input: listInput,
  resource: configResource,
  async run(request, found, call) {
    const config = existingConfig(found);
    refuseUntrusted(call, config);
    const dynamic = await askedDynamicSecrets(call, config, request);
    const asked = { names: request.Names, includeManaged: request.IncludeManagedSecrets };
    const values = await readValues(new ConfigReader(call.services), config, asked);
    if (dynamic.length > 0)
      for (const [name, value] of await leasedFields(call, dynamic, request)) values.set(name, literalValue(config, value));
    return { Secrets: await shownValues(call, config, values) };
  },
});

const namesInput = z.object({ ...configMembers, IncludeManagedSecrets: z.boolean().default(true) });

/** Source: Doppler API reference, "Config secrets", List names. */
const listConfigSecretNames = defineOperation<z.infer<typeof namesInput>, ConfigResource>({
  name: "ListConfigSecretNames",
  action: "rekey:ListConfigSecretNames",
  noun: "config-secrets",
  verb: "names",
  mode: "read",
  summary: "Lists the names of a config's secrets.",
  input: namesInput,
  resource: configResource,
  async run({ IncludeManagedSecrets }, found, call) {
    const config = existingConfig(found);
    const reader = new ConfigReader(call.services);
    const values = await readValues(reader, config, { includeManaged: IncludeManagedSecrets });
    return { Names: [...values.keys()] };
  },
});

const getInput = z.object({ ...configMembers, Name: z.string().min(1).max(200) });

/** Source: Doppler API reference, "Config secrets", Retrieve. */
const getConfigSecret = defineOperation<z.infer<typeof getInput>, ConfigResource>({
  name: "GetConfigSecret",
  action: "rekey:GetConfigSecrets",
  noun: "config-secrets",
  verb: "get",
  mode: "read",
  summary: "Shows one secret of a config with its value.",
  input: getInput,
  resource: configResource,
  async run({ Name }, found, call) {
    const config = existingConfig(found);
    refuseUntrusted(call, config);
    const values = await readValues(new ConfigReader(call.services), config, { names: [Name], includeManaged: true });
    const [secret] = await shownValues(call, config, values);
    if (!secret) throw new ServiceError("ResourceNotFoundException", `Could not find secret ${Name} in config ${config.name}.`);
    return { Secret: secret };
  },
});

export const readSecretOperations: readonly Operation[] = [listConfigSecrets, listConfigSecretNames, getConfigSecret];
