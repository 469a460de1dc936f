-- Studies brought here from the hospital's own archive, and what it says of studies that came by themselves.

CREATE TABLE pulls (
    id TEXT PRIMARY KEY, uid TEXT NOT NULL, how TEXT NOT NULL, actor TEXT NOT NULL, at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', status INTEGER,
    patient_name TEXT NOT NULL DEFAULT '', patient_id TEXT NOT NULL DEFAULT '',
    birth_date TEXT NOT NULL DEFAULT '', what TEXT NOT NULL DEFAULT '',
    wanted INTEGER NOT NULL DEFAULT -1, here INTEGER NOT NULL DEFAULT 0, missing INTEGER NOT NULL DEFAULT -1,
    completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, warned INTEGER NOT NULL DEFAULT 0,
    remaining INTEGER NOT NULL DEFAULT -1, others INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0,
    stranger INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX pulls_open ON pulls (uid) WHERE ended_at = 0;
CREATE TABLE pull_misses (
    pull TEXT NOT NULL REFERENCES pulls(id) ON DELETE CASCADE, uid TEXT NOT NULL, PRIMARY KEY (pull, uid)
) STRICT;

-- What the archive says of a study here: images that it lists, and those of them that are not here.
CREATE TABLE archive_says (
    study TEXT PRIMARY KEY REFERENCES studies(id) ON DELETE CASCADE, at INTEGER NOT NULL, code TEXT NOT NULL,
    listed INTEGER NOT NULL, missing INTEGER NOT NULL
) STRICT;

-- A transfer that a rule proposes. Nothing is offered before a person says so.
CREATE TABLE prepared (
    study TEXT PRIMARY KEY REFERENCES studies(id) ON DELETE CASCADE, peer BLOB NOT NULL, reason TEXT NOT NULL,
    rule INTEGER NOT NULL, state TEXT NOT NULL, at INTEGER NOT NULL, by TEXT NOT NULL DEFAULT ''
) STRICT;
