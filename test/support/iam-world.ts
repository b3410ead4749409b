// What the endpoint of IAM and STS on loopback keeps, and what its parts share.
import { randomInt } from "node:crypto";

export interface FakeKey {
  readonly id: string;
  readonly secret: string;
  readonly user: string;
  readonly createdAt: number;
  status: "Active" | "Inactive";
  /** Calls to STS, by region, that still do not know the key. */
  readonly unknownFor: Map<string, number>;
  unlistedFor: number;
}

export interface FakeUser {
  readonly name: string;
  path: string;
  /** Actions that it may do, e.g. `iam:CreateAccessKey`; on whom: itself, or everybody. */
  readonly actions: readonly string[];
  readonly on: "itself" | "everybody";
  /** Decides in place of `actions`. */
  readonly policy?: string | undefined;
  readonly createdAt: number;
  readonly inline: Map<string, string>;
  readonly attached: Set<string>;
  readonly groups: Set<string>;
  readonly tags: Map<string, string>;
  readonly boundary?: string | undefined;
  login: boolean;
  /** Calls to IAM that do not know the user yet. */
  unknownFor: number;
}

export interface FakeRole {
  readonly name: string;
  readonly externalId?: string | undefined;
  /** Absent: all that the session's policy allows. */
  readonly policy?: string | undefined;
  readonly maxSeconds: number;
}

export interface FakeSession {
  readonly secret: string;
  readonly token: string;
  readonly role: FakeRole;
  readonly name: string;
  readonly policy: string | undefined;
  readonly tags: ReadonlyMap<string, string>;
  readonly seconds: number;
}

export interface Call {
  readonly action: string;
  readonly accessKeyId: string;
  readonly region: string;
  readonly host: string;
}

/** What a request meets in place of an answer: `lost` does the work, then cuts the connection. */
export type Fault =
  | "lost"
  | "cut"
  | "throttle"
  | "error"
  | "hang"
  | "slow-body"
  | "endless-body"
  | "garbage"
  | "skewed"
  | "not-aws";

export interface IamEndpoint extends AsyncDisposable {
  readonly url: string;
  readonly account: string;
  readonly keys: Map<string, FakeKey>;
  readonly calls: Call[];
  /** Calls to STS in each region that a new key is refused for. */
  delay: number;
  /** Faults to come, the next first, by action. */
  readonly faults: Map<string, Fault[]>;
  /** Calls to ListAccessKeys that do not show a new key yet. */
  listDelay: number;
  /** Calls that do not know a new user yet. */
  userDelay: number;
  readonly users: Map<string, FakeUser>;
  readonly groups: Set<string>;
  readonly sessions: Map<string, FakeSession>;
  pageSize: number;
  addUser(name: string, rights?: Rights): FakeKey;
  addRole(name: string, externalId?: string, rights?: { policy?: string; maxSeconds?: number }): string;
  keysOf(user: string): FakeKey[];
}

interface Rights {
  readonly actions?: readonly string[];
  readonly on?: "itself" | "everybody";
  readonly path?: string;
  readonly policy?: string;
}

/** What the parts of IAM and STS share. */
export interface IamWorld {
  readonly account: string;
  readonly users: Map<string, FakeUser>;
  readonly groups: Set<string>;
  readonly keys: Map<string, FakeKey>;
  readonly roles: Map<string, FakeRole>;
  readonly sessions: Map<string, FakeSession>;
  settings(): IamEndpoint;
  /** @throws AwsError `AccessDenied` */
  authorize(caller: Caller, action: string, resource: string, context?: Readonly<Record<string, string>>): void;
  keysOf(user: string): FakeKey[];
}

export type Action = (caller: Caller, form: URLSearchParams) => string;

export interface Caller {
  readonly arn: string;
  readonly user: FakeUser | undefined;
  readonly session: FakeSession | undefined;
}

/** Without rights. */
export function newUser(name: string, path: string): FakeUser {
  const parts = { inline: new Map(), attached: new Set<string>(), groups: new Set<string>(), tags: new Map() };
  return { name, path, actions: [], on: "itself", createdAt: Date.now(), ...parts, login: false, unknownFor: 0 };
}

export function randomText(length: number, characters: string): string {
  return Array.from({ length }, () => characters[randomInt(characters.length)]).join("");
}
