-- Additions (protocol s. 7, kind add). add_seconds: for how long they may follow, counted from the offer; add_until: when
-- that ends. 0 before the offer, and the time of it where somebody closed it earlier.
ALTER TABLE sends ADD COLUMN add_seconds INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sends ADD COLUMN add_until INTEGER NOT NULL DEFAULT 0;
CREATE INDEX sends_add_until ON sends (add_until) WHERE add_until>0;
-- What of its study a spool holds: the instances behind this one, and what is missing of imports behind this one.
ALTER TABLE spools ADD COLUMN after INTEGER NOT NULL DEFAULT 0;
ALTER TABLE spools ADD COLUMN after_import INTEGER NOT NULL DEFAULT 0;
-- R: the transfer that an addition was opened under; what a series is made of; reports by their titles, to know a new
-- edition of one (changed) when it comes.
ALTER TABLE receives ADD COLUMN parent BLOB;
CREATE INDEX receives_parent ON receives (parent) WHERE parent IS NOT NULL;
ALTER TABLE in_series ADD COLUMN modality TEXT NOT NULL DEFAULT '';
CREATE TABLE in_reports (
    tid BLOB NOT NULL, no INTEGER NOT NULL, sop_uid TEXT NOT NULL, hash BLOB NOT NULL, title TEXT NOT NULL,
    changed INTEGER NOT NULL, PRIMARY KEY (tid, no)
) STRICT, WITHOUT ROWID;
