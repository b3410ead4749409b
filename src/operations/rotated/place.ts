import { z } from "zod";
import { RotatorError, ServiceError } from "../../core/error.ts";
import { kindThroughLambda } from "../../core/lambda-integration.ts";
import { Plaintext } from "../../core/plaintext.ts";
import { integrationArn, managingUserArn } from "../../core/rekey-arn.ts";
import { type Integration, newestVersion } from "../../store/integrations.ts";
import { type ManagingUser, managingUserContext } from "../../store/managing-users.ts";
import { type Members, openIntegration, parseMembers, targetOf, toolsFor } from "../dynamic/connection.ts";
import { functionOf } from "../dynamic/lambda-integration.ts";
import type { Call } from "../operation.ts";
import { defined, lowered, refuseOthers } from "./recipe.ts";

/** Where a rotated secret's credentials are, and who manages them. */
interface PlaceOfCredentials {
  /** How the managing user gets there, or else the users; as the kind reads it. */
  readonly connection: Members;
  readonly network: string | undefined;
  /** What of the parameters is left. */
  readonly parameters: Members;
  /** Absent: each user changes itself. */
  readonly managerArn: string | undefined;
  /** The rotated secret's own managing user, to be kept with it. */
  readonly own?: ManagingUser | undefined;
}

interface Asked {
  readonly integration: Integration;
  readonly given: Members;
  /** Of the rotated secret. */
  readonly id: string;
}

/** The integration's, or what is given where the integration is nothing but a function. @throws ServiceError */
export async function placeOf(call: Call, asked: Asked): Promise<PlaceOfCredentials> {
  const { integration, given } = asked;
  const { services } = call;
  const kind = kindThroughLambda(integration.type);
  if (kind !== undefined) return placeThroughLambda(call, asked, kind);
  const target = await targetOf(services, integration.type);
  const { data, network } = await openIntegration(services, integration);
  const connection = parseMembers(target.connection, data, "Data") as Members;
  return { connection, network, parameters: given, managerArn: integrationArn(services, integration.id) };
}

async function placeThroughLambda(call: Call, { integration, given, id }: Asked, kind: string): Promise<PlaceOfCredentials> {
  const { services, sql } = call;
  const network = (await newestVersion(sql, integration))?.network;
  const { manager, ...place } = placeIn(given, kind !== "sqlserver");
  if (!manager) return { connection: place, network, parameters: {}, managerArn: undefined };
  const connection = await managerThatLogsIn(call, { integration, kind, network }, { ...place, ...manager });
  const managerArn = managingUserArn(services, id);
  return { connection, network, parameters: {}, managerArn, own: await sealed(call, id, connection) };
}

const text = z.string().min(1).max(10_000);
const login = z.strictObject({ username: text.max(255), password: text });

/** Blank is absent: that is how Terraform leaves something out. @throws ServiceError ValidationException */
function placeIn(given: Members, isManaged: boolean) {
  const filled = Object.fromEntries(Object.entries(lowered(given)).filter(([, value]) => value !== "" && value !== null));
  const { host, port, database, sslCa, ssl, managingUser, ...others } = filled;
  const names = `HOST, PORT, DATABASE, SSL_CA, SSL${isManaged ? ", MANAGING_USER" : ""}`;
  refuseOthers(others, "Parameters", names);
  if (host === undefined || port === undefined) throw invalid("Parameters must have HOST and PORT.");
  const place = defined({ host, port, dbname: database, ssl, sslrootcert: sslCa });
  if (!isManaged && managingUser === undefined) return { ...place, manager: undefined };
  if (!isManaged) throw invalid("Parameters.MANAGING_USER is not taken: each user of SQL Server changes its own password.");
  const members = typeof managingUser === "object" && managingUser !== null ? lowered({ ...managingUser }) : undefined;
  const { data: manager } = login.safeParse(members);
  if (!manager) throw invalid("Parameters.MANAGING_USER must have USERNAME and PASSWORD: the user who sets passwords of both.");
  return { ...place, manager };
}

interface Way {
  readonly integration: Integration;
  readonly kind: string;
  readonly network: string | undefined;
}

/**
 * Without an authority that is to be trusted, Doppler's agents are asked for verified TLS first, and for none where the database
 * has no certificate that they trust: that is what they do at Doppler. @throws ServiceError
 */
async function managerThatLogsIn(call: Call, { integration, kind, network }: Way, members: Members): Promise<Members> {
  const target = await targetOf(call.services, kind, network);
  const connection = parseMembers(target.connection, members, "Parameters") as Members;
  const isOpen = connection.ssl === undefined && connection.sslrootcert === undefined;
  const mayDoWithout = isOpen && (await functionOf(integration, call))?.lambda.protocol === "doppler";
  try {
    await target.verify(connection, toolsFor());
    return connection;
  } catch (error) {
    if (!(error instanceof RotatorError && error.outcome === "tls" && mayDoWithout)) throw notIn(error);
  }
  const plain = { ...connection, ssl: false };
  await target.verify(plain, toolsFor()).catch((error: unknown) => {
    throw notIn(error);
  });
  return plain;
}

function notIn(error: unknown): unknown {
  if (!(error instanceof RotatorError)) return error;
  const what = "Parameters.MANAGING_USER was not accepted, so nothing was made";
  return new ServiceError("InvalidRequestException", `${what}: ${error.message}`, { cause: error });
}

async function sealed({ services }: Call, id: string, connection: Members): Promise<ManagingUser> {
  const key = await services.keys.resolve(undefined, services.region);
  const plaintext = new Plaintext(JSON.stringify(connection));
  return { id, ...(await services.envelope.seal(plaintext, managingUserContext(id), key.id)) };
}

const invalid = (message: string): ServiceError => new ServiceError("ValidationException", message);
