import { randomUUID } from "node:crypto";
import { z } from "zod";
import { rotatedFieldsOf } from "../../core/config-rotated.ts";
import { ServiceError } from "../../core/error.ts";
import { planHeartbeat } from "../../core/heartbeat.ts";
import { Plaintext } from "../../core/plaintext.ts";
import { periodRules } from "../../core/rotated-secret.ts";
import {
  addVersion,
  currentInForce,
  detach,
  moveLabel,
  type Secret,
  type SecretVersion,
  versionWith,
} from "../../core/secret.ts";
import { encryptionContext } from "../../core/value-context.ts";
import { findDynamicSecret } from "../../store/dynamic-secrets.ts";
import { addEvent } from "../../store/events.ts";
import { loadIntegration } from "../../store/integrations.ts";
import { networkOfIntegrationOf } from "../../store/networks.ts";
import { deleteRotatedSecret, rotatedSecretsOf, saveRotatedSecret } from "../../store/rotated-secrets.ts";
import { abandonRotation, cancelRotation, listRotations } from "../../store/rotations.ts";
import { loadSecrets, loadValue } from "../../store/secrets.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { hintConfigs } from "../configs/activity.ts";
import { type ConfigResource, configResource, existingConfig } from "../configs/config-resource.ts";
import { configMembers } from "../dynamic/dynamic-secret-input.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { readPageToken, writePageToken } from "../secrets/page-token.ts";
import { sealValue } from "../secrets/value.ts";
import { beginRotation, changedMeanwhile, changeOwned, requireFree, tellConfig } from "./change.ts";
import { createRotatedSecret } from "./create.ts";
import { loginOutcome, mustLogIn, type Way } from "./look.ts";
import { recipeOf } from "./recipe.ts";
import {
  existing,
  one,
  oneOfConfig,
  period,
  type RotatedSecretResource,
  rotatedSecretName,
  rotatedSecretResource,
  shown,
  shownRotation,
} from "./rotated-secret-input.ts";

const dayMs = 86_400_000;
const placeOf = ({ projectId, name }: { projectId: string; name: string }) => ({ project: projectId, config: name });

const getRotatedSecret = defineOperation<z.infer<typeof one>, RotatedSecretResource>({
  name: "GetRotatedSecret",
  action: "rekey:GetRotatedSecret",
  noun: "rotated-secrets",
  verb: "get",
  mode: "read",
  summary: "Shows a rotated secret: how it stands, when it is rotated next, and why the last rotation failed, if it did.",
  input: one,
  resource: rotatedSecretResource,
  async run(_request, found, call) {
    const { config, rotated, secret } = await existing(found, call);
    return { RotatedSecret: await shown(rotated, secret, placeOf(config), call) };
  },
});

const ofConfig = z.object(configMembers);

const listRotatedSecrets = defineOperation<z.infer<typeof ofConfig>, ConfigResource>({
  name: "ListRotatedSecrets",
  action: "rekey:ListRotatedSecrets",
  noun: "rotated-secrets",
  verb: "list",
  mode: "read",
  summary: "Lists the rotated secrets of a config, by name.",
  input: ofConfig,
  resource: configResource,
  async run(_request, found, call) {
    const config = existingConfig(found);
    const all = await rotatedSecretsOf(call.sql, config.id);
    const secrets = new Map(
      (
        await loadSecrets(
          call.sql,
          all.map(({ secretId }) => secretId),
        )
      ).map((one) => [one.id, one]),
    );
    const rows = all.flatMap((rotated) => {
      const secret = secrets.get(rotated.secretId);
      return secret ? [shown(rotated, secret, placeOf(config), call)] : [];
    });
    return { RotatedSecrets: await Promise.all(rows) };
  },
});

const updateInput = z.object({
  ...oneOfConfig,
  Name: rotatedSecretName.optional(),
  RotationPeriodSeconds: period.optional(),
});

const updateRotatedSecret = defineOperation<z.infer<typeof updateInput>, RotatedSecretResource>({
  name: "UpdateRotatedSecret",
  action: "rekey:UpdateRotatedSecret",
  noun: "rotated-secrets",
  verb: "update",
  mode: "write",
  summary: "Changes a rotated secret's name, and how often it is rotated; nothing else of it changes.",
  input: updateInput,
  resource: rotatedSecretResource,
  async run({ Name, RotationPeriodSeconds }, found, call) {
    const { config, rotated, secret } = await existing(found, call);
    refuseUntrusted(call, config);
    const after = {
      ...rotated,
      name: Name ?? rotated.name,
      rotationPeriodSeconds: RotationPeriodSeconds ?? rotated.rotationPeriodSeconds,
    };
    const isOther = after.name !== rotated.name;
    if (isOther && (await findDynamicSecret(call.sql, config.id, after.name))) throw nameTaken(after.name);
    const rotationRules = periodRules(after.rotationPeriodSeconds, call.services.extendedSchedules);
    const isOtherPeriod = after.rotationPeriodSeconds !== rotated.rotationPeriodSeconds;
    const [removed, added] = isOther ? await namesOf(secret, [rotated.name, after.name], call) : [[], []];
    await requireFree(call, config, added ?? []);
    const { saved, raised } = await call.transaction(async (tx) => {
      const changed = await changeOwned(tx, secret, (before) =>
        isOtherPeriod ? call.services.reschedule({ ...before, rotationRules }, before.lastRotatedAt ?? before.createdAt) : before,
      );
      const text = isOther ? `renamed rotated secret ${rotated.name} to ${after.name}` : `changed rotated secret ${after.name}`;
      const diff = { added: added ?? [], removed: removed ?? [], updated: [] };
      const toHint = await tellConfig(tx, call, config, { text, diff });
      if (!(await saveRotatedSecret(tx, after))) throw nameTaken(after.name);
      return { saved: changed, raised: toHint };
    });
    hintConfigs(call, raised);
    call.services.wakeEngine();
    return { RotatedSecret: await shown(after, saved, placeOf(config), call) };
  },
});

/** What the config shows of it, under each of these names. */
async function namesOf(secret: Secret, names: readonly string[], call: Call): Promise<string[][]> {
  const text = await currentValue(secret, call);
  return names.map((name) => [...rotatedFieldsOf(name, text).keys()]);
}

async function currentValue(secret: Secret, call: Call): Promise<string> {
  const version = currentInForce(secret);
  if (!version) throw changedMeanwhile();
  return openedValue(secret, version, call);
}

async function openedValue(secret: Secret, version: SecretVersion, { sql, services }: Call): Promise<string> {
  const value = await loadValue(sql, secret.id, version.id);
  if (!value) throw changedMeanwhile();
  return (await services.envelope.open(value, encryptionContext(secret.arn, version.id))).revealText();
}

const deleteInput = z.object({ ...oneOfConfig, RecoveryWindowInDays: z.int().min(7).max(30).optional() });

const removeRotatedSecret = defineOperation<z.infer<typeof deleteInput>, RotatedSecretResource>({
  name: "DeleteRotatedSecret",
  action: "rekey:DeleteRotatedSecret",
  noun: "rotated-secrets",
  verb: "delete",
  mode: "write",
  summary: "Ends a rotated secret: it is shown and rotated no more. Its values may be restored, as a secret, for 7 to 30 days.",
  input: deleteInput,
  resource: rotatedSecretResource,
  async run({ RecoveryWindowInDays: days = 30 }, found, call) {
    const { config, rotated, secret } = await existing(found, call);
    refuseUntrusted(call, config);
    const { startedAt: at } = call;
    const [removed = []] = await namesOf(secret, [rotated.name], call);
    const purgeAt = at + days * dayMs;
    const { raised } = await call.transaction(async (tx) => {
      const saved = await changeOwned(tx, secret, (before) => ({
        ...before,
        owningService: undefined, // whoever restores it has an ordinary secret
        deletedAt: at,
        purgeAt,
        rotationEnabled: false,
        nextRotationAt: undefined,
        rotationDueAt: undefined,
        rotationPolicy: undefined,
        heartbeatDueAt: undefined,
      }));
      await cancelRotation(tx, secret.id, at);
      if (!(await deleteRotatedSecret(tx, rotated.id))) throw changedMeanwhile();
      const { arn: resource, generation } = saved;
      await addEvent(tx, { at, type: "secret.deleted", resource, generation, detail: { purgeAt } });
      const text = `deleted rotated secret ${rotated.name}`;
      return { raised: await tellConfig(tx, call, config, { text, diff: { added: [], removed, updated: [] } }) };
    });
    hintConfigs(call, raised);
    return { Id: rotated.id, SecretArn: secret.arn, DeletionDate: new Date(purgeAt) };
  },
});

const rotateNow = defineOperation<z.infer<typeof one>, RotatedSecretResource>({
  name: "RotateNow",
  action: "rekey:RotateNow",
  noun: "rotated-secrets",
  verb: "rotate",
  mode: "write",
  summary: "Starts a rotation of a rotated secret now; one that did not finish goes on.",
  input: one,
  resource: rotatedSecretResource,
  async run(_request, found, call) {
    const { config, rotated, secret } = await existing(found, call);
    const saved = await call.transaction((tx) => {
      if (secret.rotationEnabled !== true) throw paused(rotated.name);
      return beginRotation(tx, secret, call);
    });
    call.services.wakeEngine();
    return { RotatedSecret: await shown(rotated, saved, placeOf(config), call) };
  },
});

const credential = z.record(z.string().max(128), z.unknown());
const resumeInput = z.object({ ...oneOfConfig, Credential: credential.optional() });

const resumeRotatedSecret = defineOperation<z.infer<typeof resumeInput>, RotatedSecretResource>({
  name: "ResumeRotatedSecret",
  action: "rekey:ResumeRotatedSecret",
  noun: "rotated-secrets",
  verb: "resume",
  mode: "write",
  summary: "Lets rotations go on that were paused since the credential was changed outside; Credential gives the one in force.",
  input: resumeInput,
  sensitive: ["Credential"],
  resource: rotatedSecretResource,
  async run({ Credential }, found, call) {
    const { config, rotated, secret } = await existing(found, call);
    refuseUntrusted(call, config);
    const { services, startedAt: at } = call;
    const integration = await loadIntegration(call.sql, rotated.integrationId);
    if (!integration) throw changedMeanwhile();
    const recipe = recipeOf(integration.type);
    const before = JSON.parse(await currentValue(secret, call)) as Record<string, unknown>;
    const value = Credential === undefined ? before : recipe.corrected(before, Credential);
    const advice =
      Credential === undefined
        ? "The credential does not log in: give Credential, the one in force"
        : "Credential was not accepted";
    const way = { recipe, network: await networkOfIntegrationOf(call.sql, secret.id) };
    await mustLogIn(call, way, value, advice);
    const idle = await idleOne(secret, { way, value }, call);
    const id = randomUUID();
    const plaintext = new Plaintext(JSON.stringify(value));
    const sealed = Credential === undefined ? undefined : await sealValue(call, secret, id, { kind: "string", plaintext });
    const { saved, raised } = await call.transaction(async (tx) => {
      const changed = await changeOwned(tx, secret, (now) => {
        if (now.generation !== secret.generation) throw changedMeanwhile();
        const versioned = sealed ? addVersion(now, { id, value: sealed, createdAt: at }).secret : now;
        const resumed = services.reschedule({ ...keepIdle(versioned, idle, at), rotationEnabled: true }, at);
        return planHeartbeat({ ...resumed, heartbeatDueAt: undefined }, at, Math.random());
      });
      if (sealed) await abandonRotation(tx, secret.id, at);
      const { arn: resource, generation } = changed;
      await addEvent(tx, { at, type: "rotation.resumed", resource, generation, detail: { principal: call.principal.arn } });
      const updated = sealed ? recipe.changes.map((ending) => `${rotated.name}_${ending}`) : [];
      const text = `resumed rotated secret ${rotated.name}`;
      return { saved: changed, raised: await tellConfig(tx, call, config, { text, diff: { added: [], removed: [], updated } }) };
    });
    hintConfigs(call, raised);
    services.wakeEngine();
    return { RotatedSecret: await shown(rotated, saved, placeOf(config), call) };
  },
});

/** The user whose turn it is, as AWSPREVIOUS has it. */
interface Idle {
  readonly versionId: string;
  readonly isRefused: boolean;
}

async function idleOne(
  secret: Secret,
  { way, value }: { readonly way: Way; readonly value: Record<string, unknown> },
  call: Call,
): Promise<Idle | undefined> {
  const version = versionWith(secret, "AWSPREVIOUS");
  if (way.recipe.strategy !== "alternating-users" || !version?.kind) return undefined;
  const previous = JSON.parse(await openedValue(secret, version, call)) as Record<string, unknown>;
  if (previous.username === value.username) return undefined;
  return { versionId: version.id, isRefused: (await loginOutcome(call, way, previous)) === "refused" };
}

/** One that is refused is no more what is in force: the next rotation may set another one over it. */
function keepIdle(secret: Secret, idle: Idle | undefined, at: number): Secret {
  const labelled = versionWith(secret, "AWSPREVIOUS")?.id;
  if (!idle) return secret;
  if (!idle.isRefused) return moveLabel(secret, { label: "AWSPREVIOUS", moveTo: idle.versionId, removeFrom: labelled }, at);
  return labelled === idle.versionId ? detach(secret, "AWSPREVIOUS") : secret;
}

const historyInput = z.object({
  ...oneOfConfig,
  MaxResults: z.int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
});

const history = defineOperation<z.infer<typeof historyInput>, RotatedSecretResource>({
  name: "ListRotatedSecretHistory",
  action: "rekey:GetRotatedSecret",
  noun: "rotated-secrets",
  verb: "history",
  mode: "read",
  summary: "Lists the rotations of a rotated secret, newest first, each with its end, its reason and what would help.",
  input: historyInput,
  resource: rotatedSecretResource,
  async run({ MaxResults, NextToken }, found, call) {
    const { secret, rotated } = await existing(found, call);
    const scope = `rotated ${rotated.id}`;
    const [startedAt, id] = NextToken === undefined ? [] : readPageToken(NextToken, scope);
    const after = NextToken === undefined ? undefined : { startedAt: Number(startedAt), id: String(id) };
    const rotations = await listRotations(call.sql, { secretArn: secret.arn, limit: MaxResults + 1, after });
    const last = rotations.length > MaxResults ? rotations[MaxResults - 1] : undefined;
    return {
      Rotations: rotations.slice(0, MaxResults).map(shownRotation),
      ...(last && { NextToken: writePageToken(scope, [last.startedAt, last.id]) }),
    };
  },
});

const nameTaken = (name: string): ServiceError =>
  new ServiceError("ResourceExistsException", `The config has a rotated or dynamic secret ${name} already.`);

const paused = (name: string): ServiceError =>
  new ServiceError("InvalidRequestException", `Rotations of ${name} are paused: see why, and resume them first.`);

/** Rotated secrets of configs. */
export const rotatedOperations: readonly Operation[] = [
  createRotatedSecret,
  getRotatedSecret,
  listRotatedSecrets,
  updateRotatedSecret,
  removeRotatedSecret,
  rotateNow,
  resumeRotatedSecret,
  history,
];
