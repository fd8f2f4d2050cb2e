-- Models and their versions.

create table models (
    name text collate "C" primary key,
    description text not null default '',
    tags jsonb not null default '{}',
    approval_required boolean not null default false,
    latest text not null default '',
    aggregate_version bigint not null default 0,
    created_at timestamptz not null
);

create table versions (
    id bigint generated always as identity primary key,
    model text collate "C" not null references models (name),
    major integer not null,
    minor integer not null,
    patch integer not null,
    stage text not null,
    approved boolean,
    was_in_production boolean not null default false,
    framework text not null,
    algorithm text not null,
    signature jsonb not null,
    parameters jsonb not null,
    metrics jsonb not null,
    tags jsonb not null,
    description text not null,
    author jsonb not null,
    lineage jsonb not null,
    files jsonb not null,
    artifact_digest text not null,
    created_at timestamptz not null,
    -- What is searched for text: the model's name and the description, in lower case.
    words text not null,
    -- The registration that made it, so that the same request gives the same version.
    request_caller text,
    request_id text,
    request_digest bytea,
    unique (model, major, minor, patch),
    unique (request_caller, request_id)
);
create index versions_of_model on versions (model, id desc);
create index versions_by_stage on versions (stage, id desc);
create index versions_by_algorithm on versions (algorithm, id desc);
create index versions_by_tag on versions using gin (tags);

create table aliases (
    model text collate "C" not null references models (name),
    alias text collate "C" not null,
    version_id bigint not null references versions (id),
    primary key (model, alias)
);
create index aliases_of_version on aliases (version_id);

create table alias_history (
    n bigint generated always as identity primary key,
    model text collate "C" not null references models (name),
    alias text collate "C" not null,
    from_version text not null,
    to_version text not null,
    actor jsonb not null,
    at timestamptz not null,
    request_id text not null
);
create index alias_history_of_model on alias_history (model, n desc);
create index alias_history_of_alias on alias_history (model, alias, n desc);

create table stage_history (
    n bigint generated always as identity primary key,
    version_id bigint not null references versions (id),
    from_stage text not null,
    to_stage text not null,
    actor jsonb not null,
    at timestamptz not null
);
create index stage_history_of_version on stage_history (version_id, n desc);

create table approvals (
    n bigint generated always as identity primary key,
    version_id bigint not null references versions (id),
    approved boolean not null,
    actor jsonb not null,
    comment text not null,
    at timestamptz not null
);
create index approvals_of_version on approvals (version_id, n desc);

-- The event history: every event of the control topics, once.
create table events (
    n bigint generated always as identity primary key,
    id text not null unique,
    type text not null,
    source text not null,
    subject text not null,
    at timestamptz not null,
    recorded_at timestamptz not null default clock_timestamp(),
    correlation_id text not null,
    causation_id text not null,
    topic text not null,
    data jsonb not null
);
create index events_of_chain on events (correlation_id, n);
create index events_by_type on events (type, n desc);
create index events_by_subject on events (subject, n desc);

create table api_keys (
    name text collate "C" primary key,
    roles text[] not null,
    digest text not null unique,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz
);
