/** Who calls. Resolved once per request by authentication; everything that authorization needs is in it. */
export interface Principal {
  readonly kind: "root" | "user" | "role" | "service";
  /** `arn:aws:iam::…:root`, `…:user/NAME`, `arn:aws:sts::…:assumed-role/ROLE/SESSION`, or a service name. */
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
}

export interface PolicyText {
  readonly name: string;
  readonly document: string;
}
