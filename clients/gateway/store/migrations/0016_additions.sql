-- Additions (protocol s. 7, kind add). add_seconds: for how long they may follow, counted from the offer; add_until: when
-- that ends. 0 before the offer, and the time of it where somebody closed it earlier.
ALTER TABLE sends ADD COLUMN add_seconds INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sends ADD COLUMN add_until INTEGER NOT NULL DEFAULT 0;
-- What of its study a spool holds: the instances behind this one, and what is missing of imports behind this one.
ALTER TABLE spools ADD COLUMN after INTEGER NOT NULL DEFAULT 0;
ALTER TABLE spools ADD COLUMN after_import INTEGER NOT NULL DEFAULT 0;
