// Users of the endpoint on loopback with what hangs on them. As in AWS, a user goes last.

import { AwsError } from "./aws-request.ts";
import { membersOf } from "./iam-sessions.ts";
import { type Action, type Caller, type FakeUser, type IamWorld, newUser } from "./iam-world.ts";

export function userActions({ account, users, groups, keys, settings, authorize, keysOf }: IamWorld): Record<string, Action> {
  const arnOf = ({ name, path }: FakeUser): string => `arn:aws:iam::${account}:user${path}${name}`;
  const groupArn = (name: string): string => `arn:aws:iam::${account}:group/${name}`;

  const shown = (user: FakeUser): string =>
    `<Path>${user.path}</Path><UserName>${user.name}</UserName><UserId>AIDAEXAMPLE</UserId><Arn>${arnOf(user)}</Arn><CreateDate>${new Date(user.createdAt).toISOString()}</CreateDate>`;

  /** IAM asks policies first, and knows no path of a user that is not there. */
  const target = (caller: Caller, form: URLSearchParams, action: string): FakeUser => {
    const name = form.get("UserName") ?? "";
    const user = users.get(name);
    const seen = user && user.unknownFor-- <= 0 ? user : undefined;
    const boundary = seen?.boundary === undefined ? {} : { "iam:PermissionsBoundary": seen.boundary };
    authorize(caller, action, seen ? arnOf(seen) : `arn:aws:iam::${account}:user/${name}`, boundary);
    if (!seen) throw new AwsError(404, "NoSuchEntity", `The user with name ${name} cannot be found.`);
    return seen;
  };

  const members = (items: Iterable<string>): string => [...items].map((item) => `<member>${item}</member>`).join("");
  const whole = (name: string, items: Iterable<string>): string =>
    `<${name}>${members(items)}</${name}><IsTruncated>false</IsTruncated>`;

  const mustHave = (holds: boolean, what: string): void => {
    if (!holds) throw new AwsError(404, "NoSuchEntity", `The ${what} cannot be found.`);
  };

  return {
    CreateUser(caller, form) {
      const name = form.get("UserName") ?? "";
      const path = form.get("Path") ?? "/";
      const boundary = form.get("PermissionsBoundary") ?? undefined;
      const arn = `arn:aws:iam::${account}:user${path}${name}`;
      authorize(caller, "iam:CreateUser", arn, boundary === undefined ? {} : { "iam:PermissionsBoundary": boundary });
      const tags = membersOf(form, "Tags");
      if (tags.size > 0) authorize(caller, "iam:TagUser", arn);
      const taken = [...users.keys()].some((one) => one.toLowerCase() === name.toLowerCase());
      if (taken) throw new AwsError(409, "EntityAlreadyExists", `User with name ${name} already exists.`);
      const user = { ...newUser(name, path), tags, boundary, unknownFor: settings().userDelay };
      users.set(name, user);
      return `<User>${shown(user)}</User>`;
    },
    GetUser: (caller, form) => `<User>${shown(target(caller, form, "iam:GetUser"))}</User>`,
    ListUsers(caller, form) {
      const prefix = form.get("PathPrefix") ?? "/";
      authorize(caller, "iam:ListUsers", `arn:aws:iam::${account}:user${prefix}`);
      const from = Number(form.get("Marker") ?? 0);
      const all = [...users.values()].filter(({ path, unknownFor }) => path.startsWith(prefix) && unknownFor <= 0);
      const size = Math.min(Number(form.get("MaxItems") ?? 100), settings().pageSize);
      const more = all.length > from + size;
      const marker = more ? `<Marker>${from + size}</Marker>` : "";
      return `<Users>${members(all.slice(from, from + size).map(shown))}</Users><IsTruncated>${more}</IsTruncated>${marker}`;
    },
    PutUserPolicy(caller, form) {
      const user = target(caller, form, "iam:PutUserPolicy");
      user.inline.set(form.get("PolicyName") ?? "", form.get("PolicyDocument") ?? "");
      return "";
    },
    ListUserPolicies: (caller, form) => whole("PolicyNames", target(caller, form, "iam:ListUserPolicies").inline.keys()),
    DeleteUserPolicy(caller, form) {
      const user = target(caller, form, "iam:DeleteUserPolicy");
      mustHave(user.inline.delete(form.get("PolicyName") ?? ""), "user policy");
      return "";
    },
    ListAttachedUserPolicies(caller, form) {
      const user = target(caller, form, "iam:ListAttachedUserPolicies");
      return whole(
        "AttachedPolicies",
        [...user.attached].map((arn) => `<PolicyName>p</PolicyName><PolicyArn>${arn}</PolicyArn>`),
      );
    },
    DetachUserPolicy(caller, form) {
      const user = target(caller, form, "iam:DetachUserPolicy");
      mustHave(user.attached.delete(form.get("PolicyArn") ?? ""), "policy");
      return "";
    },
    AddUserToGroup(caller, form) {
      const group = form.get("GroupName") ?? "";
      authorize(caller, "iam:AddUserToGroup", groupArn(group));
      mustHave(groups.has(group), `group with name ${group}`);
      const user = users.get(form.get("UserName") ?? "");
      mustHave(user !== undefined, "user");
      user?.groups.add(group);
      return "";
    },
    RemoveUserFromGroup(caller, form) {
      const group = form.get("GroupName") ?? "";
      authorize(caller, "iam:RemoveUserFromGroup", groupArn(group));
      mustHave(users.get(form.get("UserName") ?? "")?.groups.delete(group) ?? false, "user in the group");
      return "";
    },
    ListGroupsForUser(caller, form) {
      const user = target(caller, form, "iam:ListGroupsForUser");
      const group = (name: string): string =>
        `<Path>/</Path><GroupName>${name}</GroupName><GroupId>AGPAEXAMPLE</GroupId><Arn>${groupArn(name)}</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>`;
      return whole("Groups", [...user.groups].map(group));
    },
    DeleteLoginProfile(caller, form) {
      const user = target(caller, form, "iam:DeleteLoginProfile");
      mustHave(user.login, "Login Profile");
      user.login = false;
      return "";
    },
    DeleteUser(caller, form) {
      const user = target(caller, form, "iam:DeleteUser");
      const hangsOn = keysOf(user.name).length + user.inline.size + user.attached.size + user.groups.size;
      if (hangsOn > 0 || user.login) {
        throw new AwsError(409, "DeleteConflict", "Cannot delete entity, must delete or detach what hangs on it first.");
      }
      users.delete(user.name);
      for (const { id, user: owner } of keys.values()) if (owner === user.name) keys.delete(id);
      return "";
    },
    SimulatePrincipalPolicy(caller, form) {
      const source = form.get("PolicySourceArn") ?? "";
      authorize(caller, "iam:SimulatePrincipalPolicy", source);
      const resource = form.get("ResourceArns.member.1") ?? "";
      const names = [...form].flatMap(([key, value]) => (key.startsWith("ActionNames.member.") ? [value] : []));
      const results = names.map((name) => {
        const decision = allows(caller, name, resource) ? "allowed" : "implicitDeny";
        return `<EvalActionName>${name}</EvalActionName><EvalResourceName>${resource}</EvalResourceName><EvalDecision>${decision}</EvalDecision>`;
      });
      return whole("EvaluationResults", results);
    },
  };

  function allows(caller: Caller, action: string, resource: string): boolean {
    try {
      authorize(caller, action, resource);
      return true;
    } catch (error) {
      if (error instanceof AwsError) return false;
      throw error;
    }
  }
}
