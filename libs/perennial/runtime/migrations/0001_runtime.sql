-- What the runtime keeps in every service's schema.

create table outbox (
    id bigint generated always as identity primary key,
    event_id text not null,
    topic text not null,
    key bytea not null,
    value bytea not null,
    headers text not null,
    aggregate text not null,
    aggregate_version bigint not null,
    created_at timestamptz not null default now()
);

create table inbox (
    consumer text not null,
    event_id text not null,
    seen_at timestamptz not null default now(),
    primary key (consumer, event_id)
);
create index inbox_by_age on inbox (seen_at);

create table audit (
    n bigint primary key,
    at_us bigint not null,
    actor text not null,
    action text not null,
    subject text not null,
    detail text not null,
    previous bytea not null,
    hash bytea not null
);

create table audit_head (
    single boolean primary key default true check (single),
    n bigint not null,
    hash bytea not null,
    published_n bigint not null default 0
);
insert into audit_head (n, hash) values (0, decode(repeat('00', 32), 'hex'));

create table leases (
    name text primary key,
    owner text not null,
    token bigint not null,
    expires_at timestamptz not null
);

create table requests (
    caller text not null,
    method text not null,
    request_id text not null,
    body bytea not null,
    response bytea not null,
    answered_at timestamptz not null default now(),
    primary key (caller, method, request_id)
);
create index requests_by_age on requests (answered_at);
