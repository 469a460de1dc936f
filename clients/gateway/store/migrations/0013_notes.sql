-- What staff noted at a transfer is read with each view of it, and the log is long.
CREATE INDEX audit_notes ON audit (subject) WHERE action = 'transfer.note';
