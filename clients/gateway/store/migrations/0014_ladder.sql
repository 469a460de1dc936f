-- What staff may decide in a patient's place. Of a peer: the types of grant that we open of it, by spaces.
ALTER TABLE peers ADD COLUMN allow TEXT NOT NULL DEFAULT '';
-- The first of two clinicians has attested; the row goes when the second has, or when it has lapsed.
CREATE TABLE attestations (tid BLOB PRIMARY KEY, by TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
-- Why staff ask again after a no.
ALTER TABLE sends ADD COLUMN again TEXT NOT NULL DEFAULT '';
