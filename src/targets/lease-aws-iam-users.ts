import { setTimeout } from "node:timers/promises";
import type { IAMClient, Tag } from "@aws-sdk/client-iam";
import { RotatorError } from "../core/error.ts";
import { type AwsCalls, CallFailed } from "./aws-calls.ts";
import type { SigningKeys } from "./aws-iam-secret.ts";
import type { FoundUser, LeaseTools } from "./lease-target.ts";

type Options = { readonly abortSignal: AbortSignal };
type Send<T> = (client: IAMClient, options: Options) => Promise<T>;
interface Page {
  readonly IsTruncated?: boolean | undefined;
  readonly Marker?: string | undefined;
}

export interface NewUser {
  readonly name: string;
  readonly path: string;
  readonly tags: readonly Tag[];
  readonly permissionsBoundary?: string | undefined;
}

const maxPages = 200;
const pageSize = 1_000;
/** So long after a user was made IAM may still say that there is none, or that no policy allows what one does. */
const youngMs = 8_000;
/** So long a user may not be seen yet whose making was in doubt. */
const doubtMs = 4_000;
const firstWaitMs = 250;
const longestWaitMs = 2_000;
/** A call that is begun later than this before the deadline has no time to end. */
const spareMs = 500;

const wait = ["Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"];
const busy = ["ConcurrentModificationException", "EntityTemporarilyUnmodifiableException"];
const gone = "NoSuchEntityException";
const denied = ["AccessDenied", "AccessDeniedException"];

const isCode = (error: unknown, codes: readonly string[]): boolean =>
  error instanceof CallFailed && error.code !== undefined && codes.includes(error.code);

/** IAM users and all that hangs on them. Each step is asked again while IAM says to wait; what is gone already is done. */
export class IamUsers {
  readonly #calls: AwsCalls;
  readonly #deadlineAt: number;
  #young: { readonly until: number; readonly codes: readonly string[] } = { until: 0, codes: [] };

  constructor(calls: AwsCalls, { deadlineAt }: Pick<LeaseTools, "deadlineAt">) {
    this.#calls = calls;
    this.#deadlineAt = deadlineAt;
  }

  /** Its ARN. @throws RotatorError */
  async create({ name, path, tags, permissionsBoundary }: NewUser): Promise<string> {
    const { CreateUserCommand } = await import("@aws-sdk/client-iam");
    const boundary = permissionsBoundary === undefined ? {} : { PermissionsBoundary: permissionsBoundary };
    const command = new CreateUserCommand({ UserName: name, Path: path, Tags: [...tags], ...boundary });
    const { User: user } = await this.#change("iam:CreateUser", (client, options) => client.send(command, options));
    this.#young = { until: Date.now() + youngMs, codes: [gone, ...denied] };
    if (user?.Arn?.endsWith(`:user${path}${name}`)) return user.Arn;
    throw new RotatorError("unknown", "iam:CreateUser: the answer has no ARN of the user");
  }

  async putPolicy(name: string, policyName: string, document: string): Promise<void> {
    const { PutUserPolicyCommand } = await import("@aws-sdk/client-iam");
    const command = new PutUserPolicyCommand({ UserName: name, PolicyName: policyName, PolicyDocument: document });
    await this.#change("iam:PutUserPolicy", (client, options) => client.send(command, options));
  }

  async join(name: string, group: string): Promise<void> {
    const { AddUserToGroupCommand } = await import("@aws-sdk/client-iam");
    const command = new AddUserToGroupCommand({ UserName: name, GroupName: group });
    await this.#change(`iam:AddUserToGroup ${group}`, (client, options) => client.send(command, options));
  }

  /** @throws RotatorError `unknown` when IAM may have made one */
  async createKey(name: string): Promise<SigningKeys> {
    const { CreateAccessKeyCommand } = await import("@aws-sdk/client-iam");
    const command = new CreateAccessKeyCommand({ UserName: name });
    const answer = await this.#change("iam:CreateAccessKey", (client, options) => client.send(command, options));
    const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey } = answer.AccessKey ?? {};
    if (accessKeyId && secretAccessKey) return { accessKeyId, secretAccessKey };
    throw new RotatorError("unknown", "iam:CreateAccessKey: the answer has no key");
  }

  /**
   * The path it stands under; `undefined` when there is no such user. A policy for users under one path denies every
   * question about a user who is not there, since he has no path: the list of the path then tells. `doubted`: it may be
   * about to appear.
   */
  async pathOf(name: string, path: string, doubted: boolean): Promise<string | undefined> {
    const until = Math.min(Date.now() + (doubted ? doubtMs : 0), this.#deadlineAt - 2 * spareMs);
    for (;;) {
      const found = await this.#look(name, path);
      if (found !== undefined && doubted) this.#young = { until: Date.now() + youngMs, codes: denied };
      if (found !== undefined || Date.now() >= until) return found;
      await setTimeout(Math.min(1_000, Math.max(until - Date.now(), 0)));
    }
  }

  async #look(name: string, path: string): Promise<string | undefined> {
    const { GetUserCommand } = await import("@aws-sdk/client-iam");
    try {
      const command = new GetUserCommand({ UserName: name });
      const { User: user } = await this.#patiently(() =>
        this.#calls.iam("iam:GetUser", (client, options) => client.send(command, options)),
      );
      if (user?.Path === undefined) throw new RotatorError("invalid", "iam:GetUser: the answer names no user");
      return user.Path;
    } catch (error) {
      if (isCode(error, [gone])) return undefined;
      if (!isCode(error, denied)) throw error;
    }
    const listed = await this.list(path);
    return listed.some((user) => user.name.toLowerCase() === name.toLowerCase()) ? path : undefined;
  }

  /** All users under a path. @throws RotatorError */
  async list(path: string): Promise<FoundUser[]> {
    const { ListUsersCommand } = await import("@aws-sdk/client-iam");
    return this.#pages("iam:ListUsers", (marker) => {
      const command = new ListUsersCommand({ PathPrefix: path, MaxItems: pageSize, ...marker });
      return async (client, options) => {
        const answer = await client.send(command, options);
        const items = (answer.Users ?? []).flatMap(({ UserName: name, Arn: handle, CreateDate: made }) => {
          if (name === undefined) return [];
          return [{ name, ...(handle !== undefined && { handle }), ...(made && { createdAt: made.getTime() }) }];
        });
        return { ...answer, items };
      };
    });
  }

  /** Inactive first, all of them, so that none logs in while the others are being deleted. */
  async deleteKeys(name: string): Promise<void> {
    const { DeleteAccessKeyCommand, ListAccessKeysCommand, UpdateAccessKeyCommand } = await import("@aws-sdk/client-iam");
    const keys = await this.#pages("iam:ListAccessKeys", (marker) => {
      const command = new ListAccessKeysCommand({ UserName: name, ...marker });
      return async (client, options) => {
        const answer = await client.send(command, options);
        return { ...answer, items: answer.AccessKeyMetadata ?? [] };
      };
    });
    for (const { AccessKeyId: id, Status: status } of keys) {
      if (status === "Inactive") continue;
      const command = new UpdateAccessKeyCommand({ UserName: name, AccessKeyId: id, Status: "Inactive" });
      await this.#end("iam:UpdateAccessKey", (client, options) => client.send(command, options));
    }
    for (const { AccessKeyId: id } of keys) {
      const command = new DeleteAccessKeyCommand({ UserName: name, AccessKeyId: id });
      await this.#end("iam:DeleteAccessKey", (client, options) => client.send(command, options));
    }
  }

  async deleteLogin(name: string): Promise<void> {
    const { DeleteLoginProfileCommand } = await import("@aws-sdk/client-iam");
    const command = new DeleteLoginProfileCommand({ UserName: name });
    await this.#end("iam:DeleteLoginProfile", (client, options) => client.send(command, options));
  }

  async deletePolicies(name: string): Promise<void> {
    const { DeleteUserPolicyCommand, ListUserPoliciesCommand } = await import("@aws-sdk/client-iam");
    const inline = await this.#pages("iam:ListUserPolicies", (marker) => {
      const command = new ListUserPoliciesCommand({ UserName: name, ...marker });
      return async (client, options) => {
        const answer = await client.send(command, options);
        return { ...answer, items: answer.PolicyNames ?? [] };
      };
    });
    for (const policy of inline) {
      const command = new DeleteUserPolicyCommand({ UserName: name, PolicyName: policy });
      await this.#end("iam:DeleteUserPolicy", (client, options) => client.send(command, options));
    }
    await this.#detach(name);
  }

  async #detach(name: string): Promise<void> {
    const { DetachUserPolicyCommand, ListAttachedUserPoliciesCommand } = await import("@aws-sdk/client-iam");
    const attached = await this.#pages("iam:ListAttachedUserPolicies", (marker) => {
      const command = new ListAttachedUserPoliciesCommand({ UserName: name, ...marker });
      return async (client, options) => {
        const answer = await client.send(command, options);
        return { ...answer, items: answer.AttachedPolicies ?? [] };
      };
    });
    for (const { PolicyArn: arn } of attached) {
      const command = new DetachUserPolicyCommand({ UserName: name, PolicyArn: arn });
      await this.#end("iam:DetachUserPolicy", (client, options) => client.send(command, options));
    }
  }

  async leaveGroups(name: string): Promise<void> {
    const { ListGroupsForUserCommand, RemoveUserFromGroupCommand } = await import("@aws-sdk/client-iam");
    const groups = await this.#pages("iam:ListGroupsForUser", (marker) => {
      const command = new ListGroupsForUserCommand({ UserName: name, ...marker });
      return async (client, options) => {
        const answer = await client.send(command, options);
        return { ...answer, items: answer.Groups ?? [] };
      };
    });
    for (const { GroupName: group } of groups) {
      const command = new RemoveUserFromGroupCommand({ UserName: name, GroupName: group });
      await this.#end(`iam:RemoveUserFromGroup ${group}`, (client, options) => client.send(command, options));
    }
  }

  /** False while something hangs on it that has to go first. */
  async delete(name: string): Promise<boolean> {
    const { DeleteUserCommand } = await import("@aws-sdk/client-iam");
    try {
      const command = new DeleteUserCommand({ UserName: name });
      await this.#end("iam:DeleteUser", (client, options) => client.send(command, options));
      return true;
    } catch (error) {
      if (isCode(error, ["DeleteConflictException"])) return false;
      throw error;
    }
  }

  #change<T>(name: string, send: Send<T>): Promise<T> {
    return this.#patiently(() => this.#calls.iam(name, send, true));
  }

  async #end(name: string, send: Send<unknown>): Promise<void> {
    try {
      await this.#change(name, send);
    } catch (error) {
      if (!isCode(error, [gone])) throw error;
    }
  }

  async #pages<T>(name: string, ask: (marker: { Marker?: string }) => Send<Page & { items: readonly T[] }>): Promise<T[]> {
    const found: T[] = [];
    let marker: { Marker?: string } = {};
    for (let page = 0; page < maxPages; page++) {
      const send = ask(marker);
      const answer = await this.#patiently(() => this.#calls.iam(name, send));
      found.push(...answer.items);
      if (!answer.IsTruncated || answer.Marker === undefined) return found;
      marker = { Marker: answer.Marker };
    }
    throw new RotatorError("invalid", `${name}: the list does not end`);
  }

  /** A definite answer that nothing was done is asked again; nothing else is. */
  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    for (let waitMs = firstWaitMs; ; waitMs = Math.min(waitMs * 2, longestWaitMs)) {
      try {
        return await work();
      } catch (error) {
        const later = Date.now() + waitMs;
        const young = later < this.#young.until && isCode(error, this.#young.codes);
        if (!(young || isCode(error, [...wait, ...busy])) || later > this.#deadlineAt - spareMs) throw error;
      }
      await setTimeout(waitMs);
    }
  }
}
