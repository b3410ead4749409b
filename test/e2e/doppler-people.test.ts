// Who there is, in which groups, and what they may: Doppler's paths for them, by its SDK and by raw requests.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { DopplerSDK } from "@dopplerhq/node-sdk";
import { nativeOk } from "../support/aws.ts";
import { assertShape, type CliRequest, cli, filled, orNull, type Pattern, shapes, text, time } from "../support/doppler.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

let server: RekeyServer;
let sdk: DopplerSDK;
const project = "shop";
const ids: Record<string, string> = {};
const tokens: Record<string, string> = {};

function client(token: string): DopplerSDK {
  const made = new DopplerSDK({ accessToken: token });
  made.setBaseUrl(server.endpoint);
  return made;
}

const ok = (path: string, members: object) => nativeOk(server, path, members);
const ask = (endpoint: string, more: CliRequest = {}) => cli(server, endpoint, { token: server.credentials.token, ...more });

before(async () => {
  server = await startRekey();
  sdk = client(server.credentials.token);
  await ok("projects/create", { name: project });
  for (const userName of ["ann@example.com", "bob"]) {
    const { userId } = await ok("users/create", { userName });
    ids[userName] = String(userId);
    tokens[userName] = String((await ok("tokens/create", { userName, name: "t" })).token);
  }
  const { serviceAccount } = await ok("service-accounts/create", { name: "robot" });
  ids.robot = (serviceAccount as { id: string }).id;
  tokens.robot = String((await ok("service-account-tokens/create", { serviceAccount: "robot", name: "t" })).apiKey);
  for (const config of ["dev", "prd"]) await ok("config-secrets/set", { project, config, secrets: { KEY: config } });
});
after(() => server?.[Symbol.asyncDispose]());

const idOf = (name: string): string => ids[name] ?? "";
const ann = "ann@example.com";

const status = (expected: number, words: RegExp) => (error: unknown) => {
  const { statusCode, detail } = error as { statusCode: number; detail: unknown };
  assert.equal(statusCode, expected, JSON.stringify(error));
  assertShape(detail, shapes.failure);
  assert.match((detail as { messages: string[] }).messages.join("\n"), words);
  return true;
};

/** What a download of a config is answered with. */
async function reads(name: string, config: string): Promise<number> {
  const at = `project=${project}&config=${config}`;
  return (await cli(server, `GET /v3/configs/config/secrets/download?${at}&format=json`, { token: tokens[name] ?? "" })).status;
}

const role: Record<string, Pattern> = {
  identifier: filled,
  name: filled,
  permissions: [filled],
  created_at: orNull(time),
  is_custom_role: false,
};
const member = {
  type: filled,
  slug: filled,
  role: { identifier: filled },
  access_all_environments: (value: unknown) => typeof value === "boolean",
  environments: [filled],
};
const { type: _type, ...otherMembers } = member;
const sdkMember = { ...otherMembers, type_: filled };

describe("people", () => {
  test("users are listed, found by their address, and given roles", async () => {
    const user = {
      id: filled,
      access: filled,
      created_at: time,
      user: { email: orNull(filled), name: filled, username: filled, profile_image_url: orNull(text) },
    };
    const listed = await sdk.users.list();
    assertShape(listed, { workplace_users: [user], page: 1, success: true });
    assert.deepEqual(
      listed.workplace_users?.map(({ user: about }) => about?.username),
      [ann, "bob"],
      "service accounts are none",
    );
    const found = await sdk.users.list({ email: ann });
    assert.deepEqual([found.workplace_users?.length, found.workplace_users?.[0]?.id], [1, idOf(ann)]);
    assert.deepEqual((await sdk.users.list({ email: "nobody@example.com" })).workplace_users, []);
    const got = await sdk.users.get(idOf(ann));
    assertShape(got, { workplace_user: user, success: true });
    assert.deepEqual([got.workplace_user?.access, got.workplace_user?.user?.email], ["no_access", ann]);
    assert.deepEqual(await sdk.audit.getUser(idOf(ann), { settings: true }), got);
    assert.equal((await sdk.users.get("bob")).workplace_user?.user?.email, null);
    for (const slug of ["none", "AIDAAAAAAAAAAAAAAAAAA", idOf("robot")])
      await assert.rejects(sdk.users.get(slug), status(404, /user/));

    const path = `PATCH /v3/workplace/users/${idOf("bob")}`;
    assert.equal((await ask(path, { body: { access: "admin" } })).json.workplace_user.access, "admin");
    assert.equal(await reads("bob", "prd"), 200, "an administrator may everything that is Rekey's own");
    assert.equal((await ask(path, { token: tokens[ann] ?? "", body: { access: "admin" } })).status, 403);
    const wrong = await ask(path, { body: { access: "owner" } });
    assert.deepEqual([wrong.status, /'access'.*admin/.test(wrong.text)], [400, true], wrong.text);
    assert.equal((await ask(path, { body: { access: "no_access" } })).status, 200);
    assert.equal(await reads("bob", "prd"), 403);
    assert.equal((await ask("PATCH /v3/workplace/users/none", { body: { access: "admin" } })).status, 404);
  });

  test("roles are those that there are, and nobody makes one", async () => {
    const inWorkplace = { ...role, is_inline_role: false };
    const workplace = await sdk.workplaceRoles.list();
    assertShape(workplace, { roles: [inWorkplace], success: true });
    assert.deepEqual(
      workplace.roles?.map(({ identifier }) => identifier),
      ["admin", "collaborator", "viewer", "no_access"],
    );
    assertShape(await sdk.workplaceRoles.get("viewer"), { role: inWorkplace, success: true });
    assertShape(await sdk.projectRoles.list(), { roles: [role], success: true });
    const viewer = await sdk.projectRoles.get("viewer");
    assertShape(viewer, { role, success: true });
    assert.deepEqual(viewer.role?.permissions, ["rekey:Get*", "rekey:List*"]);
    for (const { permissions } of [await sdk.projectRoles.listPermissions(), await sdk.workplaceRoles.listPermissions()])
      assert.ok(permissions?.includes("rekey:*"));
    await assert.rejects(sdk.projectRoles.get("owner"), status(404, /owner.*viewer/));
    const own = { name: "own", permissions: ["rekey:*"] };
    for (const roles of [sdk.projectRoles, sdk.workplaceRoles]) {
      await assert.rejects(roles.create(own), status(404, /rekey policy create/));
      await assert.rejects(roles.update(own, "viewer"), status(404, /rekey policy create/));
      await assert.rejects(roles.delete("viewer"), status(404, /rekey policy create/));
    }
  });

  test("a member of a project does there what the role says, in all environments or in some", async () => {
    const slug = idOf("bob");
    const of = ["workplace_user", slug] as const;
    const made = await sdk.projectMembers.add({ type_: of[0], slug, role: "viewer" }, project);
    assertShape(made, { member: sdkMember, success: true });
    assert.deepEqual(made.member, {
      type_: "workplace_user",
      slug,
      role: { identifier: "viewer" },
      access_all_environments: true,
      environments: [],
    });
    assert.deepEqual([await reads("bob", "dev"), await reads("bob", "prd")], [200, 200]);
    assert.deepEqual(
      (await client(tokens.bob ?? "").projects.list()).projects?.map(({ id }) => id),
      [project],
    );
    assert.deepEqual(await sdk.projectMembers.get(project, ...of), made);
    assertShape(await sdk.projectMembers.list(project), { members: [sdkMember], page: 1, success: true });
    assert.deepEqual((await sdk.projectMembers.list(project, { page: 2, perPage: 1 })).members, []);
    await assert.rejects(sdk.projectMembers.add({ type_: of[0], slug, role: "admin" }, project), status(409, /bob/));
    const narrowed = await sdk.projectMembers.update({ environments: ["dev"] }, ...of, project);
    assert.deepEqual(narrowed.member, { ...made.member, access_all_environments: false, environments: ["dev"] });
    assert.deepEqual([await reads("bob", "dev"), await reads("bob", "prd")], [200, 403]);
    await assert.rejects(sdk.projectMembers.update({ environments: ["qa"] }, ...of, project), status(404, /qa/));
    await assert.rejects(
      sdk.projectMembers.update({ role: "admin", environments: ["dev"] }, ...of, project),
      status(400, /admin/),
    );
    const none = await sdk.projectMembers.update({ environments: [] }, ...of, project);
    assert.deepEqual([none.member?.access_all_environments, none.member?.environments], [false, []]);
    assert.equal(await reads("bob", "dev"), 403);
    assert.equal(
      (await sdk.projectMembers.update({ role: "collaborator", environments: ["dev"] }, ...of, project)).member?.role?.identifier,
      "collaborator",
    );
    await sdk.projectMembers.delete(...of, project);
    assert.equal(await reads("bob", "dev"), 403);
    await assert.rejects(sdk.projectMembers.get(project, ...of), status(404, /bob has no role/));
    await assert.rejects(sdk.projectMembers.delete(...of, project), status(404, /bob has no role/));
    await assert.rejects(sdk.projectMembers.update({ role: "viewer" }, ...of, project), status(404, /bob has no role/));
  });

  test("who works in some environments makes branches there and follows them, and sees nothing of others", async () => {
    const at = (config: string) => ({ project, config });
    await sdk.environments.create({ name: "Load", slug: "dev_load" }, project);
    const member = { type_: "workplace_user" as const, slug: idOf("bob"), role: "collaborator", environments: ["dev"] };
    await sdk.projectMembers.add(member, project);
    const bob = client(tokens.bob ?? "");
    const refused = status(403, /not authorized/);
    await bob.secrets.update({ ...at("dev"), secrets: { MORE: "x" } });
    await bob.configs.create({ project, environment: "dev", name: "dev_bob" });
    assert.equal(await reads("bob", "dev_bob"), 200);
    assert.deepEqual(
      (await bob.environments.list(project)).environments?.map(({ id }) => id),
      ["dev"],
    );
    assert.deepEqual(
      (await bob.configs.list(project)).configs?.map(({ name }) => name),
      ["dev", "dev_bob"],
    );
    for (const config of ["prd", "dev_load"]) {
      assert.equal(await reads("bob", config), 403, config);
      await assert.rejects(bob.secrets.update({ ...at(config), secrets: { MORE: "x" } }), refused);
    }
    await assert.rejects(bob.configs.create({ project, environment: "prd", name: "prd_bob" }), refused);
    await assert.rejects(bob.environments.create({ name: "Bob", slug: "bob" }, project), refused);
    await assert.rejects(bob.webhooks.list({ project }), refused);
    await assert.rejects(bob.projectMembers.update({ environments: ["prd"] }, "workplace_user", idOf("bob"), project), refused);
    await sdk.environments.rename({ slug: "lab" }, project, "dev");
    assert.deepEqual([await reads("bob", "lab"), await reads("bob", "lab_bob")], [200, 200]);
    await sdk.environments.delete(project, "lab");
    await sdk.environments.create({ name: "Lab", slug: "lab" }, project);
    await sdk.environments.create({ name: "Development", slug: "dev" }, project);
    assert.deepEqual(
      [await reads("bob", "lab"), await reads("bob", "dev")],
      [403, 403],
      "a new one of the same name is another one",
    );
    const { member: left } = await sdk.projectMembers.get(project, "workplace_user", idOf("bob"));
    assert.deepEqual([left?.access_all_environments, left?.environments], [false, []]);
    await sdk.projectMembers.delete("workplace_user", idOf("bob"), project);
  });

  test("members are named by kind and id", async () => {
    const robot = { type_: "service_account" as const, slug: idOf("robot"), role: "viewer" };
    assert.equal((await sdk.projectMembers.add(robot, project)).member?.type_, "service_account");
    assert.equal(await reads("robot", "prd"), 200);
    await assert.rejects(sdk.projectMembers.get(project, "workplace_user", robot.slug), status(404, /user/));
    await assert.rejects(sdk.projectMembers.get(project, "group", robot.slug), status(404, /group/));
    await assert.rejects(sdk.projectMembers.get(project, "invite", "x"), status(400, /'type'/));
    await assert.rejects(sdk.projectMembers.get("none", "service_account", robot.slug), status(404, /project none/));
    await assert.rejects(
      sdk.projectMembers.add({ type_: "workplace_user", slug: "nobody", role: "viewer" }, project),
      status(404, /nobody/),
    );
    await assert.rejects(
      sdk.projectMembers.add({ type_: "workplace_user", slug: idOf("bob") }, project),
      status(400, /admin, collaborator/),
    );
    await sdk.projectMembers.delete("service_account", robot.slug, project);
    assert.equal(await reads("robot", "prd"), 403);
  });
});

describe("groups", () => {
  const shape = {
    name: filled,
    slug: filled,
    created_at: time,
    default_project_role: { identifier: orNull(filled) },
    workplace_role: { identifier: filled },
  };
  const whole = {
    ...shape,
    projects: [{ name: filled, slug: filled, role: { identifier: filled } }],
    members: [{ type_: filled, slug: filled }],
  };

  test("who is in a group has its role in a project, and what is attached to it, until taken out", async () => {
    const made = await sdk.groups.create({ name: "backend", default_project_role: "viewer" });
    assertShape(made, { group: whole, success: true });
    const slug = made.group?.slug ?? "";
    await assert.rejects(sdk.groups.create({ name: "Backend" }), status(409, /Backend/));
    assertShape(await sdk.groups.list(), { groups: [shape], page: 1, success: true });
    assert.deepEqual((await ask("GET /v3/workplace/groups?name=backend")).json.groups.length, 1);
    assert.deepEqual((await ask("GET /v3/workplace/groups?name=none")).json.groups, []);
    const inGroup = { type_: "workplace_user" as const, slug: idOf(ann) };
    await sdk.groups.addMember(inGroup, slug);
    await assert.rejects(sdk.groups.addMember(inGroup, slug), status(409, /ann/));
    await sdk.retrieve.member(slug, "workplace_user", idOf(ann));
    await assert.rejects(sdk.retrieve.member(slug, "workplace_user", idOf("bob")), status(404, /bob is not in/));
    assert.equal(await reads(ann, "prd"), 403);
    const asMember = (await sdk.projectMembers.add({ type_: "group", slug }, project)).member;
    assert.deepEqual([asMember?.type_, asMember?.slug, asMember?.role?.identifier], ["group", slug, "viewer"]);
    assert.equal(await reads(ann, "prd"), 200);
    assert.equal(await reads("bob", "prd"), 403);
    const { group } = await sdk.groups.get(slug);
    assert.deepEqual(
      [group?.members, group?.projects],
      [[{ type_: "workplace_user", slug: idOf(ann) }], [{ name: project, slug: project, role: { identifier: "viewer" } }]],
    );
    await sdk.groups.deleteMember(slug, "workplace_user", idOf(ann));
    assert.equal(await reads(ann, "prd"), 403);
    await assert.rejects(sdk.groups.deleteMember(slug, "workplace_user", idOf(ann)), status(404, /not in group/));

    const replace = (...slugs: string[]) =>
      ask(`PUT /v3/workplace/groups/group/${slug}/members`, {
        body: { members: slugs.map((one) => ({ type: "workplace_user", slug: one })) },
      });
    assert.equal((await replace(idOf(ann), idOf("bob"))).status, 204);
    const { json } = await ask(`GET /v3/workplace/groups/group/${slug}/members?page=1&per_page=100`);
    assert.deepEqual(
      json.members.map((one: { slug: string }) => one.slug),
      [idOf(ann), idOf("bob")],
    );
    assert.equal((await replace(idOf("bob"))).status, 204);
    assert.deepEqual([await reads(ann, "prd"), await reads("bob", "prd")], [403, 200]);
    assert.equal((await replace(idOf(ann), "nobody")).status, 404);
    assert.equal(await reads("bob", "prd"), 200, "all of it or nothing");

    assert.equal(
      (await sdk.groups.update({ default_project_role: "collaborator" }, slug)).group?.default_project_role?.identifier,
      "collaborator",
    );
    const unset = await ask(`PATCH /v3/workplace/groups/group/${slug}`, {
      body: { default_project_role: null, workplace_role: "viewer" },
    });
    assert.deepEqual(
      [unset.json.group.default_project_role.identifier, unset.json.group.workplace_role.identifier],
      [null, "viewer"],
    );
    assert.equal((await cli(server, "GET /v3/workplace", { token: tokens.bob ?? "" })).status, 200);
    await assert.rejects(sdk.groups.update({ name: "other" }, slug), status(400, /keeps its name/));
    await sdk.groups.delete(slug);
    assert.equal(await reads("bob", "prd"), 403);
    await assert.rejects(sdk.groups.get(slug), status(404, /group/));
    assert.deepEqual((await sdk.projectMembers.list(project)).members, []);
  });

  test("nobody changes any of it without the right, and nothing is changed then", async () => {
    const { group } = await sdk.groups.create({ name: "admins" });
    const slug = group?.slug ?? "";
    await ask(`PATCH /v3/workplace/groups/group/${slug}`, { body: { workplace_role: "admin" } });
    const [user, there] = [`/v3/workplace/users/${idOf(ann)}`, `/v3/workplace/groups/group/${slug}`];
    const members = `/v3/projects/project/members`;
    const self = { type: "workplace_user", slug: idOf(ann), role: "admin", project };
    const { token: serviceToken } = await ok("service-tokens/create", {
      project,
      config: "dev",
      name: "t",
      access: "read/write",
    });
    for (const token of [tokens[ann] ?? "", (serviceToken as { key: string }).key])
      for (const [endpoint, body] of [
        ["GET /v3/workplace/users", undefined],
        [`GET ${user}`, undefined],
        [`PATCH ${user}`, { access: "admin" }],
        ["GET /v3/workplace/groups", undefined],
        ["POST /v3/workplace/groups", { name: "mine" }],
        [`GET ${there}`, undefined],
        [`PATCH ${there}`, { default_project_role: "admin" }],
        [`DELETE ${there}`, undefined],
        [`GET ${there}/members`, undefined],
        [`POST ${there}/members`, self],
        [`PUT ${there}/members`, { members: [self] }],
        [`DELETE ${there}/members/workplace_user/${idOf(ann)}`, undefined],
        [`GET ${members}?project=${project}`, undefined],
        [`POST ${members}`, self],
        [`PATCH ${members}/member/workplace_user/${idOf(ann)}?project=${project}`, { role: "admin" }],
        [`DELETE ${members}/member/workplace_user/${idOf(ann)}?project=${project}`, undefined],
      ] as const) {
        const { status: got, json } = await cli(server, endpoint, { token, ...(body && { body }) });
        assert.equal(got, 403, endpoint);
        assertShape(json, shapes.failure);
        assert.match(json.messages[0], /not authorized/);
      }
    const after = await sdk.groups.get(slug);
    assert.deepEqual([after.group?.members, after.group?.default_project_role?.identifier], [[], null]);
    assert.equal((await sdk.users.get(idOf(ann))).workplace_user?.access, "no_access");
    assert.deepEqual(
      (await sdk.groups.list()).groups?.map(({ name }) => name),
      ["admins"],
    );
    assert.deepEqual((await sdk.projectMembers.list(project)).members, []);
    const PolicyDocument = JSON.stringify({
      Version: "2012-10-17",
      Statement: [{ Effect: "Allow", Action: "iam:*Group*", Resource: "*" }],
    });
    const { arn } = await ok("policies/create", { policyName: "groups", policyDocument: PolicyDocument });
    await ok("policies/attach", { policyArn: arn, userName: "bob" });
    const mighty = { name: "mighty", workplace_role: "admin" };
    assert.equal((await cli(server, "POST /v3/workplace/groups", { token: tokens.bob ?? "", body: mighty })).status, 403);
    assert.equal(
      (await cli(server, `PATCH ${there}`, { token: tokens.bob ?? "", body: { workplace_role: "admin" } })).status,
      403,
    );
    assert.equal(
      (await cli(server, "POST /v3/workplace/groups", { token: tokens.bob ?? "", body: { name: "weak" } })).status,
      200,
    );
  });
});

test("what there is not is told with what there is instead", async () => {
  for (const [endpoint, words] of [
    ["POST /v3/configs/config/syncs?project=shop&config=dev", /webhook.*rekey export/],
    ["GET /v3/workplace/change_requests", /policies/],
    ["POST /v3/workplace/change_request_policies", /policies/],
    ["GET /v3/integrations/integration/members?integration=x", /rekey:UseIntegration/],
    ["GET /v3/workplace/service_accounts/service_account/robot/identities", /create-identity/],
    ["GET /v3/no/such", /There is no GET \/v3\/no\/such\./],
  ] as const) {
    const { status: got, headers, json } = await ask(endpoint);
    assert.equal(got, 404, endpoint);
    assertShape(json, shapes.failure);
    assert.match(json.messages.join(), words);
    assert.match(String(headers["x-request-id"]), /^[0-9a-f-]{36}$/);
  }
  const unreadable = await ask("GET /v3/workplace/users/%zz");
  assertShape({ ...unreadable.json, status: unreadable.status }, { ...shapes.failure, status: 400 });
  assert.match(String(unreadable.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
  await assert.rejects(sdk.syncs.get(project, "dev", "x"), status(404, /rekey export/));
  await assert.rejects(sdk.invites.list(), status(404, /rekey user create/));
});
