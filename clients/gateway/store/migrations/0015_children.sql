-- Child offers (protocol s. 7). parent: tid of the transfer that the person was asked about first; kind: '', divert or
-- add; alt: sites that the question names beside the destination, in hex, with blanks between.

ALTER TABLE sends ADD COLUMN parent BLOB;
ALTER TABLE sends ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE sends ADD COLUMN alt TEXT NOT NULL DEFAULT '';
CREATE INDEX sends_parent ON sends (parent) WHERE parent IS NOT NULL;
