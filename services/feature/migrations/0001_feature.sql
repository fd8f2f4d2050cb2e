-- Views, their facts, how far each stream was stored, and training sets.

create table catalog (
    single boolean primary key default true check (single),
    version bigint not null
);
insert into catalog (version) values (0);

create table views (
    id int generated always as identity primary key,
    name text not null unique,
    version int not null,
    definition bytea not null,
    created_at timestamptz not null default now()
);

create table view_versions (
    view_id int not null references views,
    version int not null,
    definition bytea not null,
    created_at timestamptz not null default now(),
    primary key (view_id, version)
);

-- Source rows. body: event time, known_at and seq as int64, then the view's numbers as float64, little-endian;
-- texts: the view's texts as a JSON list. seq orders ties: the write's id, then the row's place in it.
create table facts (
    view_id int not null,
    key text not null,
    event_time bigint not null,
    seq bigint not null,
    body bytea not null,
    texts text
) partition by list (view_id);
create index facts_by_entity on facts (key, event_time);
create index facts_by_seq on facts using brin (seq);

create sequence writes;

-- version counts the writes of an entity: what the online store holds of it is compared with this.
create table entities (
    view_id int not null,
    key text not null,
    version bigint not null,
    rows bigint not null,
    primary key (view_id, key)
) with (fillfactor = 70);

-- taken: the stored positions as ranges [from, to, from, to, …).
create table streams (
    stream text primary key,
    taken bigint[] not null default '{}'
);

-- Writes that are committed here and perhaps not yet in the online store.
create table unapplied (
    write_id bigint primary key,
    stream text not null,
    written_at timestamptz not null default now()
);

create table progress (
    stream text not null,
    view_id int not null,
    time_us bigint not null,
    primary key (stream, view_id)
);

create table training_sets (
    digest text primary key,
    description bytea not null,
    created_at timestamptz not null default now()
);
