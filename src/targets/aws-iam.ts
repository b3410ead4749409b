import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { CallFailed, type Identity } from "./aws-calls.ts";
import {
  accountOf,
  type IamAdmin,
  type IamCredential,
  iamAdmin,
  iamCredential,
  mustShareEndpoints,
  placeOf,
} from "./aws-iam-secret.ts";
import { IamSession } from "./aws-iam-session.ts";
import { issuesOnly } from "./issuer.ts";
import type { Access, Finding, Issued, Rotator, RotatorTools } from "./target.ts";

type IamAccess = Access<IamCredential, IamAdmin>;

/** IAM keeps two keys a user. Source: IAM quotas. */
const most = 2;
/** Changes in IAM take seconds to be known everywhere; minutes have been seen. Source: IAM User Guide, eventual consistency. */
const settlesWithinMs = 5 * 60_000;

/** Access keys of AWS IAM users: a new key beside the old one, which is deleted later. */
export const awsIam: Rotator<IamCredential, IamAdmin> = {
  kind: "aws-iam",
  strategies: ["issuer"],
  credential: iamCredential,
  admin: iamAdmin,
  account: accountOf,
  ...issuesOnly("aws-iam"),

  issuer: {
    most,
    settlesWithinMs,
    id: ({ accessKeyId }) => accessKeyId,
    list: async (access, tools) => (await manager(access, tools)).list(access.current.username),
    issue,
    async delete(id, access, tools) {
      if (id === access.current.accessKeyId) throw new RotatorError("invalid", `${id} is the secret's current key: not deleted`);
      await (await manager(access, tools)).delete(access.current.username, id);
    },
  },

  async test(pending, tools) {
    await ownIdentity(pending, tools);
  },

  async probe(credential, tools): Promise<OutcomeClass> {
    try {
      await ownIdentity(credential, tools);
      return "ok";
    } catch (error) {
      if (error instanceof RotatorError) return error.outcome;
      throw error;
    }
  },

  /** The same key at the STS of another region: `sts.eu-west-1.amazonaws.com`. */
  at(credential, { host, port }) {
    const url = new URL(credential.stsEndpoint ?? credential.endpoint ?? "https://sts.amazonaws.com");
    const { region: _, ...rest } = credential;
    const named = /^sts\.([a-z0-9-]+)\.amazonaws\.com/.exec(host)?.[1] ?? credential.region;
    const stsEndpoint = `${url.protocol}//${host}${port === undefined ? "" : `:${port}`}`;
    return { ...rest, stsEndpoint, ...(named !== undefined && { region: named }) };
  },

  check,
};

async function issue(access: IamAccess, tools: RotatorTools): Promise<IamCredential> {
  const { current } = access;
  const session = await manager(access, tools);
  try {
    const { accessKeyId, secretAccessKey } = await session.create(current.username);
    return { ...current, accessKeyId, secretAccessKey };
  } catch (error) {
    if (!(error instanceof CallFailed && error.code === "LimitExceededException")) throw error;
    throw new RotatorError("invalid", full(current, await session.list(current.username)));
  }
}

/** Which key stands in the way is for people to know; none is ever deleted to make room. */
function full({ username, accessKeyId }: IamCredential, keys: readonly Issued[]): string {
  const name = ({ id, createdAt }: Issued): string => {
    const made = createdAt === undefined ? "" : `, made ${new Date(createdAt).toISOString().slice(0, 10)}`;
    return `${id} (${id === accessKeyId ? "the secret's" : "not the secret's"}${made})`;
  };
  const others = keys.filter(({ id }) => id !== accessKeyId).map(({ id }) => id);
  const listed = keys.map(name).join(" and ");
  return `IAM user ${username} has as many access keys as IAM allows: ${listed}. Delete ${others.join(" or ")} once nothing uses it, or wait for its retirement`;
}

/**
 * Whoever manages the user's keys: the superuser where there is one, else the user itself. A superuser acts only in the AWS
 * account that the secret's own key belongs to: else a secret that names another account's user would be given that user's key.
 * @throws RotatorError
 */
async function manager({ current, admin }: IamAccess, tools: RotatorTools): Promise<IamSession> {
  if (!admin) {
    await ownIdentity(current, tools);
    return new IamSession(current, placeOf(current), tools);
  }
  mustShareEndpoints(current, admin);
  const session = await adminSession(admin, current.username, tools);
  const own = await ownAccount(current, tools);
  const { account, arn } = await session.identity();
  if (account !== own) {
    throw new RotatorError("denied", `${arn} is of another AWS account than ${current.username}'s key, which is of ${own}`);
  }
  return session;
}

async function adminSession(admin: IamAdmin, username: string, tools: RotatorTools): Promise<IamSession> {
  const place = placeOf(admin);
  const session = new IamSession(admin, place, tools);
  const { roleArn } = admin;
  if (roleArn === undefined) return session;
  const keys = await session.assume({ ...admin, roleArn }, username, `rekey-${tools.rotationId}`.slice(0, 64));
  return new IamSession(keys, place, tools);
}

async function ownAccount(current: IamCredential, tools: RotatorTools): Promise<string> {
  if (current.account !== undefined) return current.account;
  try {
    return (await ownIdentity(current, tools)).account;
  } catch (error) {
    if (!(error instanceof RotatorError && error.outcome === "refused")) throw error;
    throw new RotatorError(
      "refused",
      `${error.message}; so it does not tell which AWS account the superuser may act in: add "account" to the secret's value`,
    );
  }
}

/** Logs in, and makes sure that the key is the user's whose name stands beside it. @throws RotatorError */
async function ownIdentity(credential: IamCredential, tools: RotatorTools): Promise<Identity> {
  const { username, account } = credential;
  const identity = await new IamSession(credential, placeOf(credential), tools).identity();
  if (identity.user?.toLowerCase() !== username.toLowerCase()) {
    throw new RotatorError("invalid", `access key ${credential.accessKeyId} is not of user ${username} but of ${identity.arn}`);
  }
  if (account !== undefined && identity.account !== account) {
    throw new RotatorError(
      "invalid",
      `access key ${credential.accessKeyId} is of AWS account ${identity.account}, not ${account}`,
    );
  }
  return identity;
}

async function check(access: IamAccess, _strategy: string, tools: RotatorTools): Promise<readonly Finding[]> {
  const { username } = access.current;
  const who = access.admin ? "the superuser" : username;
  try {
    const keys = await (await manager(access, tools)).list(username);
    if (keys.length < most) return [];
    const remedy = "Delete the other key once nothing uses it, or wait for its retirement.";
    return [{ step: "createSecret", problem: full(access.current, keys), remedy }];
  } catch (error) {
    if (!(error instanceof RotatorError && (error.outcome === "denied" || error.outcome === "invalid"))) throw error;
    const remedy = `Let ${who} do iam:CreateAccessKey, iam:ListAccessKeys and iam:DeleteAccessKey on user ${username}, or correct the value.`;
    return [{ step: "createSecret", problem: error.message, remedy }];
  }
}
