-- Old facts in Parquet on S3: sorted by key, event time, known_at and seq within a bucket of keys.
create table files (
    id bigint generated always as identity primary key,
    view_id int not null,
    bucket int not null,
    object_key text not null,
    rows bigint not null,
    least_event bigint not null,
    greatest_event bigint not null
);
create index files_by_view on files (view_id, bucket);
