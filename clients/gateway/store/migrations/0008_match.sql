-- Whose images a received study's are, as its sender says, and since when it stands here: what staff compare with.
-- sender: JSON of `receiving.claim.Claim`.
CREATE TABLE presented (tid BLOB PRIMARY KEY, sender BLOB NOT NULL, at INTEGER NOT NULL) STRICT;
-- What staff learned of a patient after the images were stored: one number and issuer is another's here.
-- state: waiting (for the hospital's systems to be told, by HL7), sent, failed. `note` says why, in our words.
CREATE TABLE identity_changes (
    id INTEGER PRIMARY KEY, tid BLOB NOT NULL UNIQUE, from_id TEXT NOT NULL, from_issuer TEXT NOT NULL,
    to_id TEXT NOT NULL, to_issuer TEXT NOT NULL, to_name TEXT NOT NULL, to_birth_date TEXT NOT NULL,
    to_sex TEXT NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
    note TEXT NOT NULL DEFAULT '', told_at INTEGER NOT NULL DEFAULT 0
) STRICT;
