/**
 * The first schema. One text for both databases: `bytes` and `serial_key` are the only words that a driver replaces.
 * Times are epoch milliseconds; booleans are 0/1; JSON is text that only the code reads.
 */
export const migration = {
  id: 1,
  name: "first",
  sql: [
    "create table meta (key text primary key, value text not null)",

    // Encryption: ring keys, their versions wrapped by the root key, and the names they go by.
    `create table ring_keys (id text primary key, region text not null, description text not null, state text not null,
      is_default integer not null, current_version integer not null, policy text, created_at bigint not null)`,
    `create table ring_key_versions (key_id text not null references ring_keys (id), version integer not null,
      wrapped bytes not null, created_at bigint not null, primary key (key_id, version))`,
    `create table key_aliases (region text not null, alias text not null, key_id text not null references ring_keys (id),
      primary key (region, alias))`,

    // Secrets. `row_version` rises with every change of the secret, its versions, labels or policy: caches compare it.
    // `generation` rises when AWSCURRENT moves. Rotation settings are columns of the secret; its runs are `rotations`.
    `create table secrets (id text primary key, region text not null, name byte_ordered not null, arn text not null unique,
      description text, kms_key_id text, policy text, tags text, type text, owning_service text,
      created_at bigint not null, last_changed_at bigint not null, last_accessed_at bigint,
      deleted_at bigint, purge_at bigint,
      primary_region text, generation bigint not null, row_version bigint not null, switching_until bigint,
      switched_to text,
      rotation_enabled integer, rotation_function_arn text, rotation_rules text, rotation_policy text, rotation_principal text,
      external_rotation text, last_rotated_at bigint, next_rotation_at bigint, rotation_due_at bigint,
      heartbeat_due_at bigint, heartbeat_outcome text, heartbeat_at bigint, heartbeat_since bigint,
      unique (region, name))`,
    "create index secrets_by_rotation_due on secrets (rotation_due_at) where rotation_due_at is not null",
    "create index secrets_by_heartbeat on secrets (heartbeat_due_at) where heartbeat_due_at is not null",
    "create index secrets_by_heartbeat_outcome on secrets (heartbeat_outcome, id) where heartbeat_outcome is not null",
    "create index secrets_by_failing_heartbeat on secrets (id) where heartbeat_outcome <> 'ok'",
    "create index secrets_with_policy on secrets (id) where rotation_policy is not null",
    "create index secrets_by_purge on secrets (purge_at) where purge_at is not null",
    // The orders of lists; by name there is the unique key. An order without index would sort all secrets for every page.
    "create index secrets_by_created on secrets (region, created_at, id)",
    "create index secrets_by_changed on secrets (region, last_changed_at, id)",
    "create index secrets_by_accessed on secrets (region, coalesce(last_accessed_at, 0), id)",
    // A version without `sealed` has no value yet (AWSPENDING of a rotation before createSecret). `rotated_by`: the ARN of the
    // function whose rotation made it and finished.
    `create table versions (secret_id text not null references secrets (id) on delete cascade, version_id text not null,
      created_at bigint not null, last_accessed_at bigint, kind text, sealed bytes, wrapped_data_key bytes, digest bytes,
      key_id text, key_version integer, rotated_by text, primary key (secret_id, version_id))`,
    // By age, so that new ones come to its end: each put elsewhere would write a page more.
    "create index versions_by_key on versions (key_id, key_version, created_at) where key_id is not null",
    `create table labels (secret_id text not null references secrets (id) on delete cascade, label text not null,
      version_id text not null, primary key (secret_id, label))`,
    // One row for each replica region of a primary; due for copying while synced_row_version is below the primary's.
    `create table replicas (secret_id text not null references secrets (id) on delete cascade, region text not null,
      kms_key_id text, status text not null, status_message text, force_overwrite integer not null,
      synced_row_version bigint not null, due_at bigint, primary key (secret_id, region))`,
    "create index replicas_by_due on replicas (due_at) where due_at is not null",
    `create table last_reads (secret_id text not null references secrets (id) on delete cascade, version_id text not null,
      principal text not null, last_read_at bigint not null, primary key (secret_id, version_id, principal))`,

    // Rotations: the row is the queue entry. `state`: running | succeeded | failed | canceled | abandoned | blocked.
    `create table rotations (id text primary key, secret_id text not null references secrets (id) on delete cascade,
      version_id text not null, generation bigint not null, origin text not null, test_only integer not null,
      function_arn text not null, principal text not null, step text not null, state text not null,
      attempt integer not null, step_attempt integer not null, run_at bigint not null, window_ends_at bigint not null,
      claim_node text, claim_until bigint, fence bigint not null, target_account text,
      outcome text, error text, remedy text, started_at bigint not null, ended_at bigint, last_step_at bigint,
      strategy text, intent text, failed_probes integer not null default 0, tries text, token_hash text, waits_for text,
      follows text, followed_by text, working_at text)`,
    "create index rotations_by_due on rotations (run_at) where state = 'running'",
    "create index rotations_by_claim on rotations (claim_until) where state = 'running' and claim_until is not null",
    "create unique index rotations_one_running on rotations (secret_id) where state = 'running'",
    "create unique index rotations_one_per_account on rotations (target_account) where state = 'running' and target_account is not null",
    "create index rotations_by_target on rotations (working_at) where state = 'running' and claim_until is not null and working_at is not null",
    "create index rotations_by_silent_target on rotations (waits_for, id) where state = 'running' and waits_for is not null",
    "create index rotations_by_end on rotations (ended_at) where ended_at is not null and state <> 'blocked'",
    "create index rotations_by_secret on rotations (secret_id, started_at)",
    "create index rotations_by_start on rotations (started_at)",

    // Old credentials that are to be ended at their targets: the row is the queue entry, due at `run_at`, and with its deadline
    // past at `due_at`. `what`: credential (of a version) | strays (what a rotation may have had made without storing it).
    // `state`: waiting | running | blocked (needs somebody; looked at again all the same) | done | canceled.
    `create table retirements (secret_id text not null references secrets (id) on delete cascade, version_id text not null,
      what text not null, strategy text not null, function_arn text not null, state text not null, due_at bigint not null,
      run_at bigint not null, attempt integer not null, intent text, claim_node text, claim_until bigint, fence bigint not null,
      target_account text, outcome text, error text, remedy text, created_at bigint not null, last_try_at bigint,
      ended_at bigint, primary key (secret_id, version_id, what))`,
    "create index retirements_by_due on retirements (run_at) where ended_at is null",
    "create index retirements_by_claim on retirements (claim_until) where ended_at is null and claim_until is not null",
    "create unique index retirements_one_per_account on retirements (target_account) where target_account is not null",
    "create index retirements_by_creation on retirements (created_at)",
    "create index retirements_by_end on retirements (ended_at) where ended_at is not null",

    // Work at a target that somebody asked for: checks, rollbacks. `target_account`: what a rollback keeps rotations away from.
    `create table target_jobs (id text primary key, secret_id text not null references secrets (id) on delete cascade,
      kind text not null, input text not null, principal text not null, state text not null, target_account text,
      result text, error text, run_at bigint not null, claim_node text, claim_until bigint, fence bigint not null,
      created_at bigint not null, ended_at bigint, expires_at bigint not null)`,
    "create index target_jobs_by_due on target_jobs (run_at) where ended_at is null",
    "create unique index target_jobs_one_rollback on target_jobs (secret_id) where kind = 'rollback' and ended_at is null",
    "create unique index target_jobs_one_per_account on target_jobs (target_account) where ended_at is null and target_account is not null",
    "create index target_jobs_by_secret on target_jobs (secret_id, created_at)",
    "create index target_jobs_by_end on target_jobs (ended_at) where ended_at is not null",

    // What changed, in order, for subscribers; written in the transaction of the change. Where transactions commit in another
    // order than they took ids, `tx_order` tells which cannot be preceded by any that is still to come.
    `create table events (id serial_key, at bigint not null, type text not null, resource text not null,
      generation bigint, detail text not null, tx_order tx_ordered)`,
    "create index events_by_tx on events (tx_order, id) where tx_order > 0",

    // Identity.
    // `kind`: person | service_account. `role`: what it may do in the whole deployment, beside its policies.
    `create table users (id text primary key, name text not null unique, arn text not null unique, kind text not null, role text,
      created_at bigint not null)`,
    `create table roles (id text primary key, name text not null unique, arn text not null unique, trust_policy text not null,
      max_session_seconds integer not null, description text, created_at bigint not null)`,
    // Users that are given rights together; the ARN stands for a group where rights are kept. `role` as that of users.
    `create table user_groups (id text primary key, name text not null unique, arn text not null unique, role text,
      default_project_role text, created_at bigint not null)`,
    `create table group_members (group_id text not null references user_groups (id) on delete cascade, principal_arn text not null,
      created_at bigint not null, primary key (group_id, principal_arn))`,
    "create index group_members_by_principal on group_members (principal_arn)",
    "create table principal_tags (principal_arn text not null, key text not null, value text not null, primary key (principal_arn, key))",
    `create table access_keys (id text primary key, principal_arn text not null, sealed bytes not null, wrapped_data_key bytes not null,
      key_id text not null, key_version integer not null, state text not null, created_at bigint not null, last_used_at bigint)`,
    "create index access_keys_by_key on access_keys (key_id, key_version, id)",
    "create index access_keys_by_principal on access_keys (principal_arn)",
    // Bearer tokens are kept as SHA-256 only: they are 40 random characters, so a plain hash cannot be searched.
    `create table tokens (hash text primary key, id text not null unique, principal_arn text not null, kind text not null, name text not null,
      state text not null, created_at bigint not null, expires_at bigint, last_used_at bigint)`,
    "create index tokens_by_principal on tokens (principal_arn)",
    `create table policies (arn text primary key, name text not null unique, default_version integer not null, description text, created_at bigint not null)`,
    `create table policy_versions (policy_arn text not null references policies (arn) on delete cascade, version integer not null,
      document text not null, created_at bigint not null, primary key (policy_arn, version))`,
    `create table policy_attachments (principal_arn text not null, policy_arn text not null references policies (arn), primary key (principal_arn, policy_arn))`,
    `create table oidc_providers (arn text primary key, url text not null unique, client_ids text not null, created_at bigint not null)`,

    // Functions that were registered, and the output of their last calls. The values of a function's variables are sealed.
    `create table functions (arn text primary key, region text not null, name byte_ordered not null, kind text not null, settings text not null,
      description text, role_arn text, policy text, timeout_seconds integer not null, memory_mib integer not null,
      concurrency integer not null, environment_names text not null, sealed bytes, wrapped_data_key bytes, key_id text,
      key_version integer, created_at bigint not null, updated_at bigint not null, unique (region, name))`,
    "create index functions_by_key on functions (key_id, key_version, arn) where key_id is not null",
    // What is known of the code that Rekey's own functions at AWS run; `former`: the zip that goes back when newer code does not work.
    `create table function_code (function_arn text primary key references functions (arn) on delete cascade, state text not null,
      runs text, wanted text, message text, looked_at bigint, look_at bigint not null, former bytes)`,
    "create index function_code_by_look on function_code (look_at)",
    // What requests to agents and functions are signed with; the private half is forgotten once the key has ended.
    `create table signing_keys (kid text primary key, sequence integer not null unique, public_key text not null, sealed bytes,
      wrapped_data_key bytes, key_id text, key_version integer, created_at bigint not null, signs_from_at bigint not null,
      served_until_at bigint, endorsement text)`,
    "create index signing_keys_by_key on signing_keys (key_id, key_version, kid) where key_id is not null",
    `create table function_logs (id serial_key, function_arn text not null references functions (arn) on delete cascade,
      request_id text not null, at bigint not null, failed integer not null, output text not null)`,
    "create index function_logs_by_function on function_logs (function_arn, id)",
    "create index function_logs_by_time on function_logs (at)",

    // Networks: places that are reached through agents and functions in them. `functions`: JSON, ARNs by kind of target. `made`: of
    // those that came with an integration and go with the last one: JSON, with the function that was registered for it.
    `create table networks (name byte_ordered primary key, description text, functions text not null, created_at bigint not null,
      updated_at bigint not null, made text)`,
    // Secrets whose rotation policy names a network: as it does.
    "create table network_secrets (secret_id text primary key references secrets (id) on delete cascade, network text not null)",
    "create index network_secrets_by_network on network_secrets (network)",

    // Agents: Rekey's hands inside of private networks. Their keys are public ones, JSON; `kinds` stand between blanks. `enrolment_id`:
    // until it has polled for the first time. `away_at`: its connection broke, or it said goodbye; `gone_at`: nothing was seen of
    // it for a while.
    `create table agents (id text primary key, arn text not null, network text not null, name text not null,
      signing_key text not null, sealing_key text not null, version text not null, kinds text not null, enrolment_id text unique,
      enrolled_by text not null, enrolled_at bigint not null, seen_at bigint not null, clock_skew_ms bigint, last_job_at bigint,
      away_at bigint, gone_at bigint, back_at bigint, revoked_at bigint,
      session text, ended_sessions text not null default '', copied_at bigint)`,
    "create index agents_by_network on agents (network, id) where revoked_at is null",
    "create index agents_by_sight on agents (seen_at) where revoked_at is null and gone_at is null",
    "create index agents_by_return on agents (back_at) where back_at is not null",
    "create index agents_by_end on agents (revoked_at) where revoked_at is not null",
    // Rights to enrol one agent; the token is in `tokens` under the same id.
    `create table agent_enrolments (id text primary key, network text not null, created_by text not null, created_at bigint not null,
      expires_at bigint not null, used_at bigint)`,
    "create index agent_enrolments_by_expiry on agent_enrolments (expires_at)",
    // Messages to agents, sealed, and their replies, sealed too. `state`: queued | sent | answered | refused (by the agent) |
    // withdrawn (before anybody had it) | abandoned (its agent was revoked).
    `create table agent_jobs (id text primary key, agent_id text not null, state text not null, session text, message text, reply text,
      created_at bigint not null, expires_at bigint not null)`,
    "create index agent_jobs_open on agent_jobs (agent_id, created_at) where state in ('queued', 'sent')",
    "create index agent_jobs_queued on agent_jobs (agent_id) where state = 'queued'",
    "create index agent_jobs_by_expiry on agent_jobs (expires_at)",

    // Configs. A project's id never changes; its name may. Values are kept as one sealed document for each version of a config:
    // `version` is the newest one's number. `generation` rises with every cause of another download, own or not.
    `create table projects (id text primary key, name text not null unique, description text, created_at bigint not null)`,
    `create table environments (project_id text not null references projects (id), slug text not null, name text not null,
      position integer not null, created_at bigint not null, initial_fetch_at bigint, primary key (project_id, slug))`,
    `create table configs (id text primary key, project_id text not null references projects (id), environment text not null,
      name text not null, is_root integer not null, locked integer not null, inheritable integer not null,
      version bigint not null, generation bigint not null, created_at bigint not null, initial_fetch_at bigint, last_fetch_at bigint,
      trusted_ips text, unique (project_id, name))`,
    "create index configs_by_environment on configs (project_id, environment)",
    // What a config takes from: its parents in order, and what its values refer to, whether that is there or not. A change
    // there raises its generation.
    `create table config_inherits (config_id text not null references configs (id) on delete cascade, position integer not null,
      parent_id text not null references configs (id), primary key (config_id, position))`,
    "create index config_inherits_by_parent on config_inherits (parent_id)",
    `create table config_references (config_id text not null references configs (id) on delete cascade, project text not null,
      config text not null, primary key (config_id, project, config))`,
    "create index config_references_by_referred on config_references (project, config)",
    // `id`: <config>/<number>. `replaced_at`: absent of the newest.
    `create table config_versions (id text primary key, config_id text not null references configs (id) on delete cascade,
      number bigint not null, sealed bytes not null, wrapped_data_key bytes not null, key_id text not null,
      key_version integer not null, created_at bigint not null, replaced_at bigint, unique (config_id, number))`,
    "create index config_versions_by_end on config_versions (replaced_at) where replaced_at is not null",
    "create index config_versions_by_key on config_versions (key_id, key_version, id)",
    `create table secret_notes (project_id text not null references projects (id) on delete cascade, name text not null,
      note text not null, primary key (project_id, name))`,
    // What people did, in words; of a config's values also from which version to which. names: those that changed.
    `create table activity_logs (id serial_key, log_id text not null unique, at bigint not null, principal text not null,
      principal_name text not null, text text not null, project text, environment text, config text, config_id text,
      from_version bigint, to_version bigint, is_rollback integer not null, names text)`,
    "create index activity_logs_by_config on activity_logs (config_id, id) where config_id is not null",
    "create index activity_logs_by_time on activity_logs (at)",

    // Who calls the config API beside users: tokens of one config, identities that bring another issuer's token, logins of a CLI.
    `create table service_tokens (id text primary key, config_id text not null references configs (id) on delete cascade,
      name text not null, access text not null, created_by text not null, created_at bigint not null)`,
    "create index service_tokens_by_config on service_tokens (config_id, created_at)",
    `create table oidc_identities (id text primary key, principal_arn text not null, name text not null, provider_arn text not null,
      audiences text not null, subjects text not null, ttl_seconds integer not null, created_at bigint not null)`,
    "create index oidc_identities_by_principal on oidc_identities (principal_arn)",
    // How often each token of an issuer was exchanged: one that somebody saw is not good for as many as they like.
    `create table oidc_uses (token_hash text primary key, uses integer not null, expires_at bigint not null)`,
    "create index oidc_uses_by_expiry on oidc_uses (expires_at)",
    // What somebody may do in a project, beside their policies.
    `create table project_members (project_id text not null references projects (id) on delete cascade, principal_arn text not null,
      role text not null, all_environments integer not null, created_at bigint not null, primary key (project_id, principal_arn))`,
    "create index project_members_by_principal on project_members (principal_arn)",
    // Those that a member without all of them has; what is renamed stays, what is deleted goes.
    `create table member_environments (project_id text not null, principal_arn text not null, environment text not null,
      primary key (principal_arn, project_id, environment),
      foreign key (project_id, principal_arn) references project_members (project_id, principal_arn) on delete cascade,
      foreign key (project_id, environment) references environments (project_id, slug) on update cascade on delete cascade)`,
    "create index member_environments_by_environment on member_environments (project_id, environment)",
    // Logins of command lines that wait for somebody to say yes. `address`: where they came from, a whole network of version 6.
    `create table cli_logins (code text primary key, polling_hash text not null unique, address text not null, about text not null,
      state text not null, principal_arn text, created_at bigint not null, expires_at bigint not null)`,
    "create index cli_logins_by_expiry on cli_logins (expires_at)",
    "create index cli_logins_by_address on cli_logins (address)",

    // Webhooks, and what is to be delivered: the row is the queue entry, written in the transaction of the change.
    `create table webhooks (id text primary key, project_id text not null references projects (id) on delete cascade,
      name text, url text not null, enabled integer not null, configs text not null, payload text, sealed bytes,
      wrapped_data_key bytes, key_id text, key_version integer, created_at bigint not null)`,
    "create index webhooks_by_project on webhooks (project_id)",
    "create index webhooks_by_key on webhooks (key_id, key_version, id) where key_id is not null",
    `create table webhook_deliveries (id text primary key, webhook_id text not null references webhooks (id) on delete cascade,
      event text not null, attempt integer not null, run_at bigint not null, claim_node text, claim_until bigint,
      fence bigint not null, outcome text, error text, created_at bigint not null, ended_at bigint)`,
    "create index webhook_deliveries_by_due on webhook_deliveries (run_at) where ended_at is null",
    "create index webhook_deliveries_by_webhook on webhook_deliveries (webhook_id, created_at)",
    "create index webhook_deliveries_by_end on webhook_deliveries (ended_at) where ended_at is not null",

    // Integrations: stored connections. One that was deleted stays while leases need it. `id` of a version: <integration>/<number>.
    `create table integrations (id text primary key, name text not null, type text not null, version bigint not null,
      created_at bigint not null, updated_at bigint not null, verified_at bigint, outcome text, error text, orphans_due_at bigint,
      deleted_at bigint)`,
    "create unique index integrations_by_name on integrations (name) where deleted_at is null",
    "create index integrations_deleted on integrations (deleted_at) where deleted_at is not null",
    "create index integrations_by_orphans_due on integrations (orphans_due_at) where orphans_due_at is not null",
    `create table integration_versions (id text primary key, integration_id text not null references integrations (id) on delete cascade,
      number bigint not null, settings text not null, network text, target text not null, sealed bytes not null,
      wrapped_data_key bytes not null, key_id text not null, key_version integer not null, created_at bigint not null,
      unique (integration_id, number))`,
    "create index integration_versions_by_network on integration_versions (network) where network is not null",
    "create index integration_versions_by_key on integration_versions (key_id, key_version, id)",
    `create table external_ids (external_id text primary key, integration_id text, principal text not null, created_at bigint not null)`,
    "create index external_ids_by_principal on external_ids (principal, created_at)",

    // Rotated secrets of configs are ordinary secrets that a config owns and shows. `account`: whose credential it is, at which target.
    `create table rotated_secrets (id text primary key, config_id text not null references configs (id) on delete cascade,
      name text not null, integration_id text not null references integrations (id), secret_id text not null unique,
      rotation_period_seconds bigint not null, created_at bigint not null, account text, unique (config_id, name))`,
    "create unique index rotated_secrets_by_account on rotated_secrets (account) where account is not null",
    "create index rotated_secrets_by_integration on rotated_secrets (integration_id)",
    // Who manages the users of a rotated secret, where that is no integration's own user. `id`: the rotated secret's.
    `create table managing_users (id text primary key references rotated_secrets (id) on delete cascade, sealed bytes not null,
      wrapped_data_key bytes not null, key_id text not null, key_version integer not null, created_at bigint not null)`,
    "create index managing_users_by_key on managing_users (key_id, key_version, id)",

    // Dynamic secrets: recipes. One that was deleted stays while it has leases.
    `create table dynamic_secrets (id text primary key, config_id text not null, project text not null, config text not null,
      name text not null, integration_id text not null references integrations (id), network text, settings text not null,
      default_ttl_seconds bigint not null, max_ttl_seconds bigint not null, max_leases integer not null,
      max_leases_per_principal integer not null, share_seconds integer not null, created_at bigint not null,
      updated_at bigint not null, deleted_at bigint)`,
    "create unique index dynamic_secrets_by_name on dynamic_secrets (config_id, name) where deleted_at is null",
    "create index dynamic_secrets_by_integration on dynamic_secrets (integration_id)",
    "create index dynamic_secrets_by_network on dynamic_secrets (network) where network is not null",
    "create index dynamic_secrets_deleted on dynamic_secrets (deleted_at) where deleted_at is not null",
    // Leases: the row is the queue entry, due at `due_at`: to be created, renewed, or ended. It is there before anything is at the
    // target, and keeps what it was born with. `state`: creating | active | revoking | ended.
    `create table leases (id text primary key, dynamic_secret_id text not null, dynamic_secret text not null, project text not null,
      config text not null, type text not null, integration_id text not null, integration_version text not null, settings text not null,
      name text not null, handle text, network text, target text not null, principal text not null, workload text, request_hash text,
      state text not null, reason text, created_at bigint not null, expires_at bigint not null, max_expires_at bigint not null,
      renew_to bigint, answered_at bigint, shares integer not null, share_until bigint, due_at bigint, claim_node text, claim_until bigint, fence bigint not null,
      attempt integer not null, outcome text, error text, last_try_at bigint, ended_at bigint, sealed bytes,
      wrapped_data_key bytes, key_id text, key_version integer)`,
    "create index leases_by_due on leases (due_at) where due_at is not null",
    "create index leases_by_claim on leases (claim_until) where claim_until is not null",
    "create unique index leases_by_request on leases (request_hash) where request_hash is not null",
    // All that counting them needs: no row is read.
    "create index leases_live on leases (dynamic_secret_id, principal, workload, state) where state <> 'ended'",
    "create index leases_live_by_principal on leases (principal, id) where state <> 'ended'",
    "create index leases_live_by_integration on leases (integration_id, target) where state <> 'ended'",
    "create index leases_live_by_network on leases (network, integration_version) where network is not null and state <> 'ended'",
    "create index leases_by_name on leases (name)",
    // What somebody waits for has a way of its own; what happens by itself goes target by target.
    "create index leases_wanted on leases (due_at) where state = 'creating' or renew_to is not null",
    "create index leases_by_target on leases (target, due_at) where due_at is not null",
    "create index leases_revoking on leases (target, due_at) where state = 'revoking'",
    "create index leases_to_share on leases (dynamic_secret_id, workload, share_until) where share_until is not null",
    "create index leases_by_key on leases (key_id, key_version, id) where key_id is not null",
    "create index leases_by_creation on leases (created_at, id)",
    "create index leases_by_end on leases (ended_at) where ended_at is not null",

    // Audit. A change writes its record here in its own transaction; the audit writer then chains it (segment or table).
    "create table audit_outbox (id serial_key, record text not null)",
    // PostgreSQL: the chains themselves. SQLite: a copy of the segments, for searching.
    `create table audit_records (writer byte_ordered not null, sequence bigint not null, at bigint not null, request_id text not null,
      principal text not null, action text not null, resource text not null, outcome text not null, record text not null, mac text not null,
      primary key (writer, sequence))`,
    "create index audit_records_by_time on audit_records (at)",
    "create index audit_records_by_resource on audit_records (resource, at)",
    "create index audit_records_by_principal on audit_records (principal, at)",
    "create index audit_records_by_action on audit_records (action, at)",
    // How far each segment had come: what verify compares the chain's end with; `seal` needs the audit key. `followed_by` is
    // the writer whose first record names this head. `shipped_…`: how much of the file is in audit_records.
    `create table audit_anchors (writer text not null, segment integer not null, sequence bigint not null, mac text not null,
      at bigint not null, state text not null, seal text not null, followed_by text,
      shipped_sequence bigint not null, shipped_bytes bigint not null, primary key (writer, segment))`,
    "create index audit_anchors_unshipped on audit_anchors (at) where shipped_sequence < sequence",
    "create index audit_anchors_open on audit_anchors (at) where state = 'open'",
    "create index audit_anchors_unfollowed on audit_anchors (at) where followed_by is null",
  ],
};
