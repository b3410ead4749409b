// Asks operations for things that are there and for things that are not, and compares the refusals.
import assert from "node:assert/strict";
import { native, nativeOk } from "./aws.ts";
import type { RekeyServer } from "./rekey-server.ts";

/** What callers call things, by kind. */
export type Names = Readonly<Record<string, string>>;

/** Valid input of each operation that names these things, by its path. */
export type MembersOf<N> = (the: N) => Readonly<Record<string, object>>;

/** A new user without any right; its token. */
export async function powerless(server: RekeyServer, userName: string): Promise<string> {
  await nativeOk(server, "users/create", { userName });
  const { token } = await nativeOk(server, "tokens/create", { userName, name: "t" });
  return String(token);
}

/** What an operation answers, with `<name>` for each of the names that it was given. */
export async function wordsOf(
  server: RekeyServer,
  { path, members, names, token }: { path: string; members: object; names: Names; token: string },
): Promise<{ status: number; code: unknown; text: string }> {
  const { status, json, text } = await native(server, path, members, token);
  const sent = JSON.stringify(members);
  const given = Object.values(names)
    .map((name) => name.replace("https://", "")) // as it stands in an ARN
    .filter((name) => sent.includes(name))
    .sort((one, other) => other.length - one.length);
  const words = given.reduce((said, name) => said.replaceAll(name, "<name>"), String(json?.detail ?? text));
  return { status, code: json?.code, text: words };
}

/** Every operation refuses the user, in the same words whichever of `named` it is asked for. */
export async function refusesAlike<N extends Names>(
  server: RekeyServer,
  { token, userName, membersOf, named }: { token: string; userName: string; membersOf: MembersOf<N>; named: readonly N[] },
): Promise<string[]> {
  const inputs = named.map((names) => ({ names, operations: membersOf(names) }));
  const paths = Object.keys(inputs[0]?.operations ?? {});
  for (const path of paths) {
    const said: string[] = [];
    for (const { names, operations } of inputs) {
      const { status, code, text } = await wordsOf(server, { path, members: operations[path] ?? {}, names, token });
      assert.deepEqual([status, code], [403, "AccessDeniedException"], `${path}: ${text}`);
      assert.match(text, new RegExp(`^User: \\S+user/${userName} is not authorized to perform: `));
      said.push(text);
    }
    assert.deepEqual([...new Set(said)], said.slice(0, 1), path);
  }
  return paths;
}

/** Paths of all operations of the native API, without `/rekey/v1/`. */
export async function nativePaths(server: RekeyServer): Promise<string[]> {
  const { paths } = (await (await fetch(`${server.endpoint}/rekey/v1/openapi.json`)).json()) as { paths: object };
  return Object.keys(paths).map((path) => path.replace("/rekey/v1/", ""));
}

/** Nouns whose operations `access-denied-configs.test.ts` asks. */
export const configNouns: ReadonlySet<string> = new Set([
  "activity",
  "cli-logins",
  "config-secrets",
  "configs",
  "dynamic-secrets",
  "environments",
  "integrations",
  "leases",
  "me",
  "oidc-identities",
  "project-members",
  "projects",
  "rotated-secrets",
  "service-account-tokens",
  "service-accounts",
  "service-tokens",
  "templates",
  "trusted-ips",
  "webhooks",
  "workplace",
]);
