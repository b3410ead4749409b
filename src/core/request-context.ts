import type { ConditionContext } from "./condition.ts";
import type { Principal } from "./principal.ts";

/** What policies may ask about a request beside its principal and resource. */
export interface RequestFacts {
  readonly sourceIp: string;
  readonly userAgent: string;
  readonly secure: boolean;
  readonly region: string;
  readonly now: number;
}

/** What is acted on, as far as authorization looks at it. */
export interface AuthorizedResource {
  /** The ARN, or the one that the name would have, or `*`. */
  readonly arn: string;
  /** How AccessDenied names it. Absent: not named. */
  readonly shown?: string;
  /** The resource policy's document. */
  readonly policy?: string | undefined;
  readonly isTrustPolicy?: boolean;
  /** Condition keys of the request and the resource, in any case. Read only when a policy asks for one. */
  readonly context: Readonly<Record<string, readonly string[]>>;
}

type Lookup = (principal: Principal, facts: RequestFacts, resource: AuthorizedResource) => readonly string[] | undefined;

const one = (value: string | undefined): readonly string[] | undefined =>
  value === undefined || value === "" ? undefined : [value];
const flag = (value: boolean): readonly string[] => [String(value)];

const principalTypes: Readonly<Record<Principal["kind"], string | undefined>> = {
  root: "Account",
  user: "User",
  role: "AssumedRole",
  federated: "FederatedUser",
  service: undefined,
  token: undefined,
  anonymous: "Anonymous",
};

/** Source: IAM User Guide, "AWS global condition context keys". Keys of networks, organizations and MFA devices have no value here. */
const globalKeys: Readonly<Record<string, Lookup>> = {
  "aws:currenttime": (_, { now }) => [new Date(now).toISOString()],
  "aws:epochtime": (_, { now }) => [String(Math.floor(now / 1000))],
  "aws:multifactorauthpresent": ({ kind }) => (kind === "role" ? ["false"] : undefined),
  "aws:principalaccount": ({ kind, accountId }) => (kind === "service" ? undefined : one(accountId)),
  "aws:principalarn": ({ kind, arn, roleArn }) => (kind === "service" ? undefined : one(roleArn ?? arn)),
  "aws:principalisawsservice": ({ kind }) => flag(kind === "service"),
  "aws:principalservicename": ({ kind, arn }) => (kind === "service" ? one(arn) : undefined),
  "aws:principaltype": ({ kind }) => one(principalTypes[kind]),
  "aws:requestedregion": (_, { region }) => one(region),
  "aws:resourceaccount": (_, __, { arn }) => one(arn.split(":")[4]),
  "aws:securetransport": (_, { secure }) => flag(secure),
  "aws:sourceip": ({ kind }, { sourceIp }) => (kind === "service" ? undefined : one(sourceIp)),
  "aws:tokenissuetime": ({ tokenIssuedAt }) =>
    tokenIssuedAt === undefined ? undefined : [new Date(tokenIssuedAt).toISOString()],
  "aws:useragent": (_, { userAgent }) => one(userAgent),
  "aws:userid": ({ kind, userId }) => (kind === "service" ? undefined : one(userId)),
  "aws:username": ({ userName }) => one(userName),
  "aws:viaawsservice": () => ["false"],
};

const tagPrefix = "aws:principaltag/";

/**
 * The condition keys of one request. What authentication knows cannot be given otherwise by a resource. `assumed` stands in
 * for all of it in a simulation.
 */
export class RequestContext implements ConditionContext {
  readonly #principal: Principal;
  readonly #resource: AuthorizedResource;
  readonly #facts: RequestFacts;
  readonly #assumed: ReadonlyMap<string, readonly string[]> | undefined;
  #ofResource: ReadonlyMap<string, readonly string[]> | undefined;

  constructor(
    principal: Principal,
    resource: AuthorizedResource,
    facts: RequestFacts,
    assumed?: Readonly<Record<string, readonly string[]>>,
  ) {
    this.#principal = principal;
    this.#resource = resource;
    this.#facts = facts;
    this.#assumed = assumed && byLowerCase(assumed);
  }

  get(key: string): readonly string[] | undefined {
    const assumed = this.#assumed?.get(key);
    if (assumed) return assumed;
    const lookUp = Object.hasOwn(globalKeys, key) ? globalKeys[key] : undefined;
    if (lookUp) return lookUp(this.#principal, this.#facts, this.#resource);
    if (key.startsWith(tagPrefix)) return tagValue(this.#principal.tags, key.slice(tagPrefix.length));
    this.#ofResource ??= byLowerCase({ ...this.#resource.context, ...this.#principal.context });
    return this.#ofResource.get(key);
  }
}

function tagValue(tags: Principal["tags"], lowerCaseKey: string): readonly string[] | undefined {
  for (const key in tags) if (key.toLowerCase() === lowerCaseKey) return [tags[key] ?? ""];
  return undefined;
}

function byLowerCase(context: Readonly<Record<string, readonly string[]>>): ReadonlyMap<string, readonly string[]> {
  return new Map(Object.entries(context).map(([key, values]) => [key.toLowerCase(), values]));
}
