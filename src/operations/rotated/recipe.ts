import { ServiceError } from "../../core/error.ts";
import { kindThroughLambda } from "../../core/lambda-integration.ts";
import type { Strategy } from "../../targets/target.ts";

type Members = Readonly<Record<string, unknown>>;

/** What a kind of integration makes of what it is given. */
export interface Recipe {
  /** Kind of the rotator. */
  readonly kind: string;
  readonly strategy: Strategy;
  /** Name of the built-in function that rotates it. */
  readonly functionName: string;
  /** Endings of the names that a rotation changes. */
  readonly changes: readonly string[];
  /**
   * The values of the credentials, the first to be shown first; `managerArn` names the managing user.
   * @throws ServiceError ValidationException
   */
  values(given: Given): Record<string, unknown>[];
  /** The value with what is in force at the target by now. @throws ServiceError ValidationException */
  corrected(value: Members, credential: Members): Record<string, unknown>;
}

interface Given {
  /** How the managing user gets there, as the kind reads it; where there is none, how the users do. */
  readonly connection: Members;
  readonly parameters: Members;
  readonly credentials: readonly Members[];
  /** Absent: each user changes itself. */
  readonly managerArn: string | undefined;
}

/** The user stays who he is. */
function withPassword(value: Members, credential: Members): Record<string, unknown> {
  const { username = value.username, ...rest } = lowered(credential);
  const [login = {}] = take([{ ...rest, username }], 1, ["username", "password"]);
  if (login.username !== value.username) throw refused(`Credential must be of ${value.username}, who is shown now.`);
  return { ...value, ...login };
}

/** Two users of a name each; or, where a kind goes by their names, one with that of the other and `_clone`. */
const pairs = (kind: string, functionName: string, isNamed = true): Recipe => ({
  kind,
  strategy: "alternating-users",
  functionName,
  changes: ["USERNAME", "PASSWORD"],
  values(given) {
    const logins = take(given.credentials, 2, ["username", "password"]);
    const usernames = logins.map(({ username }) => username);
    if (usernames[0] === usernames[1]) throw refused("Credentials must be of two users who take turns: they name the same.");
    if (usernames.some((name) => name === given.connection.username))
      throw refused("Credentials may not name the integration's own user: that one manages, and is used for nothing else.");
    if (!isNamed && !usernames.some((name) => usernames.includes(`${name}_clone`)))
      throw refused(
        "Credentials must be of two users of whom one has the other's name with _clone behind it, as app and app_clone.",
      );
    const pair = isNamed ? { usernames } : {};
    return logins.map((login) => defined({ ...placeOf(kind, given), ...login, ...pair, masterarn: given.managerArn }));
  },
  corrected: withPassword,
});

const redis: Recipe = {
  kind: "redis",
  strategy: "dual-slot",
  functionName: "RekeyRedisRotation",
  changes: ["PASSWORD"],
  values(given) {
    const [login] = take(given.credentials, 1, ["username", "password"]);
    return [{ ...placeOf("redis", given), ...login, masterarn: given.managerArn }];
  },
  corrected: withPassword,
};

const awsIam: Recipe = {
  kind: "aws-iam",
  strategy: "issuer",
  functionName: "RekeyIAMAccessKeyRotation",
  changes: ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY"],
  values({ connection, parameters, credentials, managerArn }) {
    if (connection.ambient === true)
      throw refused("The integration takes on a role with the machine's identity; keys of users are rotated with an access key.");
    const { username, ...others } = lowered(parameters);
    refuseOthers(others, "Parameters", "USERNAME");
    if (typeof username !== "string") throw refused("Parameters.USERNAME must name the IAM user.");
    const [key] = take(credentials, 1, ["accessKeyId", "secretAccessKey"]);
    const { account, region, endpoint, stsEndpoint } = connection;
    const place = defined({ account, region, endpoint, stsEndpoint });
    return [{ engine: "aws-iam", username, ...place, ...key, masterarn: managerArn }];
  },
  corrected: (value, credential) => ({ ...value, ...take([credential], 1, ["accessKeyId", "secretAccessKey"])[0] }),
};

const recipes: Readonly<Record<string, Recipe>> = {
  "aws-iam": awsIam,
  aws_mssql: pairs("sqlserver", "SecretsManagerRDSSQLServerRotationMultiUser"),
  ldap: pairs("ldap", "RekeyLDAPRotationMultiUser"),
  mongodb: pairs("mongodb", "SecretsManagerMongoDBRotationMultiUser", false),
  mysql: pairs("mysql", "SecretsManagerRDSMySQLRotationMultiUser"),
  postgres: pairs("postgres", "SecretsManagerRDSPostgreSQLRotationMultiUser"),
  redis,
};

/** @throws ServiceError ValidationException naming the kinds that there are */
export function recipeOf(type: string): Recipe {
  const kind = Object.hasOwn(recipes, type) ? type : (kindThroughLambda(type) ?? type);
  const found = Object.hasOwn(recipes, kind) ? recipes[kind] : undefined;
  if (found) return found;
  throw refused(`Integration must be of type ${Object.keys(recipes).sort().join(", ")}: credentials of ${type} are not rotated.`);
}

/** Of the built-in function that rotates it. */
export const functionArnOf = ({ functionName }: Recipe, { account, region }: { account: string; region: string }): string =>
  `arn:aws:lambda:${region}:${account}:function:${functionName}`;

/** What `Parameters` says again of where the integration leads may not differ; the database may be another one. */
function placeOf(engine: string, { connection, parameters }: Given): Record<string, unknown> {
  const { host, port, dbname, ssl, sslrootcert, starttls, nodes, persist } = connection;
  const { host: givenHost = host, port: givenPort = port, database, managingUser, sslCa, ...others } = lowered(parameters);
  if (managingUser !== undefined)
    throw refused("Parameters.MANAGING_USER is not taken: the integration's own user is the managing user.");
  refuseOthers(others, "Parameters", "HOST, PORT, DATABASE, SSL_CA");
  const isSame = String(givenHost).toLowerCase() === String(host).toLowerCase() && String(givenPort) === String(port);
  if (!isSame) throw refused(`Parameters.HOST and PORT must be the integration's, ${host}:${port}: its user acts there only.`);
  const tls = { ssl, sslrootcert: sslCa ?? sslrootcert, starttls };
  return defined({ engine, host, port, dbname: database ?? dbname, ...tls, nodes, persist });
}

function take(credentials: readonly Members[], count: number, names: readonly string[]): Record<string, string>[] {
  const shown = names.map((name) => name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()).join(" and ");
  if (credentials.length !== count) throw refused(`Credentials must be ${count}, each with ${shown}.`);
  return credentials.map((credential, index) => {
    const given = lowered(credential);
    const one = Object.fromEntries(names.map((name) => [name, given[name]]));
    if (Object.values(one).some((value) => typeof value !== "string" || value === ""))
      throw refused(`Credentials[${index}] must have ${shown}.`);
    const { [names[0] ?? ""]: _a, [names[1] ?? ""]: _b, ...others } = given;
    refuseOthers(others, `Credentials[${index}]`, shown);
    return one as Record<string, string>;
  });
}

/** `ACCESS_KEY_ID`, `accessKeyId` and `access_key_id` are one name. */
export function lowered(members: Members): Record<string, unknown> {
  const camel = (name: string): string =>
    /[a-z]/.test(name) && !name.includes("_")
      ? name
      : name.toLowerCase().replace(/_+([a-z0-9])/g, (_all, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [camel(name), value]));
}

export function refuseOthers(others: Members, where: string, known: string): void {
  const [name] = Object.keys(others);
  if (name !== undefined) throw refused(`${where} has ${name.slice(0, 64)}, which is none of ${known}.`);
}

export const defined = (members: Members): Record<string, unknown> =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

const refused = (message: string): ServiceError => new ServiceError("ValidationException", message);
