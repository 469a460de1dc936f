-- The door that a transfer is open at, and every mailbox's name that was ever used for one.
ALTER TABLE sends ADD COLUMN door TEXT NOT NULL DEFAULT 'qr';
ALTER TABLE sends ADD COLUMN voice INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sends ADD COLUMN code_exp INTEGER NOT NULL DEFAULT 0;
CREATE TABLE codes (mailbox BLOB PRIMARY KEY, tid BLOB NOT NULL, at INTEGER NOT NULL) STRICT;
INSERT INTO codes SELECT mailbox, tid, created_at FROM sends;
