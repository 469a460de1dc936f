-- A transfer may be corrected more than once: a number first, then the name behind it, then a letter of that name.
CREATE TABLE changes_of_identity (
    id INTEGER PRIMARY KEY, tid BLOB NOT NULL, from_id TEXT NOT NULL, from_issuer TEXT NOT NULL,
    to_id TEXT NOT NULL, to_issuer TEXT NOT NULL, to_name TEXT NOT NULL, to_birth_date TEXT NOT NULL,
    to_sex TEXT NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
    note TEXT NOT NULL DEFAULT '', told_at INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO changes_of_identity SELECT * FROM identity_changes;
DROP TABLE identity_changes;
ALTER TABLE changes_of_identity RENAME TO identity_changes;
CREATE INDEX identity_changes_tid ON identity_changes (tid);
