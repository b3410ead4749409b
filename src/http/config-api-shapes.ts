// Doppler's objects. Its CLI asserts types: every member is there, and what is absent is null.
type Maybe<T> = T | null | undefined;
type When = Maybe<Date>;

/** ISO, in UTC, with milliseconds. */
export const time = (at: When): string | null => at?.toISOString() ?? null;

export interface ProjectOutput {
  readonly Id: string;
  readonly Name: string;
  readonly Description?: Maybe<string>;
  readonly CreatedAt: Date;
}

export const projectOf = ({ Id, Name, Description, CreatedAt }: ProjectOutput) => ({
  id: Id,
  slug: Id,
  name: Name,
  description: Description ?? "",
  created_at: time(CreatedAt),
});

export interface EnvironmentOutput {
  readonly Slug: string;
  readonly Name: string;
  readonly Project: string;
  readonly CreatedAt: Date;
  readonly InitialFetchAt?: When;
}

export const environmentOf = (environment: EnvironmentOutput) => ({
  id: environment.Slug,
  slug: environment.Slug,
  name: environment.Name,
  project: environment.Project,
  created_at: time(environment.CreatedAt),
  initial_fetch_at: time(environment.InitialFetchAt),
});

export interface ConfigName {
  readonly Project: string;
  readonly Config: string;
}

export interface ConfigOutput {
  readonly Id: string;
  readonly Name: string;
  readonly Root: boolean;
  readonly Locked: boolean;
  readonly Environment: string;
  readonly Project: string;
  readonly CreatedAt: Date;
  readonly InitialFetchAt?: When;
  readonly LastFetchAt?: When;
  readonly Inheritable: boolean;
  readonly Inherits?: Maybe<readonly ConfigName[]>;
  readonly InheritedBy?: Maybe<readonly ConfigName[]>;
  readonly Generation: number;
}

const configNames = (names: Maybe<readonly ConfigName[]>) =>
  (names ?? []).map(({ Project, Config }) => ({ project: Project, config: Config }));

export const configOf = (config: ConfigOutput) => ({
  name: config.Name,
  slug: config.Id,
  root: config.Root,
  locked: config.Locked,
  environment: config.Environment,
  project: config.Project,
  created_at: time(config.CreatedAt),
  initial_fetch_at: time(config.InitialFetchAt),
  last_fetch_at: time(config.LastFetchAt),
  inheritable: config.Inheritable,
  inheriting: (config.Inherits ?? []).length > 0,
  inherits: configNames(config.Inherits),
  inheritedBy: configNames(config.InheritedBy),
});

export interface LogOutput {
  readonly Id: string;
  readonly Text: string;
  readonly CreatedAt: Date;
  readonly Project?: Maybe<string>;
  readonly Environment?: Maybe<string>;
  readonly Config?: Maybe<string>;
  readonly Rollback?: Maybe<boolean>;
  readonly User?: Maybe<{ readonly Name?: Maybe<string>; readonly Email?: Maybe<string>; readonly Username?: Maybe<string> }>;
  readonly Diff?: Maybe<readonly { readonly Name: string; readonly Added?: Maybe<string>; readonly Removed?: Maybe<string> }[]>;
}

/** An entry of a config's log; one that was asked for by itself has the values, too. */
export const configLogOf = (log: LogOutput) => ({
  id: log.Id,
  text: log.Text,
  html: htmlOf(log.Text),
  rollback: log.Rollback ?? false,
  created_at: time(log.CreatedAt),
  config: log.Config ?? null,
  environment: log.Environment ?? null,
  project: log.Project ?? null,
  user: {
    email: log.User?.Email ?? null,
    name: log.User?.Name ?? null,
    username: log.User?.Username ?? null,
    profile_image_url: null,
  },
  ...(log.Diff
    ? { diff: log.Diff.map(({ Name, Added, Removed }) => ({ name: Name, added: Added ?? "", removed: Removed ?? "" })) }
    : {}),
});

/** Doppler's CLI still reads the older names of these three. */
export const activityOf = (log: LogOutput) => ({
  ...configLogOf(log),
  enclave_project: log.Project ?? null,
  enclave_environment: log.Environment ?? null,
  enclave_config: log.Config ?? null,
});

const escapes: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Names in it come from whoever chose them. */
const htmlOf = (text: string): string => text.replace(/[&<>"']/g, (character) => escapes[character] ?? "");

export interface SecretOutput {
  readonly Name: string;
  readonly Raw?: Maybe<string>;
  readonly Computed?: Maybe<string>;
  readonly RawVisibility?: Maybe<string>;
  readonly ComputedVisibility?: Maybe<string>;
  readonly RawValueType?: Maybe<string>;
  readonly ComputedValueType?: Maybe<string>;
  readonly Note?: Maybe<string>;
}

export const secretOf = (secret: SecretOutput) => ({
  raw: secret.Raw ?? null,
  computed: secret.Computed ?? null,
  note: secret.Note ?? "",
  rawVisibility: secret.RawVisibility ?? null,
  computedVisibility: secret.ComputedVisibility ?? null,
  rawValueType: valueType(secret.RawValueType),
  computedValueType: valueType(secret.ComputedValueType),
});

const valueType = (type: Maybe<string>) => ({ type: type ?? null });

/** What a config holds; of a change by somebody who may not read, the names alone. */
export interface SecretsOutput {
  readonly Secrets?: readonly SecretOutput[];
  readonly Names?: readonly string[];
}

export const secretsOf = ({ Secrets, Names = [] }: SecretsOutput) => ({
  secrets: Object.fromEntries((Secrets ?? Names.map((Name) => ({ Name }))).map((secret) => [secret.Name, secretOf(secret)])),
  success: true,
});

export interface ServiceTokenOutput {
  readonly Id: string;
  readonly Name: string;
  readonly Project: string;
  readonly Environment: string;
  readonly Config: string;
  readonly Access: string;
  readonly CreatedAt: Date;
  readonly ExpiresAt?: When;
  readonly Key?: Maybe<string>;
}

export const serviceTokenOf = (token: ServiceTokenOutput) => ({
  name: token.Name,
  slug: token.Id,
  created_at: time(token.CreatedAt),
  expires_at: time(token.ExpiresAt),
  project: token.Project,
  environment: token.Environment,
  config: token.Config,
  access: token.Access,
  ...(token.Key ? { key: token.Key } : {}),
});

export interface CallerOutput {
  readonly Id: string;
  readonly Name: string;
  readonly Type: string;
  readonly TokenPreview?: Maybe<string>;
  readonly CreatedAt?: When;
  readonly LastSeenAt?: When;
  readonly Workplace: { readonly Id: string; readonly Name: string };
}

export const callerOf = (caller: CallerOutput) => ({
  slug: caller.Id,
  name: caller.Name,
  type: caller.Type,
  token_preview: caller.TokenPreview ?? null,
  created_at: time(caller.CreatedAt),
  last_seen_at: time(caller.LastSeenAt),
  workplace: { slug: caller.Workplace.Id, name: caller.Workplace.Name },
});

export interface WorkplaceOutput {
  readonly Id: string;
  readonly Name: string;
  readonly BillingEmail?: Maybe<string>;
}

export const workplaceOf = (workplace: WorkplaceOutput) => ({
  id: workplace.Id,
  name: workplace.Name,
  billing_email: workplace.BillingEmail ?? "",
});

export interface ApiTokenOutput {
  readonly Id: string;
  readonly Name: string;
  readonly CreatedAt: Date;
  readonly LastSeenAt?: When;
  readonly ExpiresAt?: When;
}

export const apiTokenOf = (token: ApiTokenOutput) => ({
  name: token.Name,
  slug: token.Id,
  created_at: time(token.CreatedAt),
  last_seen_at: time(token.LastSeenAt),
  expires_at: time(token.ExpiresAt),
});

export interface IntegrationOutput {
  readonly Id: string;
  readonly Name: string;
  readonly Type: string;
}

export const integrationOf = ({ Id, Name, Type }: IntegrationOutput) => ({ slug: Id, name: Name, type: Type });

export interface RotatedSecretOutput {
  readonly Id: string;
  readonly Name: string;
  readonly Project: string;
  readonly Config: string;
  readonly Integration?: Maybe<IntegrationOutput>;
  readonly RotationPeriodSeconds: number;
}

export const rotatedSecretOf = (secret: RotatedSecretOutput) => ({
  slug: secret.Id,
  name: secret.Name,
  project: secret.Project,
  config: secret.Config,
  integration: secret.Integration ? integrationOf(secret.Integration) : null,
  rotation_period_sec: secret.RotationPeriodSeconds,
});
