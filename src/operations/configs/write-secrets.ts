import { z } from "zod";
import { visibilities } from "../../core/config-document.ts";
import { checkSecretName, checkText } from "../../core/config-names.ts";
import { parseUpload } from "../../core/config-upload.ts";
import { valueTypes } from "../../core/config-value-types.ts";
import { applyChangeRequests, applySecrets, type ChangeRequest, type WrittenConfig } from "../../core/config-values.ts";
import { ServiceError } from "../../core/error.ts";
import { saveNote } from "../../store/config-versions.ts";
import type { Config } from "../../store/configs.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { tell } from "./activity.ts";
import { type Changed, changeValues } from "./change-values.ts";
import { configMembers, refused, requireReading } from "./config-input.ts";
import {
  type ConfigResource,
  configResource,
  existingConfig,
  existingProject,
  type ProjectResource,
  projectResource,
} from "./config-resource.ts";
import { ConfigReader } from "./config-values.ts";
import { readValues, seesRestricted, shownValues } from "./shown-values.ts";

const visibility = z.enum(visibilities).nullish();
const valueType = z.enum(valueTypes).nullish();
const changeRequest = z.object({
  Name: z.string().max(500),
  OriginalName: z.string().max(500).nullish(),
  Value: z.string().nullish(),
  OriginalValue: z.string().nullish(),
  OriginalVisibility: visibility,
  OriginalValueType: valueType,
  Visibility: visibility,
  ValueType: valueType,
  ShouldDelete: z.boolean().nullish(),
  ShouldPromote: z.boolean().nullish(),
  ShouldConverge: z.boolean().nullish(),
});

const setInput = z.object({
  ...configMembers,
  Secrets: z.record(z.string().max(500), z.string().nullable()).optional(),
  ChangeRequests: z.array(changeRequest).max(2400).optional(),
});

/** Source: Doppler API reference, "Config secrets", Update. */
const setConfigSecrets = defineOperation<z.infer<typeof setInput>, ConfigResource>({
  name: "SetConfigSecrets",
  action: "rekey:SetConfigSecrets",
  noun: "config-secrets",
  verb: "set",
  mode: "write",
  summary: "Sets secrets of a config, by name (null removes) or by change requests with guards. All of it is done, or nothing.",
  input: setInput,
  sensitive: ["Secrets", "ChangeRequests"],
  check({ Secrets, ChangeRequests }) {
    if ((Secrets === undefined) === (ChangeRequests === undefined))
      throw new ServiceError("ValidationException", "Give either secrets or change requests.");
  },
  resource: configResource,
  async run({ Secrets, ChangeRequests }, found, call) {
    const config = writable(found, call);
    if (ChangeRequests === undefined) {
      const wanted = new Map(Object.entries(Secrets ?? {}));
      return answer(call, await changeValues(call, config.id, (written) => ({ own: applySecrets(written, wanted) })), config);
    }
    const requests = ChangeRequests.map(toRequest);
    if (requests.some(tellsOfValue)) requireReading(call, config);
    const done = await changeValues(call, config.id, (written) => {
      if (!seesRestricted(call.principal)) for (const request of requests) keepRestricted(request, written);
      return applyChangeRequests(written, requests);
    });
    return answer(call, done, config);
  },
});

function toRequest(asked: z.infer<typeof changeRequest>): ChangeRequest {
  return {
    name: asked.Name,
    originalName: asked.OriginalName,
    value: asked.Value,
    originalValue: asked.OriginalValue,
    originalVisibility: asked.OriginalVisibility,
    originalValueType: asked.OriginalValueType,
    visibility: asked.Visibility,
    valueType: asked.ValueType,
    shouldDelete: asked.ShouldDelete,
    shouldPromote: asked.ShouldPromote,
    shouldConverge: asked.ShouldConverge,
  };
}

/** What a guard or a type's rule answers tells something of the value; what is promoted shows in the root. */
function tellsOfValue({ value, originalValue, valueType, shouldPromote, shouldDelete, shouldConverge }: ChangeRequest): boolean {
  if (originalValue != null) return true;
  if (value != null || shouldDelete || shouldConverge) return false;
  return valueType != null || shouldPromote === true;
}

/** What is for machines only stays so: people may put another value there, and neither have the old one shown nor guess at it. */
function keepRestricted(request: ChangeRequest, { own, beneath }: WrittenConfig): void {
  const { name, originalName, value, originalValue, visibility: asked, valueType } = request;
  const before = originalName ?? name;
  const shown = own.get(before) ?? beneath.get(before);
  if (shown?.visibility !== "restricted") return;
  if (originalValue != null)
    throw new ServiceError("AccessDeniedException", `Secret ${before} is restricted: its value cannot be compared with one.`);
  if (valueType != null && value == null)
    throw new ServiceError("AccessDeniedException", `Secret ${before} is restricted: give its value together with its type.`);
  if (asked != null && asked !== "restricted" && value == null)
    throw new ServiceError("AccessDeniedException", `Secret ${before} is restricted: it can be shown only with another value.`);
}

const deleteInput = z.object({ ...configMembers, Name: z.string().min(1).max(500) });

/** Source: Doppler API reference, "Config secrets", Delete. */
const deleteConfigSecret = defineOperation<z.infer<typeof deleteInput>, ConfigResource>({
  name: "DeleteConfigSecret",
  action: "rekey:SetConfigSecrets",
  noun: "config-secrets",
  verb: "delete",
  mode: "write",
  summary: "Removes a secret of a config; in a branch config the root's value shows again.",
  input: deleteInput,
  resource: configResource,
  async run({ Name }, found, call) {
    const config = writable(found, call);
    const done = await changeValues(call, config.id, ({ own, beneath }) => {
      if (own.has(Name)) return { own: new Map([...own].filter(([name]) => name !== Name)) };
      if (beneath.has(Name))
        throw refused(`Secret ${Name} comes from another config, which config ${config.name} takes from: remove it there.`);
      throw new ServiceError("ResourceNotFoundException", `Could not find secret ${Name} in config ${config.name}.`);
    });
    return answer(call, done, config);
  },
});

const uploadInput = z.object({ ...configMembers, File: z.string().max(2_000_000) });

/** Source: Doppler CLI, "secrets upload". */
const uploadConfigSecrets = defineOperation<z.infer<typeof uploadInput>, ConfigResource>({
  name: "UploadConfigSecrets",
  action: "rekey:SetConfigSecrets",
  noun: "config-secrets",
  verb: "upload",
  mode: "write",
  summary: "Sets the secrets of a file's text in env, JSON or YAML form; others stay as they are.",
  input: uploadInput,
  sensitive: ["File"],
  resource: configResource,
  async run({ File }, found, call) {
    const config = writable(found, call);
    const wanted = parseUpload(File);
    return answer(call, await changeValues(call, config.id, (written) => ({ own: applySecrets(written, wanted) })), config);
  },
});

const noteInput = z.object({ ...configMembers, Secret: z.string().max(200), Note: z.string().max(2000) });

/** Source: Doppler API reference, "Projects", Update note. */
const setSecretNote = defineOperation<z.infer<typeof noteInput>, ProjectResource>({
  name: "SetSecretNote",
  action: "rekey:SetSecretNote",
  noun: "config-secrets",
  verb: "set-note",
  mode: "write",
  summary: "Sets the note on a name of a project's secrets, the same in all its configs; an empty one removes it.",
  input: noteInput,
  check({ Secret, Note }) {
    checkSecretName(Secret);
    checkText("Note", Note);
  },
  resource: (input, call) =>
    input.Config || call.principal.boundConfig ? configResource(input, call) : projectResource(input, call),
  async run({ Secret, Note }, found, call) {
    const { id } = existingProject(found);
    await call.transaction(async (tx) => {
      await saveNote(tx, id, Secret, Note);
      const text = Note === "" ? `Removed the note on ${Secret}` : `Set the note on ${Secret}`;
      await tell(tx, call, { type: "project.noted", resource: found.arn, text, project: id, names: [Secret] });
    });
    return { Secret, Note };
  },
});

function writable(found: ConfigResource, call: Call): Config {
  const config = existingConfig(found);
  refuseUntrusted(call, config);
  return config;
}

/** What is there now, for those who may read it. */
async function answer(call: Call, { names }: Changed, config: Config): Promise<object> {
  const found = await configResource({ Project: config.projectId, Config: config.name }, call);
  if (!found.config || call.may("rekey:GetConfigSecrets", found) !== undefined) return { Names: names };
  const values = await readValues(new ConfigReader(call.services), found.config, { includeManaged: true });
  return { Names: names, Secrets: await shownValues(call, found.config, values) };
}

export const writeSecretOperations: readonly Operation[] = [
  setConfigSecrets,
  deleteConfigSecret,
  uploadConfigSecrets,
  setSecretNote,
];
