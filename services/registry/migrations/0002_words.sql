-- What is searched for text, in rows of its own: a scan for a rare word reads these narrow rows and not the wide ones.

create table version_words (
    version_id bigint primary key references versions (id),
    words text not null
);
insert into version_words select id, words from versions;
alter table versions drop column words;
