-- Training jobs: the queue and its history.

create table jobs (
    n bigint generated always as identity unique,
    id text primary key,
    state text not null,
    model text not null,
    decision_id text unique,
    body jsonb not null,
    registration jsonb,
    progress double precision not null default 0,
    step text not null default '',
    attempts integer not null default 0,
    token bigint not null default 0,
    leased_until timestamptz,
    not_before timestamptz,
    changes bigint not null default 0
);
create index jobs_waiting on jobs (n) where state in ('queued', 'leased', 'running', 'registering');
create index jobs_by_model on jobs (model, n);
