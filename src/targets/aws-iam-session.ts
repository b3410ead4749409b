import { RotatorError } from "../core/error.ts";
import { AwsCalls, CallFailed, type Identity } from "./aws-calls.ts";
import type { IamAdmin, Place, SigningKeys } from "./aws-iam-secret.ts";
import type { Issued, RotatorTools } from "./target.ts";

const maxPages = 10;

/** A user's access keys, managed with these keys and no others. One try a call, each ended by the deadline. */
export class IamSession {
  readonly #calls: AwsCalls;

  constructor(keys: SigningKeys, place: Place, tools: Pick<RotatorTools, "deadlineAt">) {
    this.#calls = new AwsCalls(keys, place, tools);
  }

  /** @throws RotatorError */
  identity(): Promise<Identity> {
    return this.#calls.identity();
  }

  /** The role that an administrator's value names, for this user's keys only. @throws RotatorError */
  assume({ roleArn, externalId }: IamAdmin & { roleArn: string }, username: string, name: string): Promise<SigningKeys> {
    return this.#calls.assume({ roleArn, externalId, name, policy: keysOfUserOnly(username) });
  }

  /** Active and inactive ones: both count against IAM's limit. @throws RotatorError */
  async list(username: string): Promise<Issued[]> {
    const { ListAccessKeysCommand } = await import("@aws-sdk/client-iam");
    const found: Issued[] = [];
    let marker: string | undefined;
    for (let page = 0; page < maxPages; page++) {
      const input = { UserName: username, ...(marker !== undefined && { Marker: marker }) };
      const answer = await this.#calls.iam("iam:ListAccessKeys", (client, options) =>
        client.send(new ListAccessKeysCommand(input), options),
      );
      for (const { AccessKeyId: id, CreateDate: made } of answer.AccessKeyMetadata ?? []) {
        if (id) found.push({ id, createdAt: made?.getTime() });
      }
      if (!answer.IsTruncated) return found;
      marker = answer.Marker;
    }
    throw new RotatorError("invalid", "iam:ListAccessKeys: the list does not end");
  }

  /** @throws RotatorError `unknown` when AWS may have made one */
  async create(username: string): Promise<SigningKeys> {
    const { CreateAccessKeyCommand } = await import("@aws-sdk/client-iam");
    const answer = await this.#calls.iam(
      "iam:CreateAccessKey",
      (client, options) => client.send(new CreateAccessKeyCommand({ UserName: username }), options),
      true,
    );
    const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey } = answer.AccessKey ?? {};
    if (accessKeyId && secretAccessKey) return { accessKeyId, secretAccessKey };
    throw new RotatorError("unknown", "iam:CreateAccessKey: the answer has no key");
  }

  /** One that is gone counts as deleted. @throws RotatorError */
  async delete(username: string, accessKeyId: string): Promise<void> {
    const { DeleteAccessKeyCommand } = await import("@aws-sdk/client-iam");
    try {
      const input = { UserName: username, AccessKeyId: accessKeyId };
      await this.#calls.iam(
        "iam:DeleteAccessKey",
        (client, options) => client.send(new DeleteAccessKeyCommand(input), options),
        true,
      );
    } catch (error) {
      if (!(error instanceof CallFailed && error.code === "NoSuchEntityException")) throw error;
    }
  }
}

function keysOfUserOnly(username: string): string {
  const Action = ["iam:CreateAccessKey", "iam:DeleteAccessKey", "iam:ListAccessKeys"];
  const Resource = [`arn:*:iam::*:user/${username}`, `arn:*:iam::*:user/*/${username}`];
  return JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action, Resource }] });
}
