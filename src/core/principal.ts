/** Who calls. Resolved once per request by authentication; everything that authorization needs is in it. */
export interface Principal {
  readonly kind: "root" | "user" | "role" | "service" | "federated" | "token" | "anonymous";
  /**
   * `arn:aws:iam::…:root`, `…:user/NAME`, `arn:aws:sts::…:assumed-role/ROLE/SESSION`, `…:oidc-provider/ISSUER`, a service name,
   * `anonymous`, of a service token `arn:aws:rekey:…:service-token/ID`, of an agent `…:agent/ID`, of the right to enrol one
   * `…:agent-enrolment/ID`.
   */
  readonly arn: string;
  /** Of an assumed role: the role itself. */
  readonly roleArn?: string;
  readonly accountId: string;
  /** As `aws:userid`: the account for root, `AIDA…` for users, `AROA…:SESSION` for roles. */
  readonly userId: string;
  /** `aws:username`; users only. */
  readonly userName?: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Documents of the attached policies, and of the session if it has any. */
  readonly policies: readonly PolicyText[];
  readonly sessionPolicies?: readonly PolicyText[];
  readonly accessKeyId?: string;
  readonly tokenIssuedAt?: number;
  /** Of a session: its own tags, which `tags` holds too. */
  readonly sessionTags?: Readonly<Record<string, string>>;
  /** Of a session: keys of its tags that go on to sessions made from it. */
  readonly transitiveTagKeys?: readonly string[];
  /** Condition keys that its credential brings along, e.g. `issuer.example:sub` of a web identity. */
  readonly context?: Readonly<Record<string, readonly string[]>>;
  /** Of a user: it stands for programs, not for a person. */
  readonly serviceAccount?: true;
  /** Of a service token: the one config that it is for, as its names are now. */
  readonly boundConfig?: BoundConfig;
  /** Of an agent, or with `isEnrolled: false` of the right to enrol one: not even what every caller may, may it do. */
  readonly agent?: { readonly id: string; readonly network: string; readonly isEnrolled: boolean };
}

/** A config and its project by their ids and current names. */
export interface BoundConfig {
  readonly configId: string;
  /** Id of the project. */
  readonly project: string;
  readonly environment: string;
  readonly config: string;
}

export interface PolicyText {
  readonly name: string;
  readonly document: string;
}
