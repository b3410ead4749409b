import { setTimeout } from "node:timers/promises";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { keyId } from "./http-api-answer.ts";
import { commonValues, HttpApi } from "./http-api-client.ts";
import type { AskedApi } from "./http-api-declaration.ts";
import { at } from "./http-api-json.ts";
import { listKeys } from "./http-api-list.ts";
import { labelOf } from "./http-api-request.ts";
import { fieldsNamed, names } from "./http-api-rules.ts";
import { isScalar, render, type TemplateValues } from "./http-api-template.ts";
import { endsByItself, type HttpApiConnection, httpApiConnection, namedValues } from "./lease-http-api-declaration.ts";
import type { Created, FoundUser, LeasedUser, LeaseFinding, LeaseMark, LeaseTarget, LeaseTools } from "./lease-target.ts";

const settings = z.strictObject({
  /** What templates name as `{{setting.NAME}}`. */
  values: namedValues.default({}),
});
export type HttpApiSettings = z.infer<typeof settings>;

const maxFieldLength = 16_384;
/** So long a key may not be listed yet whose making was in doubt. */
const doubtMs = 2_000;

const nameOf = ({ installation, leaseId }: LeaseMark): string => `rekey-${installation}-${leaseId}`;

/** Credentials of the HTTP API that the integration declares. */
export const httpApiLease: LeaseTarget<HttpApiConnection, HttpApiSettings> = {
  kind: "http-api",
  connection: httpApiConnection,
  secretMembers: ["key"],
  settings,
  /** Which they are, the integration says. */
  fieldNames: () => [],
  revocable: true,
  renewable: true,
  target: ({ origin }) => `http-api://${new URL(origin).host}`,
  name: (_settings, mark) => nameOf(mark),

  async verify(connection, tools) {
    const json = await apiOf(connection).ask("verify", valuesOf(connection, tools), tools);
    const { identity: path } = connection.verify;
    const found = path === undefined ? undefined : at(json, path);
    return { identity: isScalar(found) ? String(found).slice(0, 256) : new URL(connection.origin).host };
  },

  check,
  create,

  async renew(connection, asked, user, tools) {
    if (connection.renew) {
      const id = names(connection.renew, "id") ? await idOf(connection, user, tools) : undefined;
      if (id === undefined && names(connection.renew, "id")) throw new RotatorError("invalid", `${user.name} is not at the API`);
      await apiOf(connection).ask("renew", { ...valuesOf(connection, tools), ...ofLease(asked, user), id }, tools);
    } else if (endsByItself(connection)) {
      throw new RotatorError("invalid", "the API ends the lease at the time it was told, and the integration declares no renew");
    }
  },

  async revoke(connection, asked, user, tools) {
    const byId = names(connection.delete, "id");
    const id = byId ? await idOf(connection, user, tools) : undefined;
    if (byId && id === undefined) return;
    await apiOf(connection).ask("delete", { ...valuesOf(connection, tools), ...ofLease(asked, user), id }, tools);
  },

  list: async (connection, installation, tools) => (connection.list ? listMarked(connection, installation, tools) : undefined),
};

function apiOf(connection: HttpApiConnection): HttpApi<AskedApi> {
  const { origin, allowAddresses, caFile, timeoutSeconds, auth, verify, create, delete: remove, renew, list } = connection;
  return new HttpApi({
    origin,
    allowAddresses,
    caFile,
    timeoutSeconds,
    auth: { current: auth },
    verify,
    create,
    delete: remove,
    renew,
    list,
  });
}

function valuesOf({ key }: HttpApiConnection, { generatePassword }: LeaseTools): TemplateValues {
  return { ...commonValues({ rotationId: "", generatePassword }), integration: key };
}

function ofLease(
  { values }: HttpApiSettings,
  { name, mark, expiresAt }: LeasedUser,
): Required<Pick<TemplateValues, "lease" | "setting">> {
  const { leaseId, installation, secretName } = mark;
  const ttlSeconds = Math.max(Math.round((expiresAt - Date.now()) / 1000), 1);
  const times = { ttlSeconds, expiresAt: new Date(expiresAt).toISOString(), expiresAtSeconds: Math.ceil(expiresAt / 1000) };
  return { setting: values, lease: { id: leaseId, name, installation, secretName, ...times } };
}

async function create(
  connection: HttpApiConnection,
  asked: HttpApiSettings,
  user: LeasedUser,
  tools: LeaseTools,
): Promise<Created> {
  const { create: declared } = connection;
  const { setting, lease } = ofLease(asked, user);
  const values = {
    ...valuesOf(connection, tools),
    setting,
    lease: { ...lease, password: tools.generatePassword({ length: 32 }) },
  };
  const label = labelOf("create", declared);
  const chosen = Object.entries(declared.fields).map(([field, text]) => [field, render(text, values)] as const);
  const json = await apiOf(connection).ask("create", values, tools);
  const handle = declared.id === undefined ? undefined : keyId(at(json, declared.id));
  if (declared.id !== undefined && handle === undefined) {
    throw new RotatorError("unknown", `${label}: the answer has no id at ${declared.id}`);
  }
  const given = Object.entries(declared.extract).map(([field, path]) => [field, at(json, path)] as const);
  const missing = given.find(([, value]) => !isScalar(value) || String(value).length > maxFieldLength);
  if (missing) {
    await forget(connection, asked, { ...user, handle }, tools);
    throw new RotatorError("invalid", `${label}: the answer has no ${missing[0]} at ${declared.extract[missing[0]]}`);
  }
  const fields = Object.fromEntries([...chosen, ...given.map(([field, value]) => [field, String(value)] as const)]);
  return { fields, ...(handle !== undefined && { handle }) };
}

/** What is of no use goes at once: nobody else knows its id. */
async function forget(connection: HttpApiConnection, asked: HttpApiSettings, user: LeasedUser, tools: LeaseTools): Promise<void> {
  try {
    await httpApiLease.revoke(connection, asked, user, tools);
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    throw new RotatorError(
      "unknown",
      `${user.handle ?? user.name} was made, is of no use, and was not deleted: ${error.message}`,
    );
  }
}

/** The API's own id; looked for by name where the answer that told it was lost. `undefined`: there is none. @throws RotatorError */
async function idOf(connection: HttpApiConnection, user: LeasedUser, tools: LeaseTools): Promise<string | undefined> {
  if (user.handle !== undefined) return user.handle;
  if (!connection.list) {
    throw new RotatorError(
      "unknown",
      `the answer that told the id of ${user.name} was lost, and the integration declares no list to find it: look for it at the API`,
    );
  }
  const look = async (): Promise<string | undefined> => {
    const found = await listMarked(connection, user.mark.installation, tools);
    return found.find(({ name }) => name === user.name)?.handle;
  };
  const first = await look();
  if (first !== undefined || Date.now() + doubtMs > tools.deadlineAt) return first;
  await setTimeout(doubtMs);
  return look();
}

async function listMarked(connection: HttpApiConnection, installation: string, tools: LeaseTools): Promise<FoundUser[]> {
  const { list } = connection;
  if (!list) return [];
  const begin = `rekey-${installation}-`;
  const values = { ...valuesOf(connection, tools), lease: { installation } };
  const marked = { ...list, mark: { ...list.mark, prefix: `${list.mark.prefix}${begin}` } };
  const found = await listKeys(apiOf(connection), marked, values, tools);
  return found.flatMap(({ id, createdAt, rotationId: rest }) =>
    rest === undefined ? [] : [{ name: `${begin}${rest}`, handle: id, ...(createdAt !== undefined && { createdAt }) }],
  );
}

async function check(connection: HttpApiConnection, asked: HttpApiSettings, tools: LeaseTools): Promise<LeaseFinding[]> {
  const { create: declared, delete: remove, renew, list } = connection;
  const findings: LeaseFinding[] = [];
  const requests = [declared, remove, ...(renew ? [renew] : [])];
  for (const field of fieldsNamed("setting", requests, Object.values(declared.fields))) {
    if (Object.hasOwn(asked.values, field)) continue;
    findings.push({ problem: `values has no ${field}, which the integration's requests name`, remedy: `Give values.${field}.` });
  }
  const look = async (work: () => Promise<unknown>, remedy: string): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof RotatorError && ["refused", "denied", "invalid"].includes(error.outcome))) throw error;
      findings.push({ problem: error.message, remedy });
    }
  };
  await look(() => httpApiLease.verify(connection, tools), "Correct the integration's key, or its verify.");
  if (list) await look(() => listMarked(connection, "check", tools), "Correct the integration's list, or let its key list.");
  if (!list && names(remove, "id")) {
    const problem = "the integration declares no list: what was made for a lease whose answer was lost is not found again";
    findings.push({ problem, remedy: "Declare list, with a mark.", warning: true });
  }
  if (!renew && endsByItself(connection)) {
    const problem = "the API ends leases by itself, and the integration declares no renew: no lease can be renewed";
    findings.push({ problem, remedy: "Declare renew.", warning: true });
  }
  return findings;
}
