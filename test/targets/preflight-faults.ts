// What makes rotations fail at real servers, and what would look as if it did.
import { randomUUID } from "node:crypto";
import type { Finding } from "../../src/targets/target.ts";
import type { World } from "../support/engine-world.ts";

interface Login {
  readonly [key: string]: unknown;
  readonly username: string;
}

/** A server that faults can be planted at. */
export interface Place {
  readonly sql: (text: string) => Promise<unknown>;
  readonly admin: Login;
  /** Makes a user that may log in with `first-password`. */
  newUser(name: string): Promise<Login>;
  readonly functionOf: { readonly single: string; readonly alternating: string };
}

export interface Fault {
  readonly name: string;
  readonly alternating?: boolean;
  /** Plants it; what it gives stands in the secret's value. */
  plant(place: Place, user: string, world: World): Promise<object | undefined>;
  /** Takes away what others would meet too. */
  undo?(place: Place, user: string): Promise<unknown>;
  /** Of the finding, and of the rotation where that has another word for it. */
  readonly step: Finding["step"];
  readonly problem: RegExp;
  /** Told as a warning, and the rotation succeeds. */
  readonly works?: boolean;
}

export const faultsOfPostgres: readonly Fault[] = [
  { name: "nothing", plant: async () => undefined, works: true, step: "setSecret", problem: /^$/ },
  {
    name: "nothing, alternating",
    alternating: true,
    plant: async () => undefined,
    works: true,
    step: "setSecret",
    problem: /^$/,
  },
  {
    name: "the password was changed by hand",
    plant: async ({ sql }, user) => void (await sql(`alter role ${user} password 'other'`)),
    step: "setSecret",
    problem: /does not log in: .*password is refused/,
  },
  {
    name: "the role may not log in",
    plant: async ({ sql }, user) => void (await sql(`alter role ${user} nologin`)),
    step: "setSecret",
    problem: /may not log in/,
  },
  {
    name: "the server is not there",
    plant: async () => ({ port: 1 }),
    step: "setSecret",
    problem: /cannot be reached/,
  },
  {
    name: "the database is not there",
    plant: async () => ({ dbname: "nowhere" }),
    step: "setSecret",
    problem: /does not log in/,
  },
  {
    name: "TLS is asked for where there is none",
    plant: async () => ({ ssl: true }),
    step: "setSecret",
    problem: /no verified TLS/,
  },
  {
    name: "the value lacks a key",
    plant: async () => ({ host: undefined }),
    step: "createSecret",
    problem: /does not suit postgres: host is missing/,
  },
  {
    name: "sessions are read only",
    plant: async ({ sql }, user) => void (await sql(`alter role ${user} set default_transaction_read_only to on`)),
    step: "setSecret",
    problem: /read only/,
  },
  {
    name: "the role expires soon",
    plant: async ({ sql }, user) => void (await sql(`alter role ${user} valid until '${inHours(48)}'`)),
    step: "testSecret",
    problem: /valid until/,
    works: true,
  },
  {
    name: "md5 is asked for",
    plant: async ({ sql }, user) => void (await sql(`alter role ${user} set password_encryption to md5`)),
    step: "testSecret",
    problem: /password_encryption is md5/,
    works: true,
  },
  {
    name: "there is no superuser for alternating users",
    alternating: true,
    plant: async () => ({ masterarn: undefined }),
    step: "setSecret",
    problem: /need masterarn/,
  },
  {
    name: "the superuser's secret may not be read",
    alternating: true,
    plant: async ({ admin }, _user, world) => {
      const { arn } = await world.newSecret(`master/${randomUUID()}`, admin);
      world.forbidden.add(arn);
      return { masterarn: arn };
    },
    step: "setSecret",
    problem: /may not read the superuser's secret/,
  },
  {
    name: "the superuser's password is wrong",
    alternating: true,
    plant: async ({ admin }, _user, world) => ({
      masterarn: (await world.newSecret(`master/${randomUUID()}`, { ...admin, password: "wrong" })).arn,
    }),
    step: "setSecret",
    problem: /superuser's credential does not log in/,
  },
  {
    name: "the superuser's secret is for another server",
    alternating: true,
    plant: async ({ admin }, _user, world) => ({
      masterarn: (await world.newSecret(`master/${randomUUID()}`, { ...admin, port: 1 })).arn,
    }),
    step: "setSecret",
    problem: /the superuser's secret is for/,
  },
  {
    name: "the superuser may not change roles",
    alternating: true,
    plant: async ({ sql, admin }, user, world) => {
      await sql(`create role weak_${user} login password 'weak-password'`);
      const weak = { ...admin, username: `weak_${user}`, password: "weak-password" };
      return { masterarn: (await world.newSecret(`master/${randomUUID()}`, weak)).arn };
    },
    step: "setSecret",
    problem: /may not change roles/,
  },
  {
    name: "the original is a superuser, whom the administrator may not clone",
    alternating: true,
    plant: async ({ sql, admin }, user, world) => {
      await sql(`create role weak_${user} login createrole password 'weak-password'; alter role ${user} superuser`);
      const weak = { ...admin, username: `weak_${user}`, password: "weak-password" };
      return { masterarn: (await world.newSecret(`master/${randomUUID()}`, weak)).arn };
    },
    step: "setSecret",
    problem: /a superuser/,
  },
  {
    name: "the administrator has no ADMIN option on the original",
    alternating: true,
    plant: async ({ sql, admin }, user, world) => {
      await sql(`create role weak_${user} login createrole password 'weak-password'`);
      const weak = { ...admin, username: `weak_${user}`, password: "weak-password" };
      return { masterarn: (await world.newSecret(`master/${randomUUID()}`, weak)).arn };
    },
    step: "setSecret",
    problem: /ADMIN option/,
  },
  {
    name: "the clone's name is taken by a role that is none of ours",
    alternating: true,
    plant: async ({ sql }, user) => void (await sql(`create role ${user}_clone login`)),
    step: "setSecret",
    problem: /is no clone of/,
  },
  {
    name: "the clone may not log in",
    alternating: true,
    plant: async ({ sql }, user) => void (await sql(`create role ${user}_clone in role ${user}`)),
    step: "setSecret",
    problem: /may not log in/,
  },
  {
    name: "the clone may have no connections",
    alternating: true,
    plant: async ({ sql }, user) => void (await sql(`create role ${user}_clone login connection limit 0 in role ${user}`)),
    step: "testSecret",
    problem: /connection limit 0/,
  },
  {
    name: "the name leaves no room for the clone's",
    alternating: true,
    plant: async ({ sql }, user) => {
      const long = user.padEnd(60, "x");
      await sql(`alter role ${user} rename to ${long}; alter role ${long} password 'first-password'`);
      return { username: long };
    },
    step: "createSecret",
    problem: /a name has 1 to 63 bytes/,
  },
];

export const faultsOfMariadb: readonly Fault[] = [
  { name: "nothing", plant: async () => undefined, works: true, step: "setSecret", problem: /^$/ },
  {
    name: "nothing, alternating",
    alternating: true,
    plant: async () => undefined,
    works: true,
    step: "setSecret",
    problem: /^$/,
  },
  {
    name: "the password was changed by hand",
    plant: async ({ sql }, user) => void (await sql(`alter user ${user} identified by 'other'`)),
    step: "setSecret",
    problem: /password is refused/,
  },
  {
    name: "the account is locked",
    plant: async ({ sql }, user) => void (await sql(`alter user ${user} account lock`)),
    step: "createSecret",
    problem: /account is locked/,
  },
  {
    name: "the password has expired",
    plant: async ({ sql }, user) => void (await sql(`alter user ${user} password expire`)),
    step: "createSecret",
    problem: /expired/,
  },
  {
    name: "the server is read only",
    plant: async ({ sql }) => void (await sql("set global read_only = 1")),
    undo: ({ sql }) => sql("set global read_only = 0"),
    step: "setSecret",
    problem: /read_only is on: user \S+ cannot/,
  },
  {
    name: "the server is read only, and the superuser may write all the same",
    alternating: true,
    plant: async ({ sql }) => void (await sql("set global read_only = 1")),
    undo: ({ sql }) => sql("set global read_only = 0"),
    step: "setSecret",
    problem: /can change a password all the same/,
    works: true,
  },
  {
    name: "passwords are checked, and hashes refused",
    plant: async ({ sql }) => void (await sql("install soname 'simple_password_check'")),
    undo: ({ sql }) => sql("uninstall soname 'simple_password_check'"),
    step: "setSecret",
    problem: /simple_password_check cannot look into/,
  },
  {
    name: "passwords are checked, and hashes taken",
    plant: async ({ sql }) => {
      await sql("install soname 'simple_password_check'");
      await sql("set global strict_password_validation = off");
      return undefined;
    },
    undo: async ({ sql }) => {
      await sql("uninstall soname 'simple_password_check'");
      await sql("set global strict_password_validation = on");
    },
    step: "setSecret",
    problem: /^$/,
    works: true,
  },
  {
    name: "the superuser may not change users",
    alternating: true,
    plant: async ({ sql, admin }, user, world) => {
      await sql(`create user weak_${user} identified by 'weak-password'`);
      await sql(`grant select on mysql.* to weak_${user}`);
      const weak = { ...admin, username: `weak_${user}`, password: "weak-password" };
      return { masterarn: (await world.newSecret(`master/${randomUUID()}`, weak)).arn };
    },
    step: "setSecret",
    problem: /may not change users/,
  },
  {
    name: "the clone's name is taken by a user who may do more",
    alternating: true,
    plant: async ({ sql }, user) => {
      await sql(`create user ${user}_clone identified by 'other'`);
      await sql(`grant select on mysql.* to ${user}_clone`);
      return undefined;
    },
    step: "setSecret",
    problem: /has a right that/,
  },
  {
    name: "the second of two named users is not marked as of the pair",
    alternating: true,
    plant: async ({ sql }, user) => {
      await sql(`create user other_${user} identified by 'other'`);
      return { usernames: [user, `other_${user}`] };
    },
    step: "setSecret",
    problem: /nothing says that it alternates with/,
  },
  {
    name: "the clone is locked",
    alternating: true,
    plant: async ({ sql }, user) => void (await sql(`create user ${user}_clone identified by 'other' account lock`)),
    step: "setSecret",
    problem: /is locked/,
  },
];

const inHours = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString();
