// Roles of the endpoint on loopback, and the sessions that STS gives of them.
import { randomBytes } from "node:crypto";
import { AwsError } from "./aws-request.ts";
import { type Action, type IamWorld, randomText } from "./iam-world.ts";

export function sessionActions({ account, roles, sessions }: IamWorld): Record<string, Action> {
  return {
    AssumeRole(caller, form) {
      const role = roles.get(form.get("RoleArn") ?? "");
      if (!role || (role.externalId !== undefined && role.externalId !== form.get("ExternalId"))) {
        throw new AwsError(403, "AccessDenied", "not authorized to perform: sts:AssumeRole");
      }
      const seconds = Number(form.get("DurationSeconds") ?? 3_600);
      const most = caller.session ? Math.min(role.maxSeconds, 3_600) : role.maxSeconds;
      if (seconds < 900 || seconds > most) {
        throw new AwsError(
          400,
          "ValidationError",
          "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        );
      }
      const id = `ASIA${randomText(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")}`;
      const name = form.get("RoleSessionName") ?? "";
      const secret = randomBytes(30).toString("base64");
      const token = `token-${randomBytes(30).toString("hex")}`;
      const tags = membersOf(form, "Tags");
      sessions.set(id, { secret, token, role, name, policy: form.get("Policy") ?? undefined, tags, seconds });
      const expiration = new Date(Date.now() + seconds * 1000).toISOString();
      const user = `<AssumedRoleUser><Arn>arn:aws:sts::${account}:assumed-role/${role.name}/${name}</Arn><AssumedRoleId>AROAEXAMPLE:${name}</AssumedRoleId></AssumedRoleUser>`;
      return `<Credentials><AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${secret}</SecretAccessKey><SessionToken>${token}</SessionToken><Expiration>${expiration}</Expiration></Credentials>${user}`;
    },
  };
}

/** `Tags.member.1.Key=…&Tags.member.1.Value=…` */
export function membersOf(form: URLSearchParams, name: string): Map<string, string> {
  const found = new Map<string, string>();
  for (let index = 1; form.has(`${name}.member.${index}.Key`); index++) {
    found.set(form.get(`${name}.member.${index}.Key`) ?? "", form.get(`${name}.member.${index}.Value`) ?? "");
  }
  return found;
}
