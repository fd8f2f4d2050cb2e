create table deployments (
    name          text primary key,
    model         text not null,
    spec          jsonb not null,
    champion      jsonb not null,
    follows_alias boolean not null,
    watermark_us  bigint,
    state_version bigint not null,
    created_us    bigint not null,
    retired       boolean not null default false
);
create index deployments_model on deployments (model);

create table rollouts (
    rollout_id text primary key,
    deployment text not null references deployments (name),
    challenger text not null,
    attempt    integer not null,
    state      text not null,
    body       jsonb not null,
    number     bigint generated always as identity,
    unique (deployment, challenger, attempt)
);
create unique index rollouts_at_work on rollouts (deployment) where state in ('shadow', 'live');
create unique index rollouts_pending on rollouts (deployment) where state = 'pending';
create index rollouts_by_deployment on rollouts (deployment, number);

-- Versions registered for a deployment, as heard; in event time they wait here for the next settle.
create table registrations (
    deployment        text not null,
    version           text not null,
    event_id          text not null,
    correlation_id    text not null,
    decision_id       text not null,
    approval_required boolean not null,
    handled           boolean not null default false,
    number            bigint generated always as identity,
    primary key (deployment, version)
);

-- The newest comparison of each rollout that is not over.
create table comparisons (
    rollout_id text primary key,
    as_of_us   bigint not null,
    message    bytea not null
);
