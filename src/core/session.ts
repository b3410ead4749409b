/** What temporary credentials stand for: a role taken on for a while. Sealed into the session token that its holder sends along. */
export interface Session {
  /** `ASIA…`. */
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of the role as it was when assumed: one that was made again under the same name has another id. */
  readonly roleId: string;
  readonly roleName: string;
  readonly sessionName: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
  /** Limits of this session: it may do what the role may, and the inline policy or one of the named policies as well. */
  readonly policy?: string;
  readonly policyArns?: readonly string[];
  /** Tags of the session; they stand in for the role's tags of the same key. */
  readonly tags?: Readonly<Record<string, string>>;
  /** Keys of `tags` that go on to sessions made from this one. */
  readonly transitiveTagKeys?: readonly string[];
}

/** Seals sessions into tokens and opens them. */
export interface SessionTokens {
  seal(session: Session): string;
  /** Undefined for everything that was not sealed here, or was changed since. An expired session opens. */
  open(token: string): Session | undefined;
}
