-- What the monitor keeps. Times are microseconds since the Unix epoch unless they are wall time (timestamptz).

-- The deployments watched: their spec as last said by serving, their watermarks and how far each kind of closing has come.
create table deployments (
    name text primary key,
    state_version bigint not null,
    facts jsonb not null,
    prediction_watermark_us bigint,
    outcome_watermark_us bigint,
    outcomes_declared boolean not null default false,
    blocks_closed_us bigint,
    panes_checked_us bigint,
    compared_rollout text not null default '',
    compared_us bigint,
    policy jsonb not null default '{}'
);

-- Who may write the cached state of a partition: a worker that takes it raises the epoch.
create table partitions (
    topic text not null,
    partition integer not null,
    epoch bigint not null,
    primary key (topic, partition)
);

-- How far each reader (fold, log) has come in each stream.
create table streams (
    reader text not null,
    kind text not null check (kind in ('predictions', 'outcomes')),
    stream text not null,
    deployment text not null default '',
    version text not null default '',
    variant text not null default '',
    next_n bigint not null default 1,
    watermark_us bigint,
    announced boolean not null default false,
    ended boolean not null default false,
    away boolean not null default false,
    partition integer not null default -1,
    seen_at timestamptz not null default now(),
    primary key (reader, kind, stream)
);
create index streams_of_deployment on streams (deployment, reader, kind);

-- Open gaps: positions not seen yet, without a word (missing) or in the dead letter.
create table gaps (
    reader text not null,
    kind text not null,
    stream text not null,
    from_n bigint not null,
    to_n bigint not null,
    reason text not null,
    primary key (reader, kind, stream, from_n)
);

-- The ledger's counters, one line a version and variant.
create table ledger (
    deployment text not null,
    version text not null,
    variant text not null,
    counted bigint not null default 0,
    late bigint not null default 0,
    dropped bigint not null default 0,
    repeats bigint not null default 0,
    outcomes bigint not null default 0,
    shadow bigint not null default 0,
    primary key (deployment, version, variant)
);

-- Panes: the folded state of the rows of one hour (or other pane) that one partition brought.
create table panes (
    deployment text not null,
    version text not null,
    variant text not null,
    pane_us bigint not null,
    partition integer not null,
    rows bigint not null,
    state bytea not null,
    primary key (deployment, version, variant, pane_us, partition)
);

-- The open window of a variant begins where the last closed one ended; rows before it are late.
create table windows (
    deployment text not null,
    version text not null,
    variant text not null,
    start_us bigint not null,
    late bigint not null default 0,
    drifting boolean not null default false,
    event_id text not null default '',
    primary key (deployment, version, variant)
);

create table reports (
    n bigint generated always as identity primary key,
    report_id text not null unique,
    deployment text not null,
    version text not null,
    variant text not null,
    start_us bigint not null,
    end_us bigint not null,
    rows bigint not null,
    late bigint not null,
    score double precision not null,
    severity text not null,
    columns jsonb not null,
    recommendations jsonb not null,
    unique (deployment, version, variant, end_us)
);

-- Outputs by stream and range, kept until no outcome may come any more.
create table batches (
    stream text not null,
    first_n bigint not null,
    last_n bigint not null,
    deployment text not null,
    version text not null,
    variant text not null,
    event_us bytea not null,
    outputs bytea not null,
    greatest_us bigint not null,
    primary key (stream, first_n)
);
create index batches_by_age on batches (deployment, greatest_us);

-- A challenger's answers under the champion's positions.
create table shadows (
    stream text not null,
    n bigint not null,
    version text not null,
    deployment text not null,
    rollout text not null,
    failed boolean not null,
    outputs bytea not null,
    event_us bigint not null,
    primary key (stream, n, version)
);
create index shadows_by_age on shadows (deployment, event_us);
create table shadow_counts (
    deployment text not null,
    rollout text not null,
    rows bigint not null,
    failures bigint not null,
    primary key (deployment, rollout)
);

-- The truth in force of a prediction: known_us is when its first value became known, which names its block.
create table truths (
    stream text not null,
    n bigint not null,
    deployment text not null,
    revision integer not null,
    known_us bigint not null,
    number double precision not null,
    label text not null,
    primary key (stream, n)
);
create index truths_by_age on truths (deployment, known_us);

-- Outcomes that came before their prediction.
create table waiting (
    deployment text not null,
    prediction_id text not null,
    revision integer not null,
    stream text not null,
    n bigint not null,
    known_us bigint not null,
    number double precision not null,
    label text not null,
    primary key (deployment, prediction_id, revision)
);
create index waiting_by_position on waiting (stream, n);

-- Performance by the time the truth became known. Sums are exact integers (perennial.stats.losses).
create table blocks (
    deployment text not null,
    version text not null,
    variant text not null,
    start_us bigint not null,
    end_us bigint not null,
    count bigint not null default 0,
    sums jsonb,
    chart double precision not null default 0,
    closed boolean not null default false,
    primary key (deployment, version, variant, start_us)
);
create table paired (
    deployment text not null,
    rollout text not null,
    start_us bigint not null,
    count bigint not null default 0,
    sums jsonb,
    primary key (deployment, rollout, start_us)
);

create table decisions (
    n bigint generated always as identity primary key,
    decision_id text not null unique,
    deployment text not null,
    time_us bigint not null,
    requested boolean not null,
    trigger text not null,
    reason text not null,
    figures jsonb not null,
    state text not null default '',
    version text not null default '',
    request jsonb,
    correlation_id text not null default '',
    causation_id text not null default ''
);
create index decisions_of_deployment on decisions (deployment, n desc);

-- Cuts of the prediction log: positions of every stream, and the manifest once it is written.
create table snapshots (
    snapshot_id text primary key,
    deployment text not null,
    decision_id text not null default '',
    request_id text not null default '',
    from_us bigint not null,
    cut jsonb not null,
    manifest_key text not null default '',
    manifest_sha256 text not null default '',
    rows bigint not null default 0,
    outcomes bigint not null default 0,
    created_at timestamptz not null default now()
);
create index snapshots_open on snapshots (created_at) where manifest_key = '';

create table log_files (
    n bigint generated always as identity primary key,
    key text not null unique,
    deployment text not null,
    kind text not null,
    sha256 text not null,
    rows bigint not null,
    from_us bigint not null,
    to_us bigint not null
);
create index log_files_of_deployment on log_files (deployment, kind, to_us);

create table incidents (
    n bigint generated always as identity primary key,
    incident_id text not null unique,
    deployment text not null,
    version text not null,
    column_name text not null,
    kind text not null,
    factor double precision not null,
    since_us bigint not null,
    state text not null,
    detail text not null,
    seen_us bigint not null
);
create index incidents_of_deployment on incidents (deployment, n desc);
